// SPDX-License-Identifier: GPL-2.0

//! The part of V4L2 that captures video.
//!
//! Numbers and structures are those of `linux/videodev2.h`, for 64-bit
//! processes.

use camera::Size;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{Mode, OFlags},
    io::Errno,
    ioctl::{
        Opcode, Updater,
        opcode::{read, read_write, write},
    },
};
use std::path::Path;

const QUERYCAP: Opcode = read::<Capability>(b'V', 0);
const S_FMT: Opcode = read_write::<Format>(b'V', 5);
const REQBUFS: Opcode = read_write::<RequestBuffers>(b'V', 8);
const QUERYBUF: Opcode = read_write::<Buffer>(b'V', 9);
const QBUF: Opcode = read_write::<Buffer>(b'V', 15);
const DQBUF: Opcode = read_write::<Buffer>(b'V', 17);
const STREAMON: Opcode = write::<u32>(b'V', 18);
const STREAMOFF: Opcode = write::<u32>(b'V', 19);

const CAPTURE: u32 = 1;
const YUYV: u32 = u32::from_le_bytes(*b"YUYV");
const FLAG_ERROR: u32 = 0x40;

/// `struct v4l2_capability`
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

/// `struct v4l2_format` with the beginning of `struct v4l2_pix_format`.
#[repr(C, align(8))]
struct Format {
    kind: u32,
    pad: u32,
    width: u32,
    height: u32,
    fourcc: u32,
    field: u32,
    bytes_per_line: u32,
    size: u32,
    rest: [u8; 176],
}

/// `struct v4l2_requestbuffers`
#[repr(C)]
struct RequestBuffers {
    count: u32,
    kind: u32,
    memory: u32,
    capabilities: u32,
    flags: u32,
}

/// `struct v4l2_buffer`
#[repr(C)]
#[derive(Default)]
struct Buffer {
    index: u32,
    kind: u32,
    bytes_used: u32,
    flags: u32,
    field: u32,
    timestamp: [i64; 2],
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    /// An offset or a descriptor, by the kind of memory.
    place: u64,
    length: u32,
    reserved: u32,
    request_fd: i32,
}

const _: () = {
    assert!(size_of::<Capability>() == 104);
    assert!(size_of::<Format>() == 208);
    assert!(size_of::<RequestBuffers>() == 20);
    assert!(size_of::<Buffer>() == 88);
};

/// Whose memory frames go into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Memory {
    /// The driver's.
    Mmap = 1,
    /// That of dma-bufs.
    DmaBuf = 4,
}

/// A frame that has arrived.
#[derive(Debug)]
pub struct Frame {
    /// The buffer that it is in.
    pub index: u32,
    pub bytes: usize,
    /// How many frames the driver has seen before it.
    pub sequence: u32,
    /// Something is wrong with it, as the driver knows.
    pub is_bad: bool,
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
        // SAFETY: Only used with the opcodes above and their types, none of
        // which makes the kernel write elsewhere.
        unsafe { rustix::ioctl::ioctl(self, Updater::<OPCODE, T>::new(argument)) }
    }

    /// The name of the driver, if it can capture by this node; ENODEV once the
    /// device is gone.
    pub fn driver(&self) -> Result<Option<String>, Errno> {
        let mut capability = Capability {
            driver: [0; 16],
            card: [0; 32],
            bus_info: [0; 32],
            version: 0,
            capabilities: 0,
            device_caps: 0,
            reserved: [0; 3],
        };
        self.call::<QUERYCAP, _>(&mut capability)?;
        let name = capability.driver.split(|byte| *byte == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        Ok((capability.device_caps & CAPTURE != 0).then_some(name))
    }

    /// Asks for frames of a size; returns whether that is what will come.
    pub fn set_size(&self, size: Size) -> Result<bool, Errno> {
        let mut format = Format {
            kind: CAPTURE,
            pad: 0,
            width: size.width(),
            height: size.height(),
            fourcc: YUYV,
            field: 0,
            bytes_per_line: 0,
            size: 0,
            rest: [0; 176],
        };
        self.call::<S_FMT, _>(&mut format)?;
        Ok(format.fourcc == YUYV
            && (format.width, format.height) == (size.width(), size.height())
            && format.bytes_per_line as usize == size.row()
            && format.size as usize == size.bytes())
    }

    /// Makes buffers, or room for them; returns how many. 0 frees all of them.
    pub fn request(&self, memory: Memory, count: u32) -> Result<u32, Errno> {
        let mut request = RequestBuffers {
            count,
            kind: CAPTURE,
            memory: memory as u32,
            capabilities: 0,
            flags: 0,
        };
        self.call::<REQBUFS, _>(&mut request)?;
        Ok(request.count)
    }

    /// Where a buffer of the driver can be mapped, and how long it is.
    pub fn query(&self, index: u32) -> Result<(u64, usize), Errno> {
        let mut buffer = Buffer {
            index,
            kind: CAPTURE,
            memory: Memory::Mmap as u32,
            ..Buffer::default()
        };
        self.call::<QUERYBUF, _>(&mut buffer)?;
        Ok((buffer.place & 0xffff_ffff, buffer.length as usize))
    }

    /// Hands the driver a buffer to fill; `fd` is that of a dma-buf, or 0.
    pub fn queue(&self, memory: Memory, index: u32, fd: u32) -> Result<(), Errno> {
        self.call::<QBUF, _>(&mut Buffer {
            index,
            kind: CAPTURE,
            memory: memory as u32,
            place: fd.into(),
            ..Buffer::default()
        })
    }

    /// Waits for a frame, at most some seconds.
    pub fn dequeue(&self, memory: Memory, seconds: u32) -> Result<Frame, Errno> {
        let limit = Timespec {
            tv_sec: seconds.into(),
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&limit))? == 0 {
            return Err(Errno::TIMEDOUT);
        }
        let mut buffer = Buffer {
            kind: CAPTURE,
            memory: memory as u32,
            ..Buffer::default()
        };
        self.call::<DQBUF, _>(&mut buffer)?;
        Ok(Frame {
            index: buffer.index,
            bytes: buffer.bytes_used as usize,
            sequence: buffer.sequence,
            is_bad: buffer.flags & FLAG_ERROR != 0,
        })
    }

    pub fn start(&self) -> Result<(), Errno> {
        self.call::<STREAMON, _>(&mut { CAPTURE })
    }

    pub fn stop(&self) -> Result<(), Errno> {
        self.call::<STREAMOFF, _>(&mut { CAPTURE })
    }
}
