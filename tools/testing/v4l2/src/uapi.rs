// SPDX-License-Identifier: GPL-2.0

//! Numbers and structures of the kernel's `linux/videodev2.h`, for 64-bit
//! processes.

use crate::PixelFormat;
use rustix::ioctl::{
    Opcode,
    opcode::{read, read_write, write},
};

pub const QUERYCAP: Opcode = read::<Capability>(b'V', 0);
pub const G_FMT: Opcode = read_write::<Format>(b'V', 4);
pub const S_FMT: Opcode = read_write::<Format>(b'V', 5);
pub const REQBUFS: Opcode = read_write::<RequestBuffers>(b'V', 8);
pub const QUERYBUF: Opcode = read_write::<Buffer>(b'V', 9);
pub const QBUF: Opcode = read_write::<Buffer>(b'V', 15);
pub const DQBUF: Opcode = read_write::<Buffer>(b'V', 17);
pub const STREAMON: Opcode = write::<i32>(b'V', 18);
pub const STREAMOFF: Opcode = write::<i32>(b'V', 19);

pub const CAP_VIDEO_CAPTURE: u32 = 1;
pub const CAP_VIDEO_M2M: u32 = 0x8000;
pub const CAP_STREAMING: u32 = 0x0400_0000;
pub const BUF_FLAG_ERROR: u32 = 0x40;

/// `struct v4l2_capability`
#[repr(C)]
#[derive(Default)]
pub struct Capability {
    pub driver: [u8; 16],
    pub card: [u8; 32],
    pub bus_info: [u8; 32],
    pub version: u32,
    pub capabilities: u32,
    pub device_caps: u32,
    pub reserved: [u32; 3],
}

/// `struct v4l2_format` with the `struct v4l2_pix_format` of its union
#[repr(C, align(8))]
pub struct Format {
    pub direction: u32,
    pub pad: u32,
    pub pixels: PixelFormat,
    pub rest: [u8; 152],
}

/// `struct v4l2_requestbuffers`
#[repr(C)]
#[derive(Default)]
pub struct RequestBuffers {
    pub count: u32,
    pub direction: u32,
    pub memory: u32,
    pub capabilities: u32,
    pub flags: u32,
}

/// `struct v4l2_buffer`
#[repr(C)]
#[derive(Default)]
pub struct Buffer {
    pub index: u32,
    pub direction: u32,
    pub bytes_used: u32,
    pub flags: u32,
    pub field: u32,
    pub timestamp: [i64; 2],
    pub timecode: [u32; 4],
    pub sequence: u32,
    pub memory: u32,
    /// The first half of a union: where to map the buffer, or its descriptor.
    pub place: u32,
    pub place_rest: u32,
    pub length: u32,
    pub reserved: u32,
    pub request_fd: i32,
}

const _: () = {
    assert!(size_of::<Capability>() == 104);
    assert!(size_of::<PixelFormat>() == 48);
    assert!(size_of::<Format>() == 208);
    assert!(size_of::<RequestBuffers>() == 20);
    assert!(size_of::<Buffer>() == 88);
    assert!(std::mem::offset_of!(Buffer, timestamp) == 24);
    assert!(std::mem::offset_of!(Buffer, place) == 64);
    assert!(std::mem::offset_of!(Buffer, length) == 72);
};
