// SPDX-License-Identifier: GPL-2.0

//! `/dev/dmabuf_coherency`, as `linux/dmabuf_coherency.h` describes it.

use crate::ioctl;
use anyhow::{Context as _, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};
use std::ffi::CStr;
use std::ops::Range;

const NODE: &str = "/dev/dmabuf_coherency";
/// `DMABUF_COHERENCY_IOCTL_QUERY`.
pub const QUERY: Opcode = opcode::none(0xd7, 0);

/// `struct dmabuf_coherency_query`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Query {
    pub size: u32,
    pub fd: i32,
    pub flags: u32,
    pub cpu_mapping: u32,
    pub properties: u64,
    pub reserved: u64,
    pub heap: [u8; 64],
}

const _: () = assert!(size_of::<Query>() == 96);

/// The value of each byte that the kernel has to fill in, before the call.
const JUNK: u8 = 0xa5;

impl Query {
    pub fn about(fd: i32) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            fd,
            flags: 0,
            cpu_mapping: u32::from_ne_bytes([JUNK; 4]),
            properties: u64::from_ne_bytes([JUNK; 8]),
            reserved: u64::from_ne_bytes([JUNK; 8]),
            heap: [JUNK; 64],
        }
    }

    pub fn answer(mut self, node: &OwnedFd) -> Result<Self, Errno> {
        assert!(self.size as usize <= size_of::<Self>());
        // SAFETY: The kernel writes no more than `size` bytes, which are this value's.
        unsafe { ioctl::at_address(node, QUERY, (&raw mut self).expose_provenance())? };
        Ok(self)
    }

    pub fn heap(&self) -> Result<&str> {
        let name = CStr::from_bytes_until_nul(&self.heap).context("a name that does not end")?;
        Ok(name.to_str()?)
    }
}

/// `DMABUF_COHERENCY_IOCTL_SYNC`.
pub const SYNC: Opcode = opcode::none(0xd7, 1);

/// `struct dmabuf_coherency_sync`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sync {
    pub size: u32,
    pub fd: i32,
    pub flags: u64,
    pub offset: u64,
    pub length: u64,
}

const _: () = assert!(size_of::<Sync>() == 32);

impl Sync {
    /// One half of a bracket around access to a part of a buffer.
    pub fn of(fd: i32, flags: u32, part: &Range<usize>) -> Self {
        Self {
            size: size_of::<Self>() as u32,
            fd,
            flags: flags.into(),
            offset: part.start as u64,
            length: (part.end - part.start) as u64,
        }
    }

    pub fn call(mut self, node: &OwnedFd) -> Result<(), Errno> {
        // SAFETY: The kernel reads no more than `size` bytes, which are this value's.
        unsafe { ioctl::at_address(node, SYNC, (&raw mut self).expose_provenance()) }
    }
}

/// Opens the node.
pub fn open() -> Result<OwnedFd> {
    rustix::fs::open(NODE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(NODE)
}
