// SPDX-License-Identifier: GPL-2.0

//! busybox, the user space of guests: Debian's static one.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{
    arch::Arch,
    cache::Item,
    debian::{self, Apt},
};

/// busybox for an architecture in the cache.
pub(crate) fn item(arch: Arch) -> Result<Item> {
    Item::new("busybox", arch.name())
}

/// Gets busybox for an architecture, and returns its path.
pub(crate) fn get(arch: Arch) -> Result<PathBuf> {
    let item = item(arch)?;
    let binary = item.path().join("bin/busybox");
    item.make(|directory| {
        if binary.exists() {
            return Ok(());
        }
        if !debian::is_host() {
            bail!(
                "guests need busybox: put a static one for {arch} at {}",
                binary.display()
            );
        }
        let apt = Apt::stable(arch)?;
        let version = apt
            .newest("busybox-static", "")?
            .context("Debian has no busybox-static")?;
        apt.unpack("busybox-static", &version, directory)?;
        Ok(())
    })?;
    // The package has its file below /usr/bin if /bin is merged into it.
    let merged = item.path().join("usr/bin/busybox");
    Ok(if binary.exists() { binary } else { merged })
}
