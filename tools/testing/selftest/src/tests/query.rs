// SPDX-License-Identifier: GPL-2.0

//! The answers of `/dev/dmabuf_coherency` about a dma-buf.

use super::Test;
use crate::expect::{expect_errno, skip};
use crate::heap::Heap;
use crate::ioctl;
use crate::mapping::page_size;
use crate::options::Options;
use crate::query::{QUERY, Query, open};
use anyhow::{Context as _, Result, ensure};
use rustix::fd::{AsFd as _, AsRawFd as _};
use rustix::io::Errno;
use rustix::ioctl::opcode;
use std::fs;

pub const TESTS: &[Test] = &[
    Test::new(
        "query.ours",
        "the answer about a buffer of ours agrees with its heap's files in sysfs",
        ours,
    ),
    Test::new(
        "query.foreign",
        "the answer about a buffer of another exporter is empty",
        foreign,
    ),
    Test::new(
        "query.grows",
        "longer structures get an answer, unless they ask for something unknown",
        grows,
    ),
    Test::new(
        "query.wrong",
        "wrong requests are refused, and change nothing",
        wrong,
    ),
    Test::new(
        "query.references",
        "a query keeps no reference to the buffer",
        references,
    ),
];

/// Reads an attribute of a heap.
fn attribute(heap: &str, name: &str) -> Result<String> {
    let path = format!("/sys/class/dma_heap/{heap}/{name}");
    let text = fs::read_to_string(&path).context(path)?;
    Ok(text.trim().to_owned())
}

fn ours(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let heap = &options.heap;
    let buffer = options.heap()?.alloc(1)?;
    let seen = Query::about(buffer.as_fd().as_raw_fd()).answer(&open()?)?;

    let bit = |number: u32| seen.properties >> number & 1;
    ensure!(bit(0) == 1, "expected the buffer to be ours: {seen:?}");
    ensure!(seen.properties >> 3 == 0, "unknown properties: {seen:?}");
    ensure!(seen.reserved == 0, "expected 0 in `reserved`: {seen:?}");
    ensure!(seen.heap()? == heap, "expected {heap}: {seen:?}");
    let cpu_mapping = match seen.cpu_mapping {
        1 => "write-back",
        2 => "write-combining",
        _ => "unknown",
    };
    for (name, told) in [
        ("dma_coherent", bit(1).to_string()),
        ("contiguous", bit(2).to_string()),
        ("cpu_mapping", cpu_mapping.to_owned()),
    ] {
        let expected = attribute(heap, name)?;
        ensure!(
            told == expected,
            "{heap}: sysfs says {name} is {expected}, the query says {told}"
        );
    }
    Ok(())
}

fn foreign(_: &Options) -> Result<()> {
    let Ok(heap) = Heap::open("system") else {
        return skip("this kernel has no heap `system`");
    };
    let buffer = heap.alloc(1)?;
    let seen = Query::about(buffer.as_fd().as_raw_fd()).answer(&open()?)?;
    let expected = Query {
        cpu_mapping: 0,
        properties: 0,
        reserved: 0,
        heap: [0; 64],
        ..seen
    };
    ensure!(seen == expected, "expected nothing but zeroes: {seen:?}");
    Ok(())
}

/// Asks with structures that are longer than the kernel knows.
fn grows(options: &Options) -> Result<()> {
    let node = open()?;
    let buffer = options.heap()?.alloc(1)?;
    let ask = |size: usize, last: u8| {
        let mut room = vec![0_u64; size.div_ceil(8)];
        let query = Query {
            size: size as u32,
            ..Query::about(buffer.as_fd().as_raw_fd())
        };
        // SAFETY: `room` is large enough, aligned, and nothing else refers to it.
        let result = unsafe {
            room.as_mut_ptr().cast::<Query>().write(query);
            room.as_mut_ptr().cast::<u8>().add(size - 1).write(last);
            ioctl::at_address(&node, QUERY, room.as_mut_ptr().expose_provenance())
        };
        result.map(|()| room)
    };
    let room = ask(page_size(), 0)?;
    ensure!(room[0] as u32 as usize == page_size(), "`size` has changed");
    ensure!(
        room[12..].iter().all(|word| *word == 0),
        "expected zeroes behind what the kernel knows"
    );
    let what = "a structure that asks for more than the kernel knows";
    for size in [97, 160, page_size()] {
        expect_errno(what, ask(size, 1).map(drop), Errno::TOOBIG)?;
    }
    let what = "a structure larger than a page";
    expect_errno(what, ask(page_size() + 8, 0).map(drop), Errno::TOOBIG)
}

fn wrong(options: &Options) -> Result<()> {
    let node = open()?;
    let buffer = options.heap()?.alloc(1)?;
    let right = Query::about(buffer.as_fd().as_raw_fd());
    let file = fs::File::open("/proc/self/exe")?;
    let query = |change: fn(Query) -> Query| change(right).answer(&node).map(drop);

    let cases = [
        ("size 0", query(|q| Query { size: 0, ..q }), Errno::INVAL),
        ("size 95", query(|q| Query { size: 95, ..q }), Errno::INVAL),
        ("flags 1", query(|q| Query { flags: 1, ..q }), Errno::INVAL),
        ("fd -1", query(|q| Query { fd: -1, ..q }), Errno::BADF),
        (
            "a file that is no dma-buf",
            Query::about(file.as_raw_fd()).answer(&node).map(drop),
            Errno::INVAL,
        ),
    ];
    for (what, seen, errno) in cases {
        expect_errno(what, seen, errno)?;
    }
    for address in [0, 1, usize::MAX - 64] {
        // SAFETY: No memory of this process is at these addresses.
        let seen = unsafe { ioctl::at_address(&node, QUERY, address) };
        expect_errno(&format!("address {address:#x}"), seen, Errno::FAULT)?;
    }
    for opcode in [
        opcode::none(0xd7, 2),
        opcode::none(0xd6, 0),
        opcode::read_write::<Query>(0xd7, 0),
    ] {
        // SAFETY: The kernel knows none of these.
        let seen =
            unsafe { ioctl::at_address(&node, opcode, (&raw const right).expose_provenance()) };
        expect_errno(&format!("request {opcode:#x}"), seen, Errno::NOTTY)?;
    }
    Ok(())
}

fn references(options: &Options) -> Result<()> {
    let node = open()?;
    let buffer = options.heap()?.alloc(1)?;
    for _ in 0..100 {
        Query::about(buffer.as_fd().as_raw_fd()).answer(&node)?;
    }
    let count = buffer.references()?;
    ensure!(
        count == 1,
        "expected 1 reference to the buffer, got {count}"
    );
    Ok(())
}
