// SPDX-License-Identifier: GPL-2.0

//! Links from devices to heaps in sysfs, and the kernel's events and messages about
//! changes.

use crate::device::base_name;
use anyhow::{Context as _, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The links of one device.
#[derive(Debug, PartialEq)]
pub struct Links {
    /// The target of `dma_heap`. There is none if no heap suits the device.
    pub first: Option<String>,
    /// The content of `dma_heaps/order`.
    pub order: Vec<String>,
    /// The links in `dma_heaps`, with their targets.
    pub heaps: BTreeMap<String, PathBuf>,
}

impl Links {
    /// Reads the links of the device whose directory this is, if it has any. If they go
    /// while they are read, that counts as none.
    pub fn of(device: &Path) -> Result<Option<Self>> {
        match Self::read(device) {
            Ok(links) => Ok(Some(links)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            // The file belongs to a device that has just gone.
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(None),
            Err(error) => Err(error).with_context(|| device.display().to_string()),
        }
    }

    fn read(device: &Path) -> std::io::Result<Self> {
        let all = device.join("dma_heaps");
        let order = fs::read_to_string(all.join("order"))?;
        let first = match fs::canonicalize(device.join("dma_heap")) {
            Ok(first) => Some(base_name(&first)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut heaps = BTreeMap::new();
        for entry in fs::read_dir(&all)? {
            let entry = entry?;
            if entry.file_type()?.is_symlink() {
                heaps.insert(base_name(&entry.path()), fs::canonicalize(entry.path())?);
            }
        }
        Ok(Self {
            first,
            order: order.split_whitespace().map(str::to_owned).collect(),
            heaps,
        })
    }
}

/// Whether a heap of this name is strict: it refuses devices that do not snoop.
pub fn is_strict(heap: &str) -> bool {
    heap.ends_with("-coherent")
}

/// The directories of all devices that have a directory for links.
pub fn linked_devices() -> Result<BTreeSet<PathBuf>> {
    fn search(directory: &Path, found: &mut BTreeSet<PathBuf>) {
        // Devices come and go while we look.
        let Ok(entries) = fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() == "dma_heaps" => {
                    found.insert(directory.to_owned());
                }
                Ok(kind) if kind.is_dir() => search(&entry.path(), found),
                _ => (),
            }
        }
    }
    let mut found = BTreeSet::new();
    search(Path::new("/sys/devices"), &mut found);
    Ok(found)
}

/// The name of the driver that a device is bound to.
pub fn driver_of(device: &Path) -> Result<String> {
    let link = device.join("driver");
    let driver = fs::read_link(&link).with_context(|| link.display().to_string())?;
    Ok(base_name(&driver))
}

/// The classes whose nodes give a device links.
pub const CLASSES: [&str; 3] = ["drm", "accel", "video4linux"];

/// Whether a class device stands for a node that takes buffers. The node of a subdevice
/// does not.
fn has_node(class_device: &Path) -> bool {
    class_device.join("dev").exists() && !base_name(class_device).starts_with("v4l-subdev")
}

/// The devices behind the nodes of a class.
pub fn devices_of(class: &str) -> Result<BTreeSet<PathBuf>> {
    let Ok(entries) = fs::read_dir(Path::new("/sys/class").join(class)) else {
        return Ok(BTreeSet::new());
    };
    let mut devices = BTreeSet::new();
    for entry in entries {
        let node = entry?.path();
        if has_node(&node) {
            devices.extend(fs::canonicalize(node.join("device")));
        }
    }
    Ok(devices)
}

/// The devices behind all nodes that give them links.
pub fn devices() -> Result<BTreeSet<PathBuf>> {
    let mut devices = BTreeSet::new();
    for class in CLASSES {
        devices.append(&mut devices_of(class)?);
    }
    Ok(devices)
}

/// The class devices with nodes that stand for a device.
pub fn nodes_of(device: &Path) -> Result<Vec<PathBuf>> {
    let mut nodes = Vec::new();
    for class in CLASSES {
        let Ok(entries) = fs::read_dir(device.join(class)) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if has_node(&path) {
                nodes.push(path);
            }
        }
    }
    Ok(nodes)
}

/// The kernel's events about devices, as udev hears them.
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Listens from now on.
    pub fn listen() -> Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::KOBJECT_UEVENT),
        )
        .context("a socket for uevents")?;
        // Group 1 is the kernel's own.
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1))
            .context("listening to uevents")?;
        Ok(Self { socket })
    }

    /// The headers of all events since the last call: `change@/devices/...`.
    pub fn drain(&self) -> Result<Vec<String>> {
        let events = self.drain_whole()?.into_iter();
        let header = |event: String| event.split('\0').next().map(str::to_owned);
        Ok(events.filter_map(header).collect())
    }

    /// All events since the last call: strings that end with NUL bytes.
    pub fn drain_whole(&self) -> Result<Vec<String>> {
        let mut events = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((len, _)) => events.push(String::from_utf8_lossy(&buffer[..len]).into_owned()),
                Err(Errno::AGAIN) => return Ok(events),
                // Some events were lost, as nobody read them in time. Later ones follow.
                Err(Errno::NOBUFS) => (),
                Err(errno) => return Err(errno).context("reading uevents"),
            }
        }
    }
}

/// The kernel's log.
pub struct KernelLog {
    file: OwnedFd,
}

impl KernelLog {
    /// Opens the log. It starts with the oldest message that the kernel still has.
    pub fn open() -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).context("/dev/kmsg")?;
        Ok(Self { file })
    }

    pub fn follow() -> Result<Self> {
        let log = Self::open()?;
        rustix::fs::seek(&log.file, SeekFrom::End(0))?;
        Ok(log)
    }

    /// The messages since the last call, without their prefix.
    pub fn lines(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match rustix::io::read(&self.file, &mut buffer) {
                Ok(len) => {
                    let record = String::from_utf8_lossy(&buffer[..len]);
                    let message = record.split_once(';').map_or("", |(_, message)| message);
                    lines.extend(message.lines().next().map(str::to_owned));
                }
                Err(Errno::AGAIN) => return Ok(lines),
                Err(Errno::PIPE) => (),
                Err(errno) => return Err(errno).context("reading /dev/kmsg"),
            }
        }
    }
}
