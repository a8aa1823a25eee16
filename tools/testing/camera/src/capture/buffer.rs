// SPDX-License-Identifier: GPL-2.0

//! Memory for frames, of the driver or of a DMA heap.

use anyhow::{Context as _, Result};
use rustix::{
    fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    fs::{Mode, OFlags},
    io::Errno,
    ioctl::{
        Opcode, Setter, Updater,
        opcode::{read_write, write},
    },
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use std::{ffi::c_void, path::Path, ptr, slice};
use v4l2::Video;

const HEAP_ALLOC: Opcode = read_write::<Allocation>(b'H', 0);
const SYNC: Opcode = write::<u64>(b'b', 0);

const SYNC_READ: u64 = 1;
const SYNC_END: u64 = 4;

/// `struct dma_heap_allocation_data`
#[repr(C)]
struct Allocation {
    length: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

/// A mapped buffer.
pub struct Buffer {
    address: *mut c_void,
    length: usize,
    dma_buf: Option<OwnedFd>,
}

impl Buffer {
    /// Maps a buffer of the driver.
    pub fn of_driver(video: &Video, index: u32) -> Result<Self> {
        let (offset, length) = video.query(index).context("cannot query a buffer")?;
        let address = map(video, offset, length).context("cannot map a buffer of the driver")?;
        Ok(Self {
            address,
            length,
            dma_buf: None,
        })
    }

    /// Allocates a buffer from a heap, by its path.
    pub fn of_heap(heap: &Path, length: usize) -> Result<Self> {
        let what = || format!("cannot open {}", heap.display());
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(heap, flags, Mode::empty()).with_context(what)?;
        let mut allocation = Allocation {
            length: length as u64,
            fd: 0,
            fd_flags: (OFlags::RDWR | OFlags::CLOEXEC).bits(),
            heap_flags: 0,
        };
        // SAFETY: The ioctl reads and writes this structure.
        let call = unsafe { Updater::<HEAP_ALLOC, _>::new(&mut allocation) };
        // SAFETY: It writes nothing else.
        unsafe { rustix::ioctl::ioctl(&fd, call) }
            .with_context(|| format!("cannot allocate {length} bytes from {}", heap.display()))?;
        // SAFETY: The kernel has just made this descriptor for us.
        let dma_buf = unsafe { OwnedFd::from_raw_fd(allocation.fd as i32) };
        let address = map(&dma_buf, 0, length).context("cannot map a buffer of the heap")?;
        Ok(Self {
            address,
            length,
            dma_buf: Some(dma_buf),
        })
    }

    /// The dma-buf, if it is none of the driver.
    pub fn dma_buf(&self) -> Option<BorrowedFd<'_>> {
        self.dma_buf.as_ref().map(OwnedFd::as_fd)
    }

    /// Reads the first bytes, while the driver does not write.
    pub fn read<T>(&self, length: usize, read: impl FnOnce(&[u8]) -> T) -> Result<T, Errno> {
        self.sync(SYNC_READ)?;
        // SAFETY: The memory is mapped as long as this lives, initialized by the
        // kernel, and the driver has given the buffer back.
        let bytes = unsafe { slice::from_raw_parts(self.address.cast(), length.min(self.length)) };
        let result = read(bytes);
        self.sync(SYNC_READ | SYNC_END)?;
        Ok(result)
    }

    fn sync(&self, flags: u64) -> Result<(), Errno> {
        let Some(dma_buf) = &self.dma_buf else {
            return Ok(());
        };
        // SAFETY: The ioctl reads a number of 64 bits.
        unsafe { rustix::ioctl::ioctl(dma_buf, Setter::<SYNC, u64>::new(flags)) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: Mapped when it was made, and nothing refers to it any more.
        let _ = unsafe { munmap(self.address, self.length) };
    }
}

fn map(fd: impl AsFd, offset: u64, length: usize) -> Result<*mut c_void, Errno> {
    // SAFETY: The address is the kernel's choice.
    unsafe {
        mmap(
            ptr::null_mut(),
            length,
            ProtFlags::READ,
            MapFlags::SHARED,
            fd,
            offset,
        )
    }
}
