// SPDX-License-Identifier: GPL-2.0

//! The part of V4L2 that captures video into dma-bufs.
//!
//! Numbers and structures are those of the kernel's `linux/videodev2.h`, for
//! 64-bit processes.

use crate::heap::Buffer;
use crate::ioctl;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};
use std::path::Path;

const QUERYCAP: Opcode = opcode::read::<Capability>(b'V', 0);
const G_FMT: Opcode = opcode::read_write::<Format>(b'V', 4);
const S_FMT: Opcode = opcode::read_write::<Format>(b'V', 5);
const REQBUFS: Opcode = opcode::read_write::<RequestBuffers>(b'V', 8);
const QBUF: Opcode = opcode::read_write::<VideoBuffer>(b'V', 15);
const DQBUF: Opcode = opcode::read_write::<VideoBuffer>(b'V', 17);
const STREAMON: Opcode = opcode::write::<i32>(b'V', 18);
const STREAMOFF: Opcode = opcode::write::<i32>(b'V', 19);

const CAP_VIDEO_CAPTURE: u32 = 1;
const CAP_STREAMING: u32 = 0x0400_0000;
const BUF_TYPE_VIDEO_CAPTURE: u32 = 1;
const BUF_FLAG_ERROR: u32 = 0x40;
const MEMORY_DMABUF: u32 = 4;

/// A pixel format, by its four letters.
pub const fn fourcc(letters: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*letters)
}

/// `struct v4l2_capability`.
#[repr(C)]
struct Capability {
    driver: [u8; 16],
    card: [u8; 32],
    bus_info: [u8; 32],
    version: u32,
    capabilities: u32,
    device_caps: u32,
    reserved: [u32; 3],
}

/// `struct v4l2_format` with the `struct v4l2_pix_format` of its union.
#[repr(C, align(8))]
struct Format {
    kind: u32,
    pad: u32,
    pixels: PixelFormat,
    rest: [u8; 152],
}

/// `struct v4l2_pix_format`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PixelFormat {
    pub width: u32,
    pub height: u32,
    pub fourcc: u32,
    pub field: u32,
    pub bytes_per_line: u32,
    pub size: u32,
    rest: [u32; 6],
}

/// `struct v4l2_requestbuffers`.
#[repr(C)]
struct RequestBuffers {
    count: u32,
    kind: u32,
    memory: u32,
    capabilities: u32,
    flags: u32,
}

/// `struct v4l2_buffer`, its union holding a descriptor.
#[repr(C)]
#[derive(Default)]
struct VideoBuffer {
    index: u32,
    kind: u32,
    bytes_used: u32,
    flags: u32,
    field: u32,
    timestamp: [i64; 2],
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    fd: i32,
    union_rest: u32,
    length: u32,
    reserved: u32,
    request_fd: i32,
}

const _: () = {
    assert!(size_of::<Capability>() == 104);
    assert!(size_of::<PixelFormat>() == 48);
    assert!(size_of::<Format>() == 208);
    assert!(size_of::<RequestBuffers>() == 20);
    assert!(size_of::<VideoBuffer>() == 88);
    assert!(std::mem::offset_of!(VideoBuffer, timestamp) == 24);
    assert!(std::mem::offset_of!(VideoBuffer, fd) == 64);
    assert!(std::mem::offset_of!(VideoBuffer, length) == 72);
};

/// A frame that the device has finished.
#[derive(Debug)]
pub struct Frame {
    /// Which of the queued buffers it is in.
    pub index: u32,
    pub bytes_used: usize,
}

/// An open video node.
pub struct Video {
    fd: OwnedFd,
}

impl AsFd for Video {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Video {
    pub fn open(node: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(node, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    fn call<const OPCODE: Opcode, T>(&self, argument: &mut T) -> Result<(), Errno> {
        // SAFETY: Only used, in this file, with the opcodes above and their types.
        unsafe { ioctl::update::<OPCODE, T>(self, argument) }
    }

    /// The driver's name, if this node captures video frame by frame.
    pub fn capture_driver(&self) -> Result<Option<String>, Errno> {
        let mut caps = Capability {
            driver: [0; 16],
            card: [0; 32],
            bus_info: [0; 32],
            version: 0,
            capabilities: 0,
            device_caps: 0,
            reserved: [0; 3],
        };
        self.call::<QUERYCAP, _>(&mut caps)?;
        let needed = CAP_VIDEO_CAPTURE | CAP_STREAMING;
        let name = caps
            .driver
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        let captures = caps.device_caps & needed == needed;
        Ok(captures.then(|| String::from_utf8_lossy(name).into_owned()))
    }

    /// Asks for a format; returns the one that the driver has chosen.
    pub fn set_format(&self, width: u32, height: u32, fourcc: u32) -> Result<PixelFormat, Errno> {
        let mut format = Format {
            kind: BUF_TYPE_VIDEO_CAPTURE,
            pad: 0,
            pixels: PixelFormat::default(),
            rest: [0; 152],
        };
        self.call::<G_FMT, _>(&mut format)?;
        format.pixels = PixelFormat {
            width,
            height,
            fourcc,
            ..PixelFormat::default()
        };
        self.call::<S_FMT, _>(&mut format)?;
        Ok(format.pixels)
    }

    /// Makes room for `count` dma-bufs; 0 lets go of all of them.
    pub fn request_buffers(&self, count: u32) -> Result<u32, Errno> {
        let mut request = RequestBuffers {
            count,
            kind: BUF_TYPE_VIDEO_CAPTURE,
            memory: MEMORY_DMABUF,
            capabilities: 0,
            flags: 0,
        };
        self.call::<REQBUFS, _>(&mut request)?;
        Ok(request.count)
    }

    /// Hands the device a dma-buf to fill.
    pub fn queue(&self, index: u32, buffer: &Buffer) -> Result<(), Errno> {
        self.queue_as(index, buffer, 0)
    }

    /// The same, and says how long the buffer is; 0 lets the kernel look.
    pub fn queue_as(&self, index: u32, buffer: &Buffer, length: u32) -> Result<(), Errno> {
        self.call::<QBUF, _>(&mut VideoBuffer {
            index,
            kind: BUF_TYPE_VIDEO_CAPTURE,
            memory: MEMORY_DMABUF,
            fd: buffer.as_fd().as_raw_fd(),
            length,
            ..VideoBuffer::default()
        })
    }

    /// Waits up to five seconds for a frame.
    pub fn dequeue(&self) -> Result<Frame, Errno> {
        let limit = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&limit))? == 0 {
            return Err(Errno::TIMEDOUT);
        }
        let mut buffer = VideoBuffer {
            kind: BUF_TYPE_VIDEO_CAPTURE,
            memory: MEMORY_DMABUF,
            ..VideoBuffer::default()
        };
        self.call::<DQBUF, _>(&mut buffer)?;
        if buffer.flags & BUF_FLAG_ERROR != 0 {
            return Err(Errno::IO);
        }
        Ok(Frame {
            index: buffer.index,
            bytes_used: buffer.bytes_used as usize,
        })
    }

    pub fn start(&self) -> Result<(), Errno> {
        self.call::<STREAMON, _>(&mut (BUF_TYPE_VIDEO_CAPTURE as i32))
    }

    pub fn stop(&self) -> Result<(), Errno> {
        self.call::<STREAMOFF, _>(&mut (BUF_TYPE_VIDEO_CAPTURE as i32))
    }
}
