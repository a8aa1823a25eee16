// SPDX-License-Identifier: GPL-2.0

//! DRM devices as importers: PRIME import and GEM close.

use crate::device::{Device, base_name};
use crate::heap::Buffer;
use crate::importer::{Frame, Imported, Importer};
use anyhow::{Context as _, Result};
use drm::Device as _;
use drm::buffer::{DrmFourcc, DrmModifier, Handle, PlanarBuffer};
use drm::control::{Device as _, FbCmd2Flags};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const CLASS: &str = "/sys/class/drm";

/// An open DRM node.
pub struct Card {
    file: File,
    node: PathBuf,
    device: Device,
}

impl Card {
    /// Opens one node of each DRM device.
    pub fn all() -> Result<Vec<Self>> {
        Self::names()?.iter().map(|name| Self::open(name)).collect()
    }

    /// The name of one node of each DRM device. It is the primary node if there is one.
    pub fn names() -> Result<Vec<String>> {
        let Ok(entries) = fs::read_dir(CLASS) else {
            return Ok(Vec::new());
        };
        let mut nodes = BTreeMap::new();
        for entry in entries {
            let class_device = entry?.path();
            let name = base_name(&class_device);
            let is_node = class_device.join("dev").exists();
            if is_node && (name.starts_with("card") || name.starts_with("renderD")) {
                let parent = fs::canonicalize(class_device.join("device"))?;
                // "card0" comes before "renderD128".
                let best = nodes.entry(parent).or_insert_with(|| name.clone());
                *best = name.min(best.clone());
            }
        }
        Ok(nodes.into_values().collect())
    }

    pub fn open(name: &str) -> Result<Self> {
        let node = Path::new("/dev/dri").join(name);
        let what = || node.display().to_string();
        let file = File::options()
            .read(true)
            .write(true)
            .open(&node)
            .with_context(what)?;
        let driver = Opened(&file).get_driver().with_context(what)?;
        let driver = driver.name().to_string_lossy().into_owned();
        let device = Device::behind(&Path::new(CLASS).join(name), driver)?;
        Ok(Self { file, node, device })
    }

    /// Opens the same device again. The new file has its own handles.
    pub fn reopen(&self) -> Result<Self> {
        Self::open(&base_name(&self.node))
    }

    /// Imports `fd`, whatever it is.
    pub fn prime(&self, fd: BorrowedFd<'_>) -> Result<ImportedHandle<'_>, Errno> {
        let handle = self.handle(fd)?;
        Ok(ImportedHandle { card: self, handle })
    }

    /// Imports `fd` until the handle or the node is closed.
    pub fn handle(&self, fd: BorrowedFd<'_>) -> Result<Handle, Errno> {
        self.prime_fd_to_buffer(fd).map_err(errno)
    }

    pub fn close(&self, handle: Handle) -> Result<(), Errno> {
        self.close_buffer(handle).map_err(errno)
    }

    /// The buffer behind a handle.
    pub fn export(&self, handle: Handle) -> Result<Buffer, Errno> {
        let fd = self
            .buffer_to_prime_fd(handle, OFlags::RDWR.bits())
            .map_err(errno)?;
        Buffer::from_fd(fd)
    }
}

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

/// A node of which only the descriptor is known so far.
struct Opened<'a>(&'a File);

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Opened<'_> {}

impl Importer for Card {
    fn device(&self) -> &Device {
        &self.device
    }

    fn node(&self) -> &Path {
        &self.node
    }

    fn call(&self) -> &'static str {
        "PRIME import"
    }

    fn import<'a>(&'a self, buffer: &'a Buffer) -> Result<Box<dyn Imported + 'a>, Errno> {
        Ok(Box::new(self.prime(buffer.as_fd())?))
    }
}

/// An imported buffer. Dropping this closes the handle.
pub struct ImportedHandle<'a> {
    card: &'a Card,
    pub handle: Handle,
}

impl Imported for ImportedHandle<'_> {
    /// Makes a framebuffer of it, if the driver has framebuffers.
    fn work(&self, frame: Frame) -> Result<(), Errno> {
        let surface = Surface {
            handle: self.handle,
            frame,
        };
        match self
            .card
            .add_planar_framebuffer(&surface, FbCmd2Flags::empty())
            .map_err(errno)
        {
            Ok(made) => self.card.destroy_framebuffer(made).map_err(errno),
            Err(Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// The memory of a framebuffer.
struct Surface {
    handle: Handle,
    frame: Frame,
}

impl PlanarBuffer for Surface {
    fn size(&self) -> (u32, u32) {
        (self.frame.width, self.frame.height)
    }

    fn format(&self) -> DrmFourcc {
        DrmFourcc::Xrgb8888
    }

    fn modifier(&self) -> Option<DrmModifier> {
        None
    }

    fn pitches(&self) -> [u32; 4] {
        [self.frame.pitch(), 0, 0, 0]
    }

    fn handles(&self) -> [Option<Handle>; 4] {
        [Some(self.handle), None, None, None]
    }

    fn offsets(&self) -> [u32; 4] {
        [0; 4]
    }
}

impl Drop for ImportedHandle<'_> {
    fn drop(&mut self) {
        if let Err(errno) = self.card.close(self.handle) {
            println!(
                "closing a GEM handle of {}: {errno}",
                self.card.node.display()
            );
        }
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
