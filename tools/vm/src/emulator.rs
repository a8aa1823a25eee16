// SPDX-License-Identifier: GPL-2.0

//! A QEMU for arm64 whose plugins see registers and the values that are stored: this
//! machine's own if it is new enough, or that of Debian's backports in the cache.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    arch::Arch,
    cache::Item,
    debian::{self, Apt},
    source::numbers,
    toolchain::{output, rustc_release},
};

/// The first version that has such plugins.
const VERSION: u64 = 10;

/// The emulator, and what it loads that must be as new.
const PACKAGES: [&str; 3] = ["qemu-system-arm", "qemu-system-common", "qemu-system-data"];

/// The first Rust that builds them.
const RUST: [u64; 2] = [1, 88];

/// Why guests cannot have plugins on this machine, if they cannot.
pub fn no_plugins() -> Option<String> {
    no_emulator().or_else(|| {
        let rustc = rustc_release().unwrap_or_default();
        let [major, minor] = RUST;
        (numbers(&rustc) < RUST.to_vec())
            .then(|| format!("plugins need Rust {major}.{minor} to be built, and this is {rustc}"))
    })
}

/// Why there is no such emulator, if there is none.
fn no_emulator() -> Option<String> {
    (!is_own() && !debian::is_bookworm())
        .then(|| format!("plugins need QEMU {VERSION}, which could be fetched for Debian 12 only"))
}

/// The command for machines of arm64.
pub(crate) fn command() -> Result<Command> {
    if is_own() {
        return Ok(Command::new(Arch::Arm64.qemu()));
    }
    if let Some(reason) = no_emulator() {
        bail!("{reason}");
    }
    let root = unpacked()?;
    let mut command = Command::new(root.join("usr/bin").join(Arch::Arm64.qemu()));
    // It would load this machine's modules otherwise, which are too old.
    command.env(
        "QEMU_MODULE_DIR",
        root.join("usr/lib/x86_64-linux-gnu/qemu"),
    );
    command.arg("-L").arg(root.join("usr/share/qemu"));
    Ok(command)
}

/// Whether this machine's is new enough.
fn is_own() -> bool {
    // "QEMU emulator version 10.0.2 (Debian ...)".
    let said = output(Command::new(Arch::Arm64.qemu()).arg("--version")).unwrap_or_default();
    numbers(&said)
        .first()
        .is_some_and(|&major| major >= VERSION)
}

/// Fetches Debian's, which has its libraries on Debian 12, and says where it is.
fn unpacked() -> Result<PathBuf> {
    let item = Item::new("qemu", "bookworm-backports")?;
    item.make(|directory| {
        let apt = Apt::bookworm_backports()?;
        for package in PACKAGES {
            let version = apt.newest(package, &format!("1:{VERSION}."))?;
            let version = version.with_context(|| format!("there is no {package} {VERSION}"))?;
            apt.unpack(package, &version, directory)?;
        }
        Ok(())
    })?;
    Ok(item.path().to_owned())
}
