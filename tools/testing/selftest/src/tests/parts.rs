// SPDX-License-Identifier: GPL-2.0

//! Brackets around access to a part of a buffer: `DMABUF_COHERENCY_IOCTL_SYNC`.
//!
//! As in `brackets`, only a bounce buffer shows which bytes have become visible. Without
//! bounce buffers the tests check the calls of the DMA API.

use super::Test;
use super::matrix::{calls_are_told, heaps};
use crate::expect::{expect_errno, skip};
use crate::heap::{Buffer, END, Heap, READ, WRITE};
use crate::ioctl;
use crate::mapping::page_size;
use crate::options::{Options, is_ours};
use crate::pattern::{expect_bytes, pattern};
use crate::query::{self, SYNC, Sync};
use crate::reach::{Answer, Reach, answer, bouncing, bouncing_is_forced, reach, reach_buffer};
use crate::test_importer::{Direction, Importer, Kind, Setup};
use crate::trace::{
    MAP, Recording, SYNC_FOR_CPU, SYNC_FOR_DEVICE, SYNC_PART_FOR_CPU, SYNC_PART_FOR_DEVICE,
};
use anyhow::{Context as _, Result, ensure};
use rustix::fd::{AsFd as _, AsRawFd as _};
use rustix::io::Errno;
use std::fs;
use std::ops::Range;

pub const TESTS: &[Test] = &[
    Test::new(
        "brackets.part",
        "a bracket around a part of a buffer affects that part only, whatever its alignment",
        part,
    ),
    Test::new(
        "matrix.maintenance_part",
        "a bracket calls the DMA API for just the part, block by block, if a mapping needs it",
        told,
    ),
    Test::new(
        "sync.part_accepted",
        "a part may be any bytes of a buffer, whether devices have mapped it or not",
        accepted,
    ),
    Test::new(
        "sync.part_refused",
        "a part that is not in the buffer, and other wrong requests, are refused",
        refused,
    ),
    Test::new(
        "sync.part_foreign",
        "brackets around a part are refused for buffers of other exporters",
        foreign,
    ),
];

/// A size that is more than one segment for a device that bounces.
const LEN: usize = (256 << 10) + (64 << 10);

fn part(_: &Options) -> Result<()> {
    let setup = bouncing()?;
    let node = query::open()?;
    let mut tried = Vec::new();
    for heap in heaps()?.into_iter().filter(|heap| is_ours(heap)) {
        if answer(&heap, Reach::Bouncing) == Answer::Refused {
            continue;
        }
        let buffer = Heap::open(&heap)?.alloc(LEN)?;
        if reach_buffer(&setup, &heap, &buffer)? != Reach::Bouncing {
            continue;
        }
        let process = buffer.map()?;
        let importer = Importer::new(&setup)?;
        let border = 256 << 10;
        let parts = [
            0..1,
            100..5000,
            4096..8192,
            border - 7..border + 9,
            border..border + 4096,
            LEN - 1..LEN,
            0..LEN,
        ];
        for (round, part) in (1..).zip(parts) {
            let context = || format!("{heap}: {part:?}");
            let [first, second, third] = [1, 2, 3].map(|step| pattern(LEN, 10 * round + step));
            process.write(0, &first);
            let attachment = importer.attach(&buffer, Kind::Static)?;
            let mapped = importer.map(attachment, Direction::Bidirectional)?;

            importer.write(&mapped, 0, &second)?;
            buffer.sync_part(READ, &part, &node).with_context(context)?;
            let mut seen = vec![0; LEN];
            process.read(0, &mut seen);
            expect_mixed("the CPU", &seen, &first, &second, &part).with_context(context)?;
            buffer
                .sync_part(READ | END, &part, &node)
                .with_context(context)?;

            process.write(0, &third);
            let seen = importer.read(&mapped, 0, LEN)?;
            expect_bytes("the device, before", &seen, &second).with_context(context)?;
            buffer
                .sync_part(WRITE | END, &part, &node)
                .with_context(context)?;
            let seen = importer.read(&mapped, 0, LEN)?;
            expect_mixed("the device", &seen, &second, &third, &part).with_context(context)?;
            importer.unmap(&mapped)?;
        }
        tried.push(heap);
    }
    println!("{}", tried.join(", "));
    Ok(())
}

