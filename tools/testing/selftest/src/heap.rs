// SPDX-License-Identifier: GPL-2.0

//! DMA heaps and the dma-bufs that they allocate, as user space sees them.
//!
//! Numbers and structures are those of the kernel's `linux/dma-heap.h` and
//! `linux/dma-buf.h`.

use crate::ioctl;
use crate::mapping::{Mapping, Window};
use crate::query::Sync;
use anyhow::{Context as _, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};
use std::ffi::CStr;
use std::ops::Range;
use std::path::PathBuf;

/// `DMA_HEAP_IOCTL_ALLOC`.
pub const ALLOC: Opcode = opcode::read_write::<Request>(b'H', 0);
/// `DMA_BUF_IOCTL_SYNC`.
pub const SYNC: Opcode = opcode::write::<u64>(b'b', 0);
/// `DMA_BUF_SET_NAME`.
pub const SET_NAME: Opcode = opcode::write::<u64>(b'b', 1);
const EXPORT_SYNC_FILE: Opcode = opcode::read_write::<SyncFile>(b'b', 2);
const IMPORT_SYNC_FILE: Opcode = opcode::write::<SyncFile>(b'b', 3);

/// `DMA_BUF_SYNC_READ`, for brackets and fences alike.
pub const READ: u32 = 1;
/// `DMA_BUF_SYNC_WRITE`.
pub const WRITE: u32 = 2;
/// `DMA_BUF_SYNC_END`. `DMA_BUF_SYNC_START` is 0.
pub const END: u32 = 4;

/// The largest block that a heap of ours allocates from all memory.
pub const BLOCK: usize = 4 << 20;

/// `struct dma_heap_allocation_data`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    pub len: u64,
    pub fd: u32,
    pub fd_flags: u32,
    pub heap_flags: u64,
}

const _: () = assert!(size_of::<Request>() == 24);

impl Request {
    /// The request of an ordinary program.
    pub fn new(len: u64) -> Self {
        Self {
            len,
            fd: 0,
            fd_flags: (OFlags::RDWR | OFlags::CLOEXEC).bits(),
            heap_flags: 0,
        }
    }
}

/// `struct dma_buf_export_sync_file` and `struct dma_buf_import_sync_file`.
#[repr(C)]
struct SyncFile {
    flags: u32,
    fd: i32,
}

const _: () = assert!(size_of::<SyncFile>() == 8);

/// An open heap.
pub struct Heap {
    fd: OwnedFd,
}

impl Heap {
    pub fn path(name: &str) -> PathBuf {
        PathBuf::from("/dev/dma_heap").join(name)
    }

    pub fn open(name: &str) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(Self::path(name), flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Allocates as an ordinary program would.
    pub fn alloc(&self, len: usize) -> Result<Buffer, Errno> {
        self.request(&Request::new(len as u64))
    }

    /// Allocates by `request`, which may be wrong.
    pub fn request(&self, request: &Request) -> Result<Buffer, Errno> {
        self.request_fd(request).and_then(Buffer::from_fd)
    }

    /// The same with a single system call.
    pub fn request_fd(&self, request: &Request) -> Result<OwnedFd, Errno> {
        let mut request = *request;
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<ALLOC, _>(self, &mut request)? };
        // SAFETY: The ioctl has succeeded, so the descriptor is new and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(request.fd as i32) })
    }
}

impl AsFd for Heap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A dma-buf.
pub struct Buffer {
    fd: OwnedFd,
    size: usize,
    inode: u64,
}

impl Buffer {
    /// The dma-buf of a descriptor.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Errno> {
        let size = rustix::fs::seek(&fd, SeekFrom::End(0))? as usize;
        let inode = rustix::fs::fstat(&fd)?.st_ino;
        Ok(Self { fd, size, inode })
    }

    /// Its size in the kernel: a whole number of pages.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The inode number, which differs from that of all other dma-bufs.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Maps all of it, readable and writable.
    pub fn map(&self) -> Result<Mapping, Errno> {
        self.map_window(&Window::of(self.size))
    }

    pub fn map_window(&self, window: &Window) -> Result<Mapping, Errno> {
        Mapping::new(&self.fd, window)
    }

    /// One half of a CPU access bracket.
    pub fn sync(&self, flags: u64) -> Result<(), Errno> {
        let mut flags = flags;
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<SYNC, _>(self, &mut flags) }
    }

    /// One half of a bracket around access to a part of the buffer.
    pub fn sync_part(&self, flags: u32, part: &Range<usize>, node: &OwnedFd) -> Result<(), Errno> {
        Sync::of(self.fd.as_raw_fd(), flags, part).call(node)
    }

    /// Opens a bracket for reading and writing, runs `access`, and closes it.
    pub fn bracketed<T>(&self, access: impl FnOnce() -> T) -> Result<T, Errno> {
        self.sync((READ | WRITE).into())?;
        let result = access();
        self.sync((READ | WRITE | END).into())?;
        Ok(result)
    }

    pub fn set_name(&self, name: &CStr) -> Result<(), Errno> {
        // SAFETY: The kernel reads the string, which ends in NUL, and writes nothing.
        unsafe { ioctl::at_address(self, SET_NAME, name.as_ptr().expose_provenance()) }
    }

    /// Exports a fence for what the buffer's users still have to do.
    pub fn export_fence(&self, flags: u32) -> Result<OwnedFd, Errno> {
        let mut data = SyncFile { flags, fd: -1 };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<EXPORT_SYNC_FILE, _>(self, &mut data)? };
        // SAFETY: The ioctl has succeeded, so the descriptor is new and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(data.fd) })
    }

    /// Makes the buffer's users wait for `fence`.
    pub fn import_fence(&self, fence: impl AsFd, flags: u32) -> Result<(), Errno> {
        let mut data = SyncFile {
            flags,
            fd: fence.as_fd().as_raw_fd(),
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<IMPORT_SYNC_FILE, _>(self, &mut data) }
    }

    /// A line of the descriptor's fdinfo, without its key.
    pub fn fdinfo(&self, key: &str) -> Result<String> {
        let path = format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value.trim().to_owned())
            .with_context(|| format!("expected a line `{key}:` in {path}, got:\n{text}"))
    }
}

impl Buffer {
    /// How many references there are to the dma-buf's file, including this one.
    pub fn references(&self) -> Result<u64> {
        let count = self.fdinfo("count")?;
        count
            .parse()
            .with_context(|| format!("expected a number of references, got {count}"))
    }
}

impl AsFd for Buffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
