// SPDX-License-Identifier: GPL-2.0

//! Buffers that drivers fill by the CPU, and the brackets which those leave out.
//! The library's brackets last as long as a borrow, and these from `VIDIOC_QBUF` to
//! `VIDIOC_DQBUF`, in any order of the buffers.

use anyhow::{Context as _, Result};
use dmaheap::{Heap, Mapped, Request};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::ioctl::{Opcode, Setter, opcode};

/// `DMA_BUF_IOCTL_SYNC`
const SYNC: Opcode = opcode::write::<u64>(b'b', 0);
const SYNC_WRITE: u64 = 2;
const SYNC_END: u64 = 4;

/// A buffer for a frame.
pub struct Slot(Mapped);

impl Slot {
    /// Allocates so many buffers of so many bytes.
    pub fn alloc(heap: &Heap, count: u32, size: usize) -> Result<Vec<Self>> {
        let heap = heap.open()?;
        let request = Request::new(size as u64).name("pipeline");
        (0..count)
            .map(|_| Ok(Self(heap.alloc(&request)?.map()?)))
            .collect()
    }

    /// Opens the bracket, before a driver gets the buffer that will write to it
    /// by the CPU.
    pub fn begin_write(&self) -> Result<()> {
        self.sync(SYNC_WRITE)
    }

    /// Closes it, when the driver is done: other devices see what is there now.
    pub fn end_write(&self) -> Result<()> {
        self.sync(SYNC_WRITE | SYNC_END)
    }

    fn sync(&self, flags: u64) -> Result<()> {
        // SAFETY: The ioctl reads a number of 64 bits.
        unsafe { rustix::ioctl::ioctl(&self.0, Setter::<SYNC, u64>::new(flags)) }
            .context("DMA_BUF_IOCTL_SYNC")
    }

    /// Copies the first bytes out of it.
    pub fn copy_to(&mut self, to: &mut [u8]) -> Result<()> {
        Ok(self.0.read()?.copy_to(0, to)?)
    }
}

impl AsFd for Slot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
