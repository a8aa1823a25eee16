// SPDX-License-Identifier: MIT OR GPL-2.0

//! From any handle that a program has to a device.

use crate::device::{Device, NODE_CLASSES};
use crate::error::{Error, Result};
use crate::system::{System, attribute, base_name, entries, entries_of_all, target_name};
use rustix::fd::{AsRawFd as _, BorrowedFd};
use rustix::fs::{FileType, Stat, fstat, major, minor, stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// See [`System::device`].
pub(crate) fn device(system: &System, handle: &OsStr) -> Result<Device> {
    let shown = handle.to_string_lossy().into_owned();
    let path = Path::new(handle);
    if shown.contains('/') {
        by_path(system, &shown, path)
    } else {
        by_name(system, &shown)
    }
}

/// See [`System::device_of_fd`].
pub(crate) fn device_of_fd(system: &System, fd: BorrowedFd<'_>) -> Result<Device> {
    let shown = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_or_else(
        |_| "the descriptor".into(),
        |path| path.display().to_string(),
    );
    let stat = fstat(fd).map_err(Error::io(shown.clone()))?;
    by_stat(system, &shown, &stat)
}

fn by_path(system: &System, shown: &str, path: &Path) -> Result<Device> {
    let stat = match stat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Error::NoSuchDevice(shown.into())),
        // What open() says once a device is gone, and some files of sysfs.
        Err(Errno::NODEV | Errno::NXIO) => return Err(Error::Gone(shown.into())),
        Err(errno) => return Err(Error::io(shown)(errno)),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return by_stat(system, shown, &stat);
    }
    let found = fs::canonicalize(path).map_err(Error::io(shown))?;
    let devices = fs::canonicalize(system.sys("devices")).unwrap_or_default();
    if !found.starts_with(&devices) || !found.join("uevent").exists() {
        return Err(not_a_device(shown, "a directory, and not that of a device"));
    }
    settle(system, shown, found)
}

fn by_stat(system: &System, shown: &str, stat: &Stat) -> Result<Device> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => {
            let number = format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
            let found = fs::canonicalize(system.sys("dev/char").join(number));
            let found = settle(system, shown, found.map_err(|_| Error::Gone(shown.into()))?)?;
            if !found.may_import() {
                return Err(not_a_device(
                    shown,
                    "not a video, display or accelerator node",
                ));
            }
            Ok(found)
        }
        FileType::BlockDevice => Err(not_a_device(
            shown,
            "a block device, which imports no buffers",
        )),
        FileType::Directory => Err(not_a_device(shown, "a directory")),
        _ => Err(not_a_device(shown, "a file, and no device node")),
    }
}

fn by_name(system: &System, name: &str) -> Result<Device> {
    if ["", ".", ".."].contains(&name) {
        return Err(Error::NoSuchDevice(name.into()));
    }
    let settle = |paths: BTreeSet<PathBuf>| -> Result<Vec<_>> {
        let paths = paths.into_iter();
        paths.map(|path| settle(system, name, path)).collect()
    };
    let mut devices = settle(named(system, name)?)?;
    if devices.is_empty() {
        devices = settle(driven(system, name)?)?;
        // A driver may have others besides, such as the faux devices of modules.
        if devices.iter().any(Device::may_import) {
            devices.retain(Device::may_import);
        }
    }
    devices.dedup_by(|a, b| a.path == b.path);
    match devices.len() {
        0 => Err(Error::NoSuchDevice(name.into())),
        1 => Ok(devices.remove(0)),
        _ => Err(Error::Ambiguous {
            handle: name.into(),
            found: devices.into_iter().map(|device| device.name).collect(),
        }),
    }
}

/// The devices of this name on any bus, and the nodes of this name.
fn named(system: &System, name: &str) -> Result<BTreeSet<PathBuf>> {
    let buses = entries(&system.sys("bus"))?.into_iter();
    let on_buses = buses.map(|bus| bus.join("devices").join(name));
    let short_pci = system.sys("bus/pci/devices").join(format!("0000:{name}"));
    let nodes = NODE_CLASSES.map(|class| system.sys("class").join(class).join(name));
    let paths = on_buses.chain([short_pci]).chain(nodes);
    Ok(paths
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect())
}

/// The devices that are bound to the driver, or to a driver of the module, of this name.
fn driven(system: &System, name: &str) -> Result<BTreeSet<PathBuf>> {
    // A module's file may have dashes in its name, the module has not.
    let module = Some(name.replace('-', "_"));
    let buses = entries(&system.sys("bus"))?.into_iter();
    let drivers = entries_of_all(buses.map(|bus| bus.join("drivers")))?.into_iter();
    let drivers = drivers.filter(|driver| {
        base_name(driver) == name || target_name(&driver.join("module")) == module
    });
    let links = entries_of_all(drivers)?.into_iter();
    let devices = links.filter(|link| {
        link.is_symlink() && link.join("uevent").exists() && link.join("driver").exists()
    });
    Ok(devices
        .filter_map(|device| fs::canonicalize(device).ok())
        .collect())
}

/// From what was found to the device that has the links.
fn settle(system: &System, shown: &str, found: PathBuf) -> Result<Device> {
    let subsystem = target_name(&found.join("subsystem"));
    let event = attribute(&found.join("uevent"))?.unwrap_or_default();
    let candidates = match subsystem.as_deref() {
        _ if found.join("dma_heaps").exists() => vec![found],
        // Media controllers are on a bus of their own.
        Some("media") => found.parent().map(Path::to_owned).into_iter().collect(),
        // It is the PCI device, or the like, that does the DMA.
        Some("virtio") => found.parent().map(Path::to_owned).into_iter().collect(),
        // Drivers are bound to interfaces, and so are nodes.
        Some("usb") if event.lines().any(|line| line == "DEVTYPE=usb_device") => {
            interfaces(&found)?
        }
        _ => match fs::canonicalize(found.join("device")) {
            Ok(device) if found.join("dev").exists() => vec![device],
            _ => vec![found],
        },
    };
    match <[PathBuf; 1]>::try_from(candidates) {
        Ok([path]) => Device::read(system, path),
        Err(several) => Err(Error::Ambiguous {
            handle: shown.into(),
            found: several.iter().map(|path| base_name(path)).collect(),
        }),
    }
}

/// The interfaces of a USB device that have nodes, else the device itself.
fn interfaces(device: &Path) -> Result<Vec<PathBuf>> {
    let has_node = |path: &PathBuf| NODE_CLASSES.iter().any(|class| path.join(class).exists());
    let found: Vec<_> = entries(device)?.into_iter().filter(has_node).collect();
    Ok(if found.is_empty() {
        vec![device.into()]
    } else {
        found
    })
}

fn not_a_device(shown: &str, what: &'static str) -> Error {
    Error::NotADevice {
        handle: shown.into(),
        what,
    }
}
