// SPDX-License-Identifier: GPL-2.0

//! Allocation by correct requests.

use super::Test;
use crate::bufinfo;
use crate::expect::expect_errno;
use crate::heap::{BLOCK, Buffer, Heap, Request};
use crate::mapping::page_size;
use crate::options::Options;
use anyhow::{Context as _, Result, ensure};
use rustix::fd::AsFd as _;
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::{Errno, FdFlags};
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

pub const TESTS: &[Test] = &[
    Test::new(
        "alloc.node",
        "the heap's node is the character device that sysfs names",
        node,
    ),
    Test::new(
        "alloc.sizes",
        "buffers of all sizes are whole pages, zeroed, and listed",
        sizes,
    ),
    Test::new(
        "alloc.zeroed_again",
        "memory that was used before comes back zeroed",
        zeroed_again,
    ),
    Test::new("alloc.distinct", "two buffers share nothing", distinct),
    Test::new(
        "alloc.fd_flags",
        "the descriptor has the access mode and the flags of the request",
        fd_flags,
    ),
    Test::new(
        "alloc.seek",
        "seeking to the end returns the size, and seeking elsewhere fails",
        seek,
    ),
    Test::new(
        "alloc.no_leak",
        "after thousands of buffers as much memory is free as before",
        no_leak,
    ),
    Test::new(
        "alloc.parallel",
        "threads can allocate at the same time",
        parallel,
    ),
];

const MIB: usize = 1 << 20;

fn node(options: &Options) -> Result<()> {
    let path = Heap::path(&options.heap);
    let metadata = std::fs::metadata(&path)
        .with_context(|| format!("expected a heap {}: is the module loaded?", path.display()))?;
    ensure!(
        metadata.file_type().is_char_device(),
        "expected {} to be a character device",
        path.display()
    );
    let number = metadata.rdev();
    let seen = format!(
        "{}:{}",
        rustix::fs::major(number),
        rustix::fs::minor(number)
    );
    let attribute = format!("/sys/class/dma_heap/{}/dev", options.heap);
    let expected = std::fs::read_to_string(&attribute).context(attribute)?;
    ensure!(
        seen == expected.trim(),
        "{}: expected device number {}, got {seen}",
        path.display(),
        expected.trim()
    );
    Ok(())
}

fn sizes(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    for len in [1, 4096, 4097, 64 << 10, MIB, BLOCK, BLOCK + 4096, 37 * MIB] {
        let buffer = heap
            .alloc(len)
            .with_context(|| format!("allocating {len} bytes"))?;
        let expected = len.next_multiple_of(page_size());
        ensure!(
            buffer.size() == expected,
            "{len} bytes: expected a buffer of {expected}, got {}",
            buffer.size()
        );
        for (key, value) in [
            ("size", expected.to_string()),
            ("exp_name", options.heap.clone()),
        ] {
            let seen = buffer.fdinfo(key)?;
            ensure!(
                seen == value,
                "fdinfo of {len} bytes: expected {key} {value}, got {seen}"
            );
        }
        let listed = bufinfo::list()?
            .into_iter()
            .find(|listed| listed.inode == buffer.inode());
        let listed =
            listed.with_context(|| format!("{len} bytes: expected the buffer in bufinfo"))?;
        ensure!(
            (listed.size, listed.exporter.as_str()) == (expected as u64, options.heap.as_str()),
            "{len} bytes: expected {expected} of {} in bufinfo, got {listed:?}",
            options.heap
        );
        let mapping = buffer.map()?;
        buffer.bracketed(|| mapping.expect_zeroed(&format!("{len} bytes")))??;
    }
    Ok(())
}

