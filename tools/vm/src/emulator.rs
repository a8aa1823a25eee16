// SPDX-License-Identifier: GPL-2.0

//! A QEMU for arm64 whose plugins can read registers and stored values. It is this
//! machine's own if that is new enough, or else that of Debian's backports in the cache.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    arch::Arch,
    cache::Item,
    debian::{self, Apt},
    source::numbers,
    toolchain::{output, rustc_release},
};

/// The first version of QEMU with such plugins.
const VERSION: u64 = 10;

/// The emulator, and the files that it loads, which must be of the same version.
const PACKAGES: [&str; 3] = ["qemu-system-arm", "qemu-system-common", "qemu-system-data"];

/// The first version of Rust that builds the plugins.
const RUST: [u64; 2] = [1, 88];

/// Why guests cannot have plugins on this machine, if they cannot.
pub fn no_plugins() -> Option<String> {
    no_emulator().or_else(|| {
        let rustc = rustc_release().unwrap_or_default();
        let [major, minor] = RUST;
        (numbers(&rustc) < RUST.to_vec()).then(|| {
            format!("plugins need Rust {major}.{minor}, and this is {rustc}: install a newer one")
        })
    })
}

/// Why there is no such emulator, if there is none.
fn no_emulator() -> Option<String> {
    (!is_own() && !debian::is_bookworm()).then(|| {
        format!("plugins need QEMU {VERSION}: install it, as it can be fetched for Debian 12 only")
    })
}

/// The command that emulates arm64.
pub(crate) fn command() -> Result<Command> {
    if is_own() {
        return Ok(Command::new(Arch::Arm64.qemu()));
    }
    if let Some(reason) = no_emulator() {
        bail!("{reason}");
    }
    let root = unpacked()?;
    let mut command = Command::new(root.join("usr/bin").join(Arch::Arm64.qemu()));
    // Otherwise it would load the modules of this machine's QEMU, which are too old.
    command.env(
        "QEMU_MODULE_DIR",
        root.join("usr/lib/x86_64-linux-gnu/qemu"),
    );
    command.arg("-L").arg(root.join("usr/share/qemu"));
    Ok(command)
}

/// Whether this machine's own QEMU is new enough.
fn is_own() -> bool {
    // "QEMU emulator version 10.0.2 (Debian ...)".
    let said = output(Command::new(Arch::Arm64.qemu()).arg("--version")).unwrap_or_default();
    numbers(&said)
        .first()
        .is_some_and(|&major| major >= VERSION)
}

/// Fetches QEMU from Debian's backports, and returns its directory. Debian 12 has the
/// libraries that it loads.
fn unpacked() -> Result<PathBuf> {
    let item = Item::new("qemu", "bookworm-backports")?;
    item.make(|directory| {
        let apt = Apt::bookworm_backports()?;
        for package in PACKAGES {
            let version = apt.newest(package, &format!("1:{VERSION}."))?;
            let version = version.with_context(|| {
                format!("Debian's backports have no {package} {VERSION}: install QEMU by hand")
            })?;
            apt.unpack(package, &version, directory)?;
        }
        Ok(())
    })?;
    Ok(item.path().to_owned())
}
