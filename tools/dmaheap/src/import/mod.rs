// SPDX-License-Identifier: MIT OR GPL-2.0

//! Importing a buffer for real: what the kernel says to it, whatever the links say.

mod drm;
mod udmabuf;
mod video;

use crate::buffer::{Allocator, Buffer, Request};
use crate::error::{Error, Result};
use crate::holders::Held;
use crate::system::attribute;
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, fstat, major};
use rustix::io::Errno;
use std::path::Path;
use std::time::Duration;
use video::Video;

/// What came of importing a buffer by a node of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trial {
    /// The size of the buffer.
    pub size: usize,
    /// What the kernel refused; `None` if it did all that was asked.
    pub refusal: Option<Refusal>,
    /// How many frames the device has captured.
    pub frames: u32,
    /// Whether a framebuffer was made of it.
    pub framebuffer: bool,
    /// Whether the kernel holds the buffer for ever: videobuf2 of Linux 7.3 forgets a buffer that its
    /// device cannot be attached to. It comes back with the next boot.
    pub lost: bool,
}

/// A call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub call: Call,
    /// How, by the number of the errno.
    pub errno: i32,
}

/// What is asked of a device, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Call {
    /// DRM: import a buffer (`DRM_IOCTL_PRIME_FD_TO_HANDLE`).
    Prime,
    /// V4L2: room for dma-bufs (`VIDIOC_REQBUFS`).
    RequestBuffers,
    /// V4L2: import a buffer (`VIDIOC_QBUF`).
    Queue,
    /// DRM: make a framebuffer of it (`DRM_IOCTL_MODE_ADDFB2`).
    Framebuffer,
    /// V4L2: start to capture (`VIDIOC_STREAMON`).
    Start,
    /// V4L2: give a frame back (`VIDIOC_DQBUF`).
    Dequeue,
}

impl Call {
    /// What the kernel's documentation calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prime => "PRIME import",
            Self::RequestBuffers => "VIDIOC_REQBUFS",
            Self::Queue => "VIDIOC_QBUF",
            Self::Framebuffer => "ADDFB2",
            Self::Start => "VIDIOC_STREAMON",
            Self::Dequeue => "VIDIOC_DQBUF",
        }
    }

    /// Whether it comes after the import. It may fail for reasons that have nothing to do with the
    /// buffer's memory: a camera without a signal, a format.
    pub fn is_after_import(self) -> bool {
        self > Self::Queue
    }
}

impl Refusal {
    /// A closure for `map_err`.
    fn of(call: Call) -> impl FnOnce(Errno) -> Self {
        move |errno| Self {
            call,
            errno: errno.raw_os_error(),
        }
    }
}

/// Imports a new buffer by the node of a device, and lets go of it again: into DRM and accelerator
/// nodes by PRIME, and makes a framebuffer of it if the node is a display's; into video nodes by
/// `VIDIOC_QBUF`, and captures as many frames into it if the node is a camera's. The formats that
/// are set stay as they are.
///
/// The buffer has at least `size` bytes, and as many as a frame takes.
///
/// # Errors
///
/// [`Error::CannotTry`], and [`Error::Io`] where the node may not be opened or is in use: nothing was
/// asked. Of the heap: [`Error::NoMemory`].
pub fn try_import(
    node: impl AsRef<Path>,
    heap: &Allocator,
    size: u64,
    frames: u32,
) -> Result<Trial> {
    let node = Node::open(node.as_ref())?;
    let size = size.max(node.least_size());
    let buffer = heap.alloc(&Request::new(size).name("dmaheap try"))?;
    let mut progress = Progress::default();
    let refusal = node.import(&buffer, heap, frames, &mut progress)?.err();
    Ok(Trial {
        size: buffer.size(),
        refusal,
        frames: progress.frames,
        framebuffer: progress.framebuffer,
        lost: references(&buffer)? > 1,
    })
}

