// SPDX-License-Identifier: GPL-2.0

//! Wrong requests must have no effect.

use super::Test;
use crate::drm_node::Card;
use crate::expect::{expect_errno, outcome, skip};
use crate::heap::{ALLOC, Request};
use crate::ioctl;
use crate::mapping::{Mapping, page_size};
use crate::options::Options;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::opcode;
use rustix::mm::MprotectFlags;
use rustix::process::{Resource, Rlimit};
use std::fs::File;

pub const TESTS: &[Test] = &[
    Test::new(
        "bad.len_zero",
        "a buffer of 0 bytes is refused, and one of 1 byte is not",
        len_zero,
    ),
    Test::new(
        "bad.flags",
        "unknown flags, and a descriptor other than 0 in the request, are refused",
        flags,
    ),
    Test::new(
        "bad.ioctl",
        "heaps and buffers refuse unknown ioctls",
        unknown_ioctl,
    ),
    Test::new(
        "bad.pointer",
        "if the answer cannot be written to user space, no descriptor is left",
        pointer,
    ),
    Test::new(
        "bad.no_descriptors",
        "without a free descriptor allocating fails, and the buffer is freed",
        no_descriptors,
    ),
    Test::new(
        "bad.closed",
        "a closed descriptor no longer names a buffer",
        closed,
    ),
    Test::new(
        "bad.not_a_buffer",
        "a device imports nothing but dma-bufs",
        not_a_buffer,
    ),
];

fn len_zero(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    expect_errno("allocating 0 bytes", heap.alloc(0), Errno::INVAL)?;
    // Rounded up to whole pages, these overflow to 0.
    for len in [u64::MAX, u64::MAX - page_size() as u64 + 2] {
        let seen = heap.request(&Request::new(len));
        expect_errno(&format!("allocating {len} bytes"), seen, Errno::INVAL)?;
    }
    heap.alloc(1).context("allocating 1 byte")?;
    Ok(())
}

fn flags(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let good = Request::new(4096);
    for bit in 0..64 {
        let seen = heap.request(&Request {
            heap_flags: 1 << bit,
            ..good
        });
        expect_errno(&format!("heap flag {:#x}", 1u64 << bit), seen, Errno::INVAL)?;
    }
    let known = OFlags::CLOEXEC | OFlags::RWMODE;
    for bit in (0..32).filter(|bit| !known.bits() & 1 << bit != 0) {
        let seen = heap.request(&Request {
            fd_flags: good.fd_flags | 1 << bit,
            ..good
        });
        expect_errno(
            &format!("descriptor flag {:#x}", 1u32 << bit),
            seen,
            Errno::INVAL,
        )?;
    }
    for fd in [1, u32::MAX] {
        let seen = heap.request(&Request { fd, ..good });
        expect_errno(
            &format!("descriptor {fd} in the request"),
            seen,
            Errno::INVAL,
        )?;
    }
    heap.request(&good)
        .context("a good request after all that")?;
    Ok(())
}

fn unknown_ioctl(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let buffer = heap.alloc(4096)?;
    let mut request = Request::new(4096);
    let argument = (&raw mut request).expose_provenance();
    // The core of DMA heaps looks only at the number of an ioctl, and has only number 0.
    for number in [1, 0x7f, 0xff] {
        let code = opcode::read_write::<Request>(b'H', number);
        // SAFETY: The argument is writable memory of the size that the ioctl's code has.
        let seen = unsafe { ioctl::at_address(&heap, code, argument) };
        expect_errno(&format!("heap ioctl {code:#x}"), seen, Errno::INVAL)?;
    }
    for code in [
        opcode::read_write::<Request>(b'b', 0),
        opcode::none(b'b', 99),
        ALLOC,
    ] {
        // SAFETY: As above.
        let seen = unsafe { ioctl::at_address(&buffer, code, argument) };
        expect_errno(&format!("buffer ioctl {code:#x}"), seen, Errno::NOTTY)?;
    }
    let null = File::open("/dev/null")?;
    // SAFETY: As above.
    let seen = unsafe { ioctl::at_address(&null, ALLOC, argument) };
    expect_errno("allocating from /dev/null", seen, Errno::NOTTY)
}

