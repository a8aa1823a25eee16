// SPDX-License-Identifier: MIT OR GPL-2.0

//! Where everything is read from.

use crate::choice::{Choice, Requirement, choose};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::heap::{self, Heap};
use crate::holders::{self, Holders};
use crate::{device, find};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The machine, as `/sys`, `/dev` and `/proc` show it. Nothing is remembered: each call reads anew.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self::at("/")
    }
}

impl System {
    /// The machine that this program runs on.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree that has `sys`, `dev`, `proc` and `etc` in it: for tests, or for the root of a
    /// container.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// All heaps, by name. None is no failure.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], if this process has too many open files to look, or no memory. So it is with
    /// all that reads the system.
    pub fn heaps(&self) -> Result<Vec<Heap>> {
        heap::all(self)
    }

    /// The heap that a handle stands for: its name, the path of its node, or of a link to that; or
    /// the name of either below `/dev/dma_heap`, such as a udev rule gives it.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchHeap`], or [`Error::NoHeaps`] if there is none at all.
    pub fn heap(&self, handle: impl AsRef<OsStr>) -> Result<Heap> {
        let handle = handle.as_ref();
        let mut heaps = self.heaps()?;
        match heap::position(self, &heaps, handle) {
            Some(found) => Ok(heaps.swap_remove(found)),
            None if heaps.is_empty() => Err(Error::NoHeaps),
            None => Err(Error::NoSuchHeap {
                name: handle.to_string_lossy().into_owned(),
                known: heaps.into_iter().map(|heap| heap.name).collect(),
            }),
        }
    }

    /// All devices that have a node of the classes drm, accel or video4linux, or links to heaps;
    /// by path.
    pub fn devices(&self) -> Result<Vec<Device>> {
        device::all(self)
    }

    /// The device that a handle stands for:
    ///
    /// - a device node, by whatever path: `/dev/video0`, `/dev/dri/card0`, `/proc/self/fd/5`,
    ///   `/dev/bus/usb/001/004`
    /// - a directory in sysfs, of a device or of its class device
    /// - a device's name: of a PCI device its address (`0000:00:02.0`, `00:02.0`), of a USB device
    ///   or interface (`1-1`, `1-1:1.0`), of any other (`vivid.0`, `1c00000.camera`)
    /// - a node's name: `video0`, `card0`
    /// - the name of a driver or of its module, if one of its devices imports buffers
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchDevice`], [`Error::NotADevice`], [`Error::Gone`], [`Error::Ambiguous`].
    pub fn device(&self, handle: impl AsRef<OsStr>) -> Result<Device> {
        find::device(self, handle.as_ref())
    }

    /// The device of an open node.
    ///
    /// # Errors
    ///
    /// As [`Self::device`].
    pub fn device_of_fd(&self, fd: impl AsFd) -> Result<Device> {
        find::device_of_fd(self, fd.as_fd())
    }

    /// Chooses among all heaps one for buffers that these devices share.
    ///
    /// # Errors
    ///
    /// [`Error::NoHeaps`]. That no heap is fit is for [`Choice::best`] to say.
    pub fn choose(&self, devices: &[Device]) -> Result<Choice> {
        self.choose_for(devices, Requirement::default())
    }

    /// The same, with what else the buffers must be.
    ///
    /// # Errors
    ///
    /// As [`Self::choose`].
    pub fn choose_for(&self, devices: &[Device], requirement: Requirement) -> Result<Choice> {
        let heaps = self.heaps()?;
        if heaps.is_empty() {
            return Err(Error::NoHeaps);
        }
        Ok(choose(&heaps, devices, requirement))
    }

    /// All dma-bufs that the caller may see, and who holds them; with `pid` those that this process
    /// holds.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchProcess`], [`Error::Io`].
    pub fn holders(&self, pid: Option<u32>) -> Result<Holders> {
        holders::look(self, pid)
    }

    /// Whether the module dmabuf_coherency is loaded.
    pub fn module_is_loaded(&self) -> bool {
        self.sys("module/dmabuf_coherency").is_dir()
    }

    /// The rules that the module follows, its parameter `links`: `driver=heap:heap`, with commas
    /// between them. It is empty if there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn rules(&self) -> Result<String> {
        let rules = attribute(&self.sys("module/dmabuf_coherency/parameters/links"))?;
        Ok(rules.unwrap_or_default())
    }

    /// Whether its architecture is x86: by default that which this program was built for.
    pub(crate) fn is_x86(&self) -> Result<bool> {
        Ok(match attribute(&self.proc("sys/kernel/arch"))? {
            Some(arch) => arch == "x86_64" || arch.ends_with("86"),
            None => cfg!(any(target_arch = "x86", target_arch = "x86_64")),
        })
    }

    /// A file below `/sys`.
    pub(crate) fn sys(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join("sys").join(path)
    }

    /// A file below `/dev`.
    pub(crate) fn dev(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join("dev").join(path)
    }

    /// A file below `/proc`.
    pub(crate) fn proc(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join("proc").join(path)
    }

    /// The name of a group.
    pub(crate) fn group(&self, id: u32) -> Result<String> {
        let groups = attribute(&self.root.join("etc/group"))?.unwrap_or_default();
        let fields = groups.lines().map(|line| line.split(':'));
        let mut named = fields.filter_map(|mut field| {
            let name = field.next()?;
            (field.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
        });
        Ok(named.next().unwrap_or_else(|| id.to_string()))
    }
}

/// What could be had of the system, `None` where there is nothing. That this process cannot look,
/// as it has no descriptor or no memory left, is another matter.
pub(crate) fn if_there<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::Io { what, cause }) => match Errno::from_io_error(&cause) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Err(Error::Io { what, cause }),
            _ => Ok(None),
        },
        result => Ok(result.ok()),
    }
}

/// The entries of a directory, sorted; none if it is not there.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = if_there(fs::read_dir(directory).map_err(Error::file(directory)))?;
    let entries = entries.into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// The entries of each of these directories.
pub(crate) fn entries_of_all(
    directories: impl IntoIterator<Item = PathBuf>,
) -> Result<Vec<PathBuf>> {
    let directories = directories.into_iter();
    let entries = directories.map(|directory| entries(&directory));
    Ok(entries.collect::<Result<Vec<_>>>()?.concat())
}

/// What stands in a file of sysfs or the like, if there is one. What is no UTF-8 is replaced.
pub(crate) fn attribute(path: &Path) -> Result<Option<String>> {
    let text = if_there(fs::read(path).map_err(Error::file(path)))?;
    Ok(text.map(|text| String::from_utf8_lossy(&text).trim().to_owned()))
}

/// The last part of a path.
pub(crate) fn base_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The last part of where a link leads, such as `driver` or `subsystem` of a device.
pub(crate) fn target_name(link: &Path) -> Option<String> {
    Some(base_name(&fs::read_link(link).ok()?))
}
