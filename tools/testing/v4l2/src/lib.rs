// SPDX-License-Identifier: GPL-2.0

//! The part of V4L2 that our tests use: video that is captured or converted
//! frame by frame, in one plane, into buffers of the driver or into dma-bufs.

mod uapi;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// How many seconds a frame may take. Only something broken takes so long.
const PATIENCE: i64 = 10;

/// A pixel format, by its four letters.
pub const fn fourcc(letters: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*letters)
}

/// The nodes that there are, in the order in which they were made.
pub fn nodes() -> io::Result<Vec<PathBuf>> {
    let mut nodes = Vec::new();
    for entry in fs::read_dir("/dev")? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("video"));
        if let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) {
            nodes.push((number, entry.path()));
        }
    }
    nodes.sort();
    Ok(nodes.into_iter().map(|(_, node)| node).collect())
}

/// Whose memory frames are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Memory {
    /// The driver's.
    Mmap = 1,
    /// That of dma-bufs.
    DmaBuf = 4,
}

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Direction {
    /// From the device.
    Capture = 1,
    /// To the device.
    Output = 2,
}

/// How a frame lies in memory: `struct v4l2_pix_format`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PixelFormat {
    /// In pixels.
    pub width: u32,
    /// In rows.
    pub height: u32,
    /// See [`fourcc()`].
    pub fourcc: u32,
    /// The order of half-frames; 0 leaves it to the driver.
    pub field: u32,
    /// From the start of a row to that of the next one.
    pub bytes_per_line: u32,
    /// Of a frame, in bytes.
    pub size: u32,
    rest: [u32; 6],
}

/// A frame that the device has finished.
#[derive(Debug)]
pub struct Frame {
    /// Which of the queued buffers it is in.
    pub index: u32,
    /// How long it is.
    pub bytes_used: usize,
}

/// An open video node, and one of its queues.
pub struct Video {
    fd: OwnedFd,
    memory: Memory,
    direction: Direction,
}

impl AsFd for Video {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Video {
    /// Opens a node, to get frames from it.
    pub fn open(node: &Path, memory: Memory) -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Self {
            fd: rustix::fs::open(node, flags, Mode::empty())?,
            memory,
            direction: Direction::Capture,
        })
    }

    /// The other queue of a converter: the one that takes frames.
    pub fn input(&self) -> Result<Self, Errno> {
        Ok(Self {
            fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?,
            memory: self.memory,
            direction: Direction::Output,
        })
    }

    fn call<const OPCODE: Opcode, T>(&self, argument: &mut T) -> Result<(), Errno> {
        // SAFETY: Only used with the opcodes and their types of `uapi.rs`, none
        // of which makes the kernel write elsewhere.
        unsafe { rustix::ioctl::ioctl(self, Updater::<OPCODE, T>::new(argument)) }
    }

    /// The driver's name, if this node captures video frame by frame; ENODEV
    /// once the device is gone.
    pub fn capture_driver(&self) -> Result<Option<String>, Errno> {
        self.driver_that_can(uapi::CAP_VIDEO_CAPTURE)
    }

    /// The driver's name, if this node converts video frame by frame.
    pub fn converter_driver(&self) -> Result<Option<String>, Errno> {
        self.driver_that_can(uapi::CAP_VIDEO_M2M)
    }

    fn driver_that_can(&self, capability: u32) -> Result<Option<String>, Errno> {
        let mut caps = uapi::Capability::default();
        self.call::<{ uapi::QUERYCAP }, _>(&mut caps)?;
        let needed = capability | uapi::CAP_STREAMING;
        let name = caps.driver.split(|byte| *byte == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        Ok((caps.device_caps & needed == needed).then_some(name))
    }

    /// Asks for a format; returns the one that the driver has chosen.
    pub fn set_format(&self, width: u32, height: u32, fourcc: u32) -> Result<PixelFormat, Errno> {
        let mut format = uapi::Format {
            direction: self.direction as u32,
            pad: 0,
            pixels: PixelFormat::default(),
            rest: [0; 152],
        };
        self.call::<{ uapi::G_FMT }, _>(&mut format)?;
        format.pixels = PixelFormat {
            width,
            height,
            fourcc,
            ..PixelFormat::default()
        };
        self.call::<{ uapi::S_FMT }, _>(&mut format)?;
        Ok(format.pixels)
    }

    /// Makes buffers, or room for dma-bufs; returns how many. 0 lets go of all
    /// of them.
    pub fn request_buffers(&self, count: u32) -> Result<u32, Errno> {
        let mut request = uapi::RequestBuffers {
            count,
            direction: self.direction as u32,
            memory: self.memory as u32,
            ..uapi::RequestBuffers::default()
        };
        self.call::<{ uapi::REQBUFS }, _>(&mut request)?;
        Ok(request.count)
    }

    fn buffer(&self, index: u32) -> uapi::Buffer {
        uapi::Buffer {
            index,
            direction: self.direction as u32,
            memory: self.memory as u32,
            ..uapi::Buffer::default()
        }
    }

    /// Where a buffer of the driver can be mapped, and how long it is.
    pub fn query(&self, index: u32) -> Result<(u64, usize), Errno> {
        let mut buffer = self.buffer(index);
        self.call::<{ uapi::QUERYBUF }, _>(&mut buffer)?;
        Ok((buffer.place.into(), buffer.length as usize))
    }

    /// Hands the device a buffer of the driver.
    pub fn queue_own(&self, index: u32) -> Result<(), Errno> {
        self.call::<{ uapi::QBUF }, _>(&mut self.buffer(index))
    }

    /// Hands the device a dma-buf to fill.
    pub fn queue(&self, index: u32, buffer: impl AsFd) -> Result<(), Errno> {
        self.queue_as(index, buffer, 0)
    }

    /// Hands the device a dma-buf, and says how long the buffer is, and the
    /// frame in it if it goes to the device; 0 lets the kernel look.
    pub fn queue_as(&self, index: u32, buffer: impl AsFd, length: u32) -> Result<(), Errno> {
        self.call::<{ uapi::QBUF }, _>(&mut uapi::Buffer {
            place: buffer.as_fd().as_raw_fd() as u32,
            bytes_used: length,
            length,
            ..self.buffer(index)
        })
    }

    /// Waits for a frame; ETIMEDOUT after some seconds without one, EIO if the
    /// driver says that something is wrong with it.
    pub fn dequeue(&self) -> Result<Frame, Errno> {
        let limit = Timespec {
            tv_sec: PATIENCE,
            tv_nsec: 0,
        };
        let ready = match self.direction {
            Direction::Capture => PollFlags::IN,
            Direction::Output => PollFlags::OUT,
        };
        if rustix::event::poll(&mut [PollFd::new(&self.fd, ready)], Some(&limit))? == 0 {
            return Err(Errno::TIMEDOUT);
        }
        let mut buffer = self.buffer(0);
        self.call::<{ uapi::DQBUF }, _>(&mut buffer)?;
        if buffer.flags & uapi::BUF_FLAG_ERROR != 0 {
            return Err(Errno::IO);
        }
        Ok(Frame {
            index: buffer.index,
            bytes_used: buffer.bytes_used as usize,
        })
    }

    /// Starts the stream.
    pub fn start(&self) -> Result<(), Errno> {
        self.call::<{ uapi::STREAMON }, _>(&mut (self.direction as i32))
    }

    /// Stops the stream, and takes all buffers back from the device.
    pub fn stop(&self) -> Result<(), Errno> {
        self.call::<{ uapi::STREAMOFF }, _>(&mut (self.direction as i32))
    }
}