/// Fails unless `seen` is `new` in the part, and `old` elsewhere.
fn expect_mixed(who: &str, seen: &[u8], old: &[u8], new: &[u8], part: &Range<usize>) -> Result<()> {
    let mut expected = old.to_vec();
    expected[part.clone()].copy_from_slice(&new[part.clone()]);
    expect_bytes(who, seen, &expected)
}

/// The calls of the DMA API in a bracket around a part: event, address, size.
fn calls(buffer: &Buffer, part: &Range<usize>) -> Result<Vec<(&'static str, u64, usize)>> {
    const EVENTS: [&str; 4] = [
        SYNC_PART_FOR_CPU,
        SYNC_PART_FOR_DEVICE,
        SYNC_FOR_CPU,
        SYNC_FOR_DEVICE,
    ];
    let node = query::open()?;
    let recording = Recording::start(&EVENTS)?;
    buffer.sync_part(READ | WRITE, part, &node)?;
    buffer.sync_part(READ | WRITE | END, part, &node)?;
    let mut calls = Vec::new();
    for event in recording.events()? {
        let Some(name) = EVENTS.into_iter().find(|name| event.is(name)) else {
            continue;
        };
        let address = u64::from_str_radix(event.field("dma_addr"), 16).unwrap_or_default();
        let size = event.field("size").parse().unwrap_or_default();
        calls.push((name, address, size));
    }
    Ok(calls)
}

fn told(options: &Options) -> Result<()> {
    drop(Importer::open()?);
    if bouncing_is_forced()? {
        return skip("every device bounces here: brackets.part sees what a bracket does");
    }
    if !calls_are_told(&options.control()?)? {
        return skip("no calls are told of: try a kernel with CONFIG_DMA_API_DEBUG, or arm64");
    }
    let largest = 4 << 20;
    let size = largest + (64 << 10);
    let parts = [
        0..1,
        5000..5001,
        page_size()..2 * page_size(),
        largest - 3..largest + 5,
        largest..size,
    ];
    for heap in heaps()?.iter().filter(|heap| is_ours(heap)) {
        let buffer = Heap::open(heap)?.alloc(size)?;
        // Caches with data of a snooping device are cleaned before they are invalidated.
        let mut snooped = false;
        for setup in [Setup::NOT_SNOOPING, Setup::SNOOPING, Setup::NOT_SNOOPING] {
            let answer = answer(heap, reach(&setup)?);
            if answer == Answer::Refused {
                continue;
            }
            let importer = Importer::open()?;
            let name = importer.setup(&setup)?;
            let recording = Recording::start(&[MAP])?;
            let attachment = importer.attach(&buffer, Kind::Static)?;
            let mapped = importer.map(attachment, Direction::Bidirectional)?;
            let event = recording.mapped(&name)?;
            drop(recording);
            let sizes = event.numbers("sizes").into_iter().map(|size| size as usize);
            let segments: Vec<_> = event.numbers("dma_addrs").into_iter().zip(sizes).collect();
            for part in &parts {
                let mut expected = Vec::new();
                if answer == Answer::Bracketed {
                    let pieces = pieces(&segments, part);
                    let first = snooped.then_some(SYNC_PART_FOR_DEVICE);
                    for name in first
                        .into_iter()
                        .chain([SYNC_PART_FOR_CPU, SYNC_PART_FOR_DEVICE])
                    {
                        expected.extend(pieces.iter().map(|(at, size)| (name, *at, *size)));
                    }
                }
                let seen = calls(&buffer, part)?;
                ensure!(
                    seen == expected,
                    "{heap}, {setup:?}, {part:?}: expected {expected:x?}, got {seen:x?}"
                );
            }
            importer.unmap(&mapped)?;
            snooped |= setup.snoops;
        }
    }
    Ok(())
}

