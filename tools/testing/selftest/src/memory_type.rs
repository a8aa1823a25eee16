// SPDX-License-Identifier: GPL-2.0

//! The memory type of mappings. The test module `dmabuf_memtype` reads it from page
//! tables.
//!
//! Numbers and structures are those of `tools/testing/modules/dmabuf_memtype.h`.

use crate::expect::{outcome, skip};
use crate::heap::Buffer;
use crate::ioctl;
use anyhow::{Result, bail};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

const NODE: &str = "/dev/dmabuf_memtype";

const USER: Opcode = opcode::read_write::<Query>(0xf6, 0);
const FRAME: Opcode = opcode::read_write::<Query>(0xf6, 1);
const VMAP: Opcode = opcode::read_write::<Query>(0xf6, 2);

/// `struct dmabuf_memtype_query`.
#[repr(C)]
#[derive(Default)]
struct Query {
    location: u64,
    frame: u64,
    fd: i32,
    kind: u32,
}

const _: () = assert!(size_of::<Query>() == 24);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MemoryType {
    WriteBack,
    WriteCombining,
    Other,
}

impl Query {
    fn memory_type(&self) -> MemoryType {
        match self.kind {
            0 => MemoryType::WriteBack,
            1 => MemoryType::WriteCombining,
            _ => MemoryType::Other,
        }
    }
}

/// The module that looks into page tables.
pub struct PageTables(OwnedFd);

impl PageTables {
    /// Skips the test if the module is not loaded.
    pub fn open() -> Result<Self> {
        match rustix::fs::open(NODE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            Err(Errno::NOENT) => skip(format!("no {NODE}: load the module dmabuf_memtype")),
            Err(errno) => bail!("opening {NODE}: {}", outcome::<()>(&Err(errno))),
        }
    }

    fn ask<const OPCODE: Opcode>(&self, mut query: Query) -> Result<Query, Errno> {
        // SAFETY: The argument is of the type that all ioctls of this form are for.
        unsafe { ioctl::update::<OPCODE, _>(&self.0, &mut query)? };
        Ok(query)
    }

    /// The page frame that this process has mapped at an address, and its memory type.
    pub fn user(&self, address: usize) -> Result<(u64, MemoryType), Errno> {
        let location = address as u64;
        let query = self.ask::<USER>(Query {
            location,
            ..Query::default()
        })?;
        Ok((query.frame, query.memory_type()))
    }

    /// The memory type of a page frame in the kernel's direct mapping.
    pub fn direct(&self, frame: u64) -> Result<MemoryType, Errno> {
        let location = frame;
        let query = self.ask::<FRAME>(Query {
            location,
            ..Query::default()
        })?;
        Ok(query.memory_type())
    }

    /// The memory type of the kernel's vmap of a buffer, at an offset.
    pub fn vmap(&self, buffer: &Buffer, offset: usize) -> Result<MemoryType, Errno> {
        let query = self.ask::<VMAP>(Query {
            location: offset as u64,
            fd: buffer.as_fd().as_raw_fd(),
            ..Query::default()
        })?;
        Ok(query.memory_type())
    }
}
