// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading modules of the kernel.

use anyhow::{Context as _, Result, ensure};
use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Loads a module and those that it needs. Parameters have an effect only if it is not loaded yet.
pub fn modprobe(module: &str, parameters: &[String]) -> Result<()> {
    let status = Command::new("modprobe")
        .arg(module)
        .args(parameters)
        .status()
        .context("modprobe")?;
    ensure!(status.success(), "modprobe {module}: {status}");
    Ok(())
}

/// Unloads a module. It must not be in use.
pub fn rmmod(module: &str) -> Result<()> {
    let name = CString::new(module)?;
    rustix::system::delete_module(&name, libc::O_NONBLOCK)
        .with_context(|| format!("unloading {module}"))
}

pub fn loaded(module: &str) -> bool {
    Path::new("/sys/module")
        .join(module)
        .join("refcnt")
        .exists()
}

/// Whether a module is loaded that no other module needs.
pub fn unneeded(module: &str) -> bool {
    let holders = Path::new("/sys/module").join(module).join("holders");
    loaded(module) && fs::read_dir(holders).is_ok_and(|mut holders| holders.next().is_none())
}

/// Whether the kernel delays the release of objects, as a debug kernel does. Then it may free a module
/// before an object that is part of the module or calls it, such as a device of V4L2, or objects of
/// dummy_hcd and usbcore.
pub fn releases_late() -> bool {
    let config = Command::new("zcat").arg("/proc/config.gz").output();
    config.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).contains("CONFIG_DEBUG_KOBJECT_RELEASE=y")
    })
}