/// The number of the next descriptor: the lowest that is free.
fn next_descriptor() -> Result<i32> {
    Ok(File::open("/dev/null")?.as_raw_fd())
}

fn pointer(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let before = next_descriptor()?;
    // SAFETY: Nothing can be read or written at address 0.
    let seen = unsafe { ioctl::at_address(&heap, ALLOC, 0) };
    expect_errno("a request at a null pointer", seen, Errno::FAULT)?;

    // The kernel can read this request, but cannot write the answer.
    let page = Mapping::anonymous(page_size())?;
    page.write(0, &4096u64.to_ne_bytes());
    page.write(12, &(OFlags::RDWR.bits()).to_ne_bytes());
    let start = std::ptr::with_exposed_provenance_mut(page.address());
    for round in 0..100 {
        // SAFETY: Nobody writes to the page until it is writable again.
        let seen = unsafe {
            rustix::mm::mprotect(start, page.len(), MprotectFlags::READ)?;
            ioctl::at_address(&heap, ALLOC, page.address())
        };
        expect_errno(
            &format!("round {round} with a read-only request"),
            seen,
            Errno::FAULT,
        )?;
    }
    let after = next_descriptor()?;
    ensure!(
        before == after,
        "expected descriptor {before} to be free, but the next one is {after}"
    );

    // SAFETY: The page is nobody else's.
    unsafe {
        rustix::mm::mprotect(
            start,
            page.len(),
            MprotectFlags::READ | MprotectFlags::WRITE,
        )?;
        ioctl::at_address(&heap, ALLOC, page.address()).context("the same request, writable")?;
    }
    Ok(())
}

fn no_descriptors(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let old = rustix::process::getrlimit(Resource::Nofile);
    let limit = |current| {
        let limit = Rlimit {
            current,
            maximum: old.maximum,
        };
        rustix::process::setrlimit(Resource::Nofile, limit)
    };
    limit(Some(next_descriptor()? as u64))?;
    for _ in 0..20 {
        expect_errno(
            "allocating without a free descriptor",
            heap.alloc(1 << 20),
            Errno::MFILE,
        )?;
    }
    limit(old.current)?;
    heap.alloc(1 << 20)
        .context("allocating with a free descriptor")?;
    Ok(())
}

fn closed(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let buffer = heap.alloc(4096)?;
    let number = buffer.as_fd().as_raw_fd();
    let inode = buffer.inode();
    drop(buffer);
    // SAFETY: This process opens nothing meanwhile, so the number stays closed.
    let stale = unsafe { BorrowedFd::borrow_raw(number) };
    // SAFETY: A null pointer is not written to.
    let seen = unsafe { ioctl::at_address(stale, crate::heap::SYNC, 0) };
    expect_errno("sync on a closed descriptor", seen, Errno::BADF)?;
    for card in Card::all()? {
        let number = card.as_fd().as_raw_fd() + 100;
        // SAFETY: No descriptor is as high as that.
        let stale = unsafe { BorrowedFd::borrow_raw(number) };
        expect_errno(
            "PRIME import of a closed descriptor",
            card.prime(stale).map(drop),
            Errno::BADF,
        )?;
    }
    let listed = crate::bufinfo::list()?;
    ensure!(
        listed.iter().all(|listed| listed.inode != inode),
        "expected the closed buffer to be gone from bufinfo"
    );
    Ok(())
}

fn not_a_buffer(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let null = File::open("/dev/null")?;
    let cards = Card::all()?;
    if cards.is_empty() {
        return skip("no DRM device: modprobe vgem gives one");
    }
    for card in &cards {
        for (what, fd) in [("/dev/null", null.as_fd()), ("an open heap", heap.as_fd())] {
            match card.prime(fd).map(drop) {
                Err(Errno::INVAL) => (),
                other => bail!(
                    "PRIME import of {what}: expected EINVAL, got {}",
                    outcome(&other)
                ),
            }
        }
    }
    Ok(())
}