/// Dirties and frees a part of the memory, in all sizes of block. The kernel first gives
/// out the memory that was freed last, so the second round gets the memory of the first.
fn zeroed_again(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let portion = 16 * MIB;
    for len in [4096, 64 << 10, MIB, BLOCK + 4096] {
        let count = (portion / len).min(512);
        let allocate =
            || -> Result<Vec<Buffer>> { (0..count).map(|_| Ok(heap.alloc(len)?)).collect() };
        for buffer in allocate()? {
            let mapping = buffer.map()?;
            buffer.bracketed(|| mapping.fill(0xff))?;
        }
        for (number, buffer) in allocate()?.iter().enumerate() {
            let mapping = buffer.map()?;
            let what = format!("buffer {number} of {count} of {len} bytes");
            buffer.bracketed(|| mapping.expect_zeroed(&what))??;
        }
    }
    Ok(())
}

fn distinct(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let (first, second) = (heap.alloc(MIB)?, heap.alloc(MIB)?);
    ensure!(
        first.inode() != second.inode(),
        "expected two inode numbers, got {} twice",
        first.inode()
    );
    let (one, two) = (first.map()?, second.map()?);
    one.stamp(1);
    two.stamp(2);
    one.expect_stamped("the first buffer, after writing to the second", 1, 0)?;
    two.expect_stamped("the second buffer", 2, 0)
}

fn fd_flags(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    for mode in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
        for close in [OFlags::empty(), OFlags::CLOEXEC] {
            let request = Request {
                fd_flags: (mode | close).bits(),
                ..Request::new(4096)
            };
            let buffer = heap
                .request(&request)
                .with_context(|| format!("allocating with {mode:?}"))?;
            let seen = rustix::fs::fcntl_getfl(&buffer)? & OFlags::RWMODE;
            ensure!(seen == mode, "expected access mode {mode:?}, got {seen:?}");
            let seen = rustix::io::fcntl_getfd(&buffer)?.contains(FdFlags::CLOEXEC);
            let expected = close == OFlags::CLOEXEC;
            ensure!(
                seen == expected,
                "expected close-on-exec {expected}, got {seen}"
            );
        }
    }
    Ok(())
}

fn seek(options: &Options) -> Result<()> {
    let buffer = options.heap()?.alloc(5 * page_size())?;
    for (from, expected) in [
        (SeekFrom::End(0), buffer.size() as u64),
        (SeekFrom::Start(0), 0),
    ] {
        let seen =
            rustix::fs::seek(&buffer, from).with_context(|| format!("seeking to {from:?}"))?;
        ensure!(
            seen == expected,
            "seeking to {from:?}: expected {expected}, got {seen}"
        );
    }
    for from in [SeekFrom::Start(1), SeekFrom::End(-1), SeekFrom::Current(0)] {
        let seen = rustix::fs::seek(buffer.as_fd(), from);
        expect_errno(&format!("seeking to {from:?}"), seen, Errno::INVAL)?;
    }
    Ok(())
}

/// The harness compares free memory afterwards. It would notice a leak of about 2 KiB for
/// each buffer.
fn no_leak(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    for round in 0..3000 {
        let len = [4096, 64 << 10, 20 << 10][round % 3];
        let buffer = heap.alloc(len)?;
        let mapping = buffer.map()?;
        buffer.bracketed(|| mapping.stamp(1))?;
    }
    Ok(())
}

fn parallel(options: &Options) -> Result<()> {
    let heap = &options.heap()?;
    let worker = |tag: u32| -> Result<BTreeSet<u64>> {
        let mut inodes = BTreeSet::new();
        for round in 0..100 {
            let buffer = heap.alloc([4096, 96 << 10, MIB][round % 3])?;
            let mapping = buffer.map()?;
            mapping.expect_zeroed("a new buffer")?;
            mapping.stamp(tag);
            mapping.expect_stamped("a buffer of this thread alone", tag, 0)?;
            inodes.insert(buffer.inode());
        }
        Ok(inodes)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4)
            .map(|tag| scope.spawn(move || worker(tag)))
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut all = BTreeSet::new();
    for result in results {
        all.extend(result.unwrap_or_else(|_| anyhow::bail!("a thread panicked"))?);
    }
    ensure!(
        all.len() == 400,
        "expected 400 different buffers, got {}",
        all.len()
    );
    Ok(())
}