/// Whether a device takes a buffer in several physical pieces, by one of its nodes; `None` if that
/// cannot be tried, or if the node refuses buffers for another reason. It tries two of udmabuf, which
/// may have the pages of a file in any order: with its halves in one order and in the other. If one of
/// these is in one piece, then the other is not. Of a device that refuses all buffers of others, it
/// says no as well.
///
/// # Errors
///
/// As [`try_import()`], but for those of a heap.
pub fn takes_pieces(node: impl AsRef<Path>) -> Result<Option<bool>> {
    let path = node.as_ref();
    for order in [[0, 1], [1, 0]] {
        let node = Node::open(path)?;
        let Ok(buffer) = udmabuf::create(node.least_size(), order) else {
            return Ok(None);
        };
        match node.import_once(&buffer) {
            Ok(_) => (),
            Err(refusal) => {
                let errno = Errno::from_raw_os_error(refusal.errno);
                return Ok(matches!(errno, Errno::FAULT | Errno::INVAL).then_some(false));
            }
        }
    }
    Ok(Some(true))
}

/// How long the import by a node takes, without what comes before or after: `PRIME import` or
/// `VIDIOC_QBUF`.
///
/// # Errors
///
/// [`Error::CannotTry`], also if a frame does not fit into the buffer; [`Error::Io`].
pub fn time_import(node: impl AsRef<Path>, buffer: &Buffer) -> Result<Duration> {
    let path = node.as_ref();
    let node = Node::open(path)?;
    if node.least_size() > buffer.size() as u64 {
        return Err(Error::CannotTry {
            node: path.into(),
            why: "a frame does not fit into the buffer",
        });
    }
    node.import_once(buffer).map_err(|refusal| {
        let errno = Errno::from_raw_os_error(refusal.errno);
        Error::io(format!("{}: {}", path.display(), refusal.call.as_str()))(errno)
    })
}

/// How far it went.
#[derive(Default)]
struct Progress {
    frames: u32,
    framebuffer: bool,
}

/// An open node. The kernel lets go of all that was imported when it is closed.
enum Node {
    Drm(OwnedFd),
    Video(Video),
}

/// Character devices by number, as the kernel's `admin-guide/devices` has them.
const VIDEO_MAJOR: u32 = 81;
const DRM_MAJOR: u32 = 226;
const ACCEL_MAJOR: u32 = 261;

impl Node {
    fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(Error::file(path))?;
        let stat = fstat(&fd).map_err(Error::file(path))?;
        match major(stat.st_rdev) {
            VIDEO_MAJOR => Ok(Self::Video(Video::new(path, fd)?)),
            DRM_MAJOR | ACCEL_MAJOR => Ok(Self::Drm(fd)),
            _ => Err(Error::CannotTry {
                node: path.into(),
                why: "it is no video, display or accelerator node",
            }),
        }
    }

    /// The least that a buffer must have.
    fn least_size(&self) -> u64 {
        match self {
            Self::Drm(_) => 0,
            Self::Video(video) => video.least_size(),
        }
    }

    /// Imports the buffer and no more, until the node is closed; says how long that takes, without what
    /// comes before.
    fn import_once(&self, buffer: &Buffer) -> std::result::Result<Duration, Refusal> {
        match self {
            Self::Drm(fd) => drm::import_once(fd, buffer),
            Self::Video(video) => video.import_once(buffer),
        }
    }

    /// Imports the buffer until it returns. Other buffers that the device may need are from `heap`.
    fn import(
        self,
        buffer: &Buffer,
        heap: &Allocator,
        frames: u32,
        progress: &mut Progress,
    ) -> Result<std::result::Result<(), Refusal>> {
        match self {
            Self::Drm(fd) => Ok(drm::import(&fd, buffer, progress)),
            Self::Video(video) => video.import(buffer, heap, frames, progress),
        }
    }
}

/// How many references to a buffer there are.
fn references(buffer: &Buffer) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", buffer.as_fd().as_raw_fd());
    let text = attribute(Path::new(&path))?.unwrap_or_default();
    let mut held = Held::default();
    held.add_fdinfo(&text);
    Ok(held.references.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::Call;

    #[test]
    fn what_comes_after_the_import_is_told_apart() {
        for call in [Call::Prime, Call::RequestBuffers, Call::Queue] {
            assert!(!call.is_after_import(), "{call:?}");
        }
        for call in [Call::Framebuffer, Call::Start, Call::Dequeue] {
            assert!(call.is_after_import(), "{call:?}");
        }
    }
}