/// Where a part of a buffer is in these segments, each an address and a size.
fn pieces(segments: &[(u64, usize)], part: &Range<usize>) -> Vec<(u64, usize)> {
    let mut start = 0;
    let mut pieces = Vec::new();
    for (address, size) in segments {
        let (from, to) = (part.start.max(start), part.end.min(start + size));
        if from < to {
            pieces.push((address + (from - start) as u64, to - from));
        }
        start += size;
    }
    pieces
}

fn accepted(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let node = query::open()?;
    let size = 2 * page_size();
    let buffer = options.heap()?.alloc(size)?;
    let mapping = buffer.map()?;
    mapping.stamp(1);
    for part in [0..1, 0..size, 1..size, size - 1..size, 77..4099] {
        for flags in [READ, WRITE, READ | WRITE] {
            for flags in [flags, flags, flags | END, flags | END] {
                buffer
                    .sync_part(flags, &part, &node)
                    .with_context(|| format!("{part:?}, flags {flags}"))?;
            }
        }
    }
    mapping.expect_stamped("after all brackets", 1, 0)
}

fn refused(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let node = query::open()?;
    let size = page_size();
    let buffer = options.heap()?.alloc(size)?;
    let file = fs::File::open("/proc/self/exe")?;
    let right = Sync::of(buffer.as_fd().as_raw_fd(), READ, &(0..size));
    right.call(&node).context("the right one")?;
    let call = |change: &dyn Fn(Sync) -> Sync| change(right).call(&node);
    let at = |offset: u64, length: u64| {
        call(&|sync| Sync {
            offset,
            length,
            ..sync
        })
    };
    let size = size as u64;

    for (what, result, expected) in [
        ("an empty part", at(0, 0), Errno::INVAL),
        ("an empty part at the end", at(size, 0), Errno::INVAL),
        ("a part behind the end", at(size, 1), Errno::INVAL),
        ("a part beyond the end", at(1, size), Errno::INVAL),
        ("an end that overflows", at(1, u64::MAX), Errno::INVAL),
        ("the last byte there can be", at(u64::MAX, 1), Errno::INVAL),
        ("nothing, far away", at(u64::MAX, 0), Errno::INVAL),
        ("2^32 bytes", at(0, 1 << 32), Errno::INVAL),
        ("size 0", call(&|s| Sync { size: 0, ..s }), Errno::INVAL),
        ("size 31", call(&|s| Sync { size: 31, ..s }), Errno::INVAL),
        (
            "a huge size",
            call(&|s| Sync { size: !0, ..s }),
            Errno::TOOBIG,
        ),
        ("fd -1", call(&|s| Sync { fd: -1, ..s }), Errno::BADF),
        (
            "a file that is no dma-buf",
            call(&|s| Sync {
                fd: file.as_raw_fd(),
                ..s
            }),
            Errno::INVAL,
        ),
    ] {
        expect_errno(what, result, expected)?;
    }
    for flags in [0, u64::from(END), 8, u64::from(READ) | 1 << 63, u64::MAX] {
        let what = format!("flags {flags:#x}");
        expect_errno(&what, call(&|s| Sync { flags, ..s }), Errno::INVAL)?;
    }
    // SAFETY: Nothing is mapped at this address, so the kernel reads and writes no memory.
    let nowhere = unsafe { ioctl::at_address(&node, SYNC, 8) };
    expect_errno("a structure that is not there", nowhere, Errno::FAULT)
}

fn foreign(_: &Options) -> Result<()> {
    let Ok(heap) = Heap::open("system") else {
        return skip("this kernel has no heap `system`");
    };
    let node = query::open()?;
    let buffer = heap.alloc(page_size())?;
    let result = buffer.sync_part(READ, &(0..1), &node);
    expect_errno("a buffer of another exporter", result, Errno::OPNOTSUPP)
}
