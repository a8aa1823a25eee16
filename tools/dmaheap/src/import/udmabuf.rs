// SPDX-License-Identifier: MIT OR GPL-2.0

//! Buffers made of a file's pages, by the kernel's `linux/udmabuf.h`.

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::ioctl;
use rustix::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, open,
};
use rustix::ioctl::{Opcode, opcode::write};

const NODE: &str = "/dev/udmabuf";

const CREATE_LIST: Opcode = write::<Head>(b'u', 0x43);
const FLAG_CLOEXEC: u32 = 1;

/// `struct udmabuf_create_list`, without its list.
#[repr(C)]
struct Head {
    flags: u32,
    count: u32,
}

/// The same with two items.
#[repr(C)]
struct List {
    head: Head,
    items: [Item; 2],
}

/// `struct udmabuf_create_item`.
#[repr(C)]
struct Item {
    memfd: u32,
    pad: u32,
    offset: u64,
    size: u64,
}

const _: () = assert!(size_of::<List>() == 56);

/// A buffer of at least `size` bytes, of the two halves of a file in this order.
pub(super) fn create(size: u64, order: [u64; 2]) -> Result<Buffer> {
    let page = rustix::param::page_size() as u64;
    let half = size.div_ceil(2).max(1).next_multiple_of(page);
    let make = Error::io("making a buffer of pages");
    let fd = memory(2 * half)
        .and_then(|memory| list(&memory, half, order))
        .map_err(make)?;
    Buffer::from_fd(fd)
}

/// A file of memory that stays as large as it is, as udmabuf wants it.
fn memory(size: u64) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("dmaheap", flags)?;
    ftruncate(&memory, size)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK)?;
    Ok(memory)
}

fn list(memory: &OwnedFd, half: u64, order: [u64; 2]) -> rustix::io::Result<OwnedFd> {
    let node = open(NODE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut list = List {
        head: Head {
            flags: FLAG_CLOEXEC,
            count: 2,
        },
        items: order.map(|number| Item {
            memfd: memory.as_raw_fd() as u32,
            pad: 0,
            offset: number * half,
            size: half,
        }),
    };
    // SAFETY: The argument is of the type that the ioctl is for, with as many items as it says.
    let fd = unsafe { ioctl::call_for_number(&node, CREATE_LIST, &mut list) }?;
    // SAFETY: The ioctl has succeeded, so the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
