// SPDX-License-Identifier: GPL-2.0

//! dma-bufs over a process's memory, from `/dev/udmabuf`.
//!
//! Numbers and structures are those of the kernel's `linux/udmabuf.h`.

use crate::expect::skip;
use crate::heap::Buffer;
use anyhow::{Context as _, Result};
use rustix::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use std::ffi::c_void;

const NODE: &str = "/dev/udmabuf";

/// `struct udmabuf_create`.
#[repr(C)]
struct Create {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

const _: () = assert!(size_of::<Create>() == 24);

// SAFETY: `UDMABUF_CREATE` reads a structure of this layout, and returns a new descriptor.
unsafe impl Ioctl for Create {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::write::<Self>(b'u', 0x42)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    unsafe fn output_from_ptr(fd: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: The ioctl has succeeded, so the descriptor is new and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Makes a dma-buf of zeroed memory that has no other user. Skips the test if the kernel
/// has no udmabuf.
pub fn alloc(len: usize) -> Result<Buffer> {
    let device = match rustix::fs::open(NODE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => {
            return skip(format!("no {NODE}: it takes a kernel with CONFIG_UDMABUF"));
        }
        device => device.with_context(|| format!("opening {NODE}"))?,
    };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("udmabuf", flags)?;
    rustix::fs::ftruncate(&memory, len as u64)?;
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK)?;
    let create = Create {
        memfd: memory.as_fd().as_raw_fd() as u32,
        flags: 0,
        offset: 0,
        size: len as u64,
    };
    // SAFETY: By the implementation of `Ioctl` above.
    let fd = unsafe { rustix::ioctl::ioctl(&device, create) }.context("UDMABUF_CREATE")?;
    Ok(Buffer::from_fd(fd)?)
}
