// SPDX-License-Identifier: MIT OR GPL-2.0

//! The ioctls of heaps, dma-bufs and the query: numbers and structures are those of the kernel's
//! `linux/dma-heap.h`, `linux/dma-buf.h` and `linux/dmabuf_coherency.h`.

use rustix::fd::AsFd;
use rustix::io::{Errno, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use std::ffi::c_void;

pub(crate) const DMA_HEAP_IOCTL_ALLOC: Opcode = opcode::read_write::<AllocationData>(b'H', 0);
pub(crate) const DMA_BUF_IOCTL_SYNC: Opcode = opcode::write::<u64>(b'b', 0);
/// `DMA_BUF_SET_NAME_B`, the number that is the same for all sizes of a pointer.
pub(crate) const DMA_BUF_SET_NAME: Opcode = opcode::write::<u64>(b'b', 1);
pub(crate) const DMABUF_COHERENCY_IOCTL_QUERY: Opcode = opcode::none(0xd7, 0);
pub(crate) const DMABUF_COHERENCY_IOCTL_SYNC: Opcode = opcode::none(0xd7, 1);

pub(crate) const DMA_BUF_SYNC_READ: u64 = 1;
pub(crate) const DMA_BUF_SYNC_WRITE: u64 = 2;
pub(crate) const DMA_BUF_SYNC_END: u64 = 4;

/// `DMA_BUF_NAME_LEN`, with the NUL.
pub(crate) const DMA_BUF_NAME_LEN: usize = 32;

/// `struct dma_heap_allocation_data`.
#[repr(C)]
pub(crate) struct AllocationData {
    pub(crate) len: u64,
    pub(crate) fd: u32,
    pub(crate) fd_flags: u32,
    pub(crate) heap_flags: u64,
}

/// `struct dmabuf_coherency_query`.
#[repr(C)]
pub(crate) struct Query {
    pub(crate) size: u32,
    pub(crate) fd: i32,
    pub(crate) flags: u32,
    pub(crate) cpu_mapping: u32,
    pub(crate) properties: u64,
    pub(crate) reserved: u64,
    pub(crate) heap: [u8; 64],
}

/// `struct dmabuf_coherency_sync`.
#[repr(C)]
pub(crate) struct Sync {
    pub(crate) size: u32,
    pub(crate) fd: i32,
    pub(crate) flags: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

const _: () = {
    use std::mem::offset_of;

    assert!(size_of::<AllocationData>() == 24);
    assert!(offset_of!(AllocationData, heap_flags) == 16);
    assert!(size_of::<Query>() == 96);
    assert!(offset_of!(Query, cpu_mapping) == 12);
    assert!(offset_of!(Query, properties) == 16);
    assert!(offset_of!(Query, heap) == 32);
    assert!(size_of::<Sync>() == 32);
    assert!(offset_of!(Sync, flags) == 8);
};

/// Calls an ioctl, and again as long as it was interrupted: the documentation of dma-buf asks for
/// that.
///
/// # Safety
///
/// `opcode` must be an ioctl whose argument is a `T`, and must access nothing but that argument, and
/// what that points at, which is to be as the ioctl wants it.
pub(crate) unsafe fn call<T>(fd: impl AsFd, opcode: Opcode, argument: &mut T) -> Result<()> {
    // SAFETY: By the contract of this function.
    unsafe { call_for_number(fd, opcode, argument) }.map(drop)
}

/// The same, and gives the number that the ioctl returns.
///
/// # Safety
///
/// As [`call`].
pub(crate) unsafe fn call_for_number<T>(
    fd: impl AsFd,
    opcode: Opcode,
    argument: &mut T,
) -> Result<IoctlOutput> {
    loop {
        let call = Call {
            opcode,
            argument: std::ptr::from_mut(argument).cast(),
        };
        // SAFETY: By the contract of this function the argument is what the ioctl takes.
        match unsafe { rustix::ioctl::ioctl(fd.as_fd(), call) } {
            Err(Errno::INTR | Errno::AGAIN) => (),
            result => return result,
        }
    }
}

struct Call {
    opcode: Opcode,
    argument: *mut c_void,
}

// SAFETY: It is said to mutate, nothing is read back here, and `call()` passes the duty for the
// argument on to its caller.
unsafe impl Ioctl for Call {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<IoctlOutput> {
        Ok(output)
    }
}
