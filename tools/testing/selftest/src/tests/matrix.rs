// SPDX-License-Identifier: GPL-2.0

//! Every heap with every kind of device. The heap must refuse or accept the device as
//! designed, and data must be right in both directions. The design is in `reach.rs`.
//!
//! These tests use all heaps of the module, and the in-tree heap `system` to compare
//! with, whichever heap is under test.

use super::Test;
use crate::bufinfo;
use crate::expect::{expect_errno, skip};
use crate::heap::{Buffer, END, Heap, READ, WRITE};
use crate::mapping::{Mapping, page_size};
use crate::options::{CONTROL, Options, is_ours};
use crate::pattern::{expect_bytes, pattern};
use crate::reach::{
    Answer, Reach, allocates, answer, bits_of, bouncing_is_forced, memory_is_beyond, reach,
    reach_buffer,
};
use crate::test_importer::{Direction, Importer, Kind, Mapped, Setup};
use crate::trace::{Recording, SYNC_FOR_CPU, SYNC_FOR_DEVICE};
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use std::fs;
use std::ops::Range;

pub const TESTS: &[Test] = &[
    Test::new(
        "matrix.snooping",
        "each heap treats a device that snoops as designed",
        |_| unless_forced(&[Setup::SNOOPING]),
    ),
    Test::new(
        "matrix.not_snooping",
        "each heap treats a device that does not snoop as designed",
        |_| unless_forced(&[Setup::NOT_SNOOPING]),
    ),
    Test::new(
        "matrix.bouncing",
        "each heap treats devices that are made to bounce as designed",
        bouncing,
    ),
    Test::new(
        "matrix.narrow",
        "each heap treats devices that do not reach all memory as designed",
        narrow,
    ),
    Test::new(
        "matrix.edu",
        "each heap treats a device that really does DMA as designed",
        edu,
    ),
    Test::new(
        "matrix.narrow_no_bounce",
        "without bounce buffers, a device cannot map a buffer that it does not reach",
        no_bounce,
    ),
    Test::new(
        "matrix.narrower_than_bounce",
        "a device that reaches neither a buffer nor bounce buffers cannot map it",
        narrower_than_bounce,
    ),
    Test::new(
        "matrix.maintenance",
        "a bracket maintains each mapping that needs it, in its own direction, and no other",
        maintenance,
    ),
];

/// A size that fits into a bounce buffer, in one block in every heap.
fn len() -> usize {
    (64 << 10) + page_size()
}

/// All heaps of the module, and the one to compare with.
pub fn heaps() -> Result<Vec<String>> {
    let entries = fs::read_dir("/dev/dma_heap").context("/dev/dma_heap")?;
    let mut heaps = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_ours(&name) || name == CONTROL {
            heaps.push(name);
        }
    }
    heaps.sort();
    ensure!(
        heaps.len() > 1,
        "expected heaps of the module, got {heaps:?}"
    );
    Ok(heaps)
}

fn unless_forced(setups: &[Setup]) -> Result<()> {
    drop(Importer::open()?);
    if bouncing_is_forced()? {
        return skip("every device bounces here: matrix.bouncing tests that");
    }
    all_heaps(setups)
}

fn bouncing(_options: &Options) -> Result<()> {
    drop(Importer::open()?);
    if !bouncing_is_forced()? {
        return skip("devices need not bounce here: try a guest with --append swiotlb=force");
    }
    all_heaps(&[Setup::SNOOPING, Setup::NOT_SNOOPING])
}

fn narrow(_options: &Options) -> Result<()> {
    drop(Importer::open()?);
    if !memory_is_beyond(32)? {
        return skip("all memory lies below 4 GiB: try a guest with --mem 5G");
    }
    let narrow = Setup::with_mask(32);
    all_heaps(&[
        narrow,
        Setup {
            snoops: false,
            ..narrow
        },
    ])
}

fn no_bounce(options: &Options) -> Result<()> {
    const BITS: u32 = 32;
    let line = fs::read_to_string("/proc/cmdline")?;
    if !memory_is_beyond(BITS)? || !line.contains("swiotlb=noforce") {
        return skip("try a guest with --mem 5G --append swiotlb=noforce");
    }
    refused_beyond(BITS)?;
    // A device that reaches all memory can still map a buffer.
    let importer = Importer::new(&Setup::SNOOPING)?;
    let attachment = importer.attach(&options.heap()?.alloc(len())?, Kind::Static)?;
    importer.map(attachment, Direction::Bidirectional)?;
    Ok(())
}

fn narrower_than_bounce(_options: &Options) -> Result<()> {
    // The kernel puts bounce buffers as high below 4 GiB as it can.
    const BITS: u32 = 28;
    let line = fs::read_to_string("/proc/cmdline")?;
    if !memory_is_beyond(32)? || line.contains("swiotlb=") {
        return skip("try a guest with --mem 5G, and without swiotlb=");
    }
    match Importer::new(&Setup::with_mask(BITS)) {
        Err(error) if error.downcast_ref() == Some(&Errno::IO) => {
            skip("this kernel has no memory for such devices (CONFIG_ZONE_DMA)")
        }
        importer => {
            importer?;
            refused_beyond(BITS)
        }
    }
}

/// A device cannot map a buffer that it does not reach. The kernel would warn of that.
fn refused_beyond(bits: u32) -> Result<()> {
    let narrow = Setup::with_mask(bits);
    let mut tried = false;
    for heap in heaps()?.into_iter().filter(|heap| is_ours(heap)) {
        let buffer = Heap::open(&heap)?.alloc(len())?;
        if bits_of(&heap, &buffer)? <= bits {
            continue;
        }
        let importer = Importer::new(&narrow)?;
        let attachment = match importer.attach(&buffer, Kind::Static) {
            Err(Errno::OPNOTSUPP) if !heap.ends_with("-noncoherent") => continue,
            attached => attached.with_context(|| heap.clone())?,
        };
        let mapped = importer.map(attachment, Direction::Bidirectional);
        expect_errno(&heap, mapped, Errno::IO)?;
        tried = true;
    }
    ensure!(tried, "expected a heap with memory beyond {bits} bits");
    Ok(())
}

fn edu(_options: &Options) -> Result<()> {
    drop(Importer::open()?);
    let mut setups = vec![Setup::EDU];
    if memory_is_beyond(32)? {
        setups.push(Setup {
            mask_bits: Some(32),
            ..Setup::EDU
        });
    }
    all_heaps(&setups)
}

fn all_heaps(setups: &[Setup]) -> Result<()> {
    for setup in setups {
        for heap in heaps()? {
            let opened = Heap::open(&heap)?;
            if !allocates(&heap)? {
                expect_errno(&heap, opened.alloc(len()), Errno::OPNOTSUPP)?;
                continue;
            }
            let buffer = opened.alloc(len())?;
            let reach = reach_buffer(setup, &heap, &buffer)?;
            let answer = answer(&heap, reach);
            println!("{heap}, {reach:?}: {answer:?}");
            let importer = Importer::open()?;
            let cell = Cell {
                buffer,
                name: importer.setup(setup)?,
                importer,
                range: range(setup),
                bracketed: answer == Answer::Bracketed,
                bounces: reach == Reach::Bouncing,
            };
            match answer {
                Answer::Refused => cell.refused(),
                Answer::Plain | Answer::Bracketed => cell.accepted(),
            }
            .with_context(|| format!("{heap}, {reach:?}, {setup:?}"))?;
        }
    }
    Ok(())
}

/// The bytes that a device reads and writes: all of them, or if that takes long, some
/// bytes on both sides of the end of a page.
fn range(setup: &Setup) -> Range<usize> {
    if setup.edu {
        page_size() - 100..page_size() + 101
    } else {
        0..len()
    }
}

/// A buffer of a heap, and a device.
struct Cell {
    buffer: Buffer,
    importer: Importer,
    /// The name of the device.
    name: String,
    range: Range<usize>,
    bracketed: bool,
    bounces: bool,
}

impl Cell {
    /// The device cannot attach, and others can still use the buffer.
    fn refused(&self) -> Result<()> {
        let buffer = &self.buffer;
        for kind in Kind::ALL {
            let seen = self.importer.attach(buffer, kind);
            expect_errno("attaching", seen, Errno::OPNOTSUPP)?;
        }
        self.expect_attached(buffer, 0)?;
        let vmap = self.importer.vmap(buffer)?;
        self.importer.kwrite(&vmap, 1, b"kernel")?;
        let mut seen = [0; 6];
        buffer.map()?.read(1, &mut seen);
        expect_bytes("the kernel's", &seen, b"kernel")
    }

    fn accepted(&self) -> Result<()> {
        for kind in Kind::ALL {
            for direction in Direction::ALL {
                self.transfer(kind, direction)
                    .with_context(|| format!("{kind:?}, {direction:?}"))?;
            }
        }
        Ok(())
    }

    /// Maps one attachment once, and transfers data in each direction of the mapping.
    fn transfer(&self, kind: Kind, direction: Direction) -> Result<()> {
        let buffer = &self.buffer;
        let process = buffer.map()?;
        let mut expected = pattern(len(), 1);
        process.write(0, &expected);

        let attachment = self.importer.attach(buffer, kind)?;
        let mapped = self.importer.map(attachment, direction)?;
        mapped.expect_whole(buffer)?;
        self.expect_attached(buffer, 1)?;
        self.expect_reads(&mapped, direction, &expected, "what was there before")?;

        // A device that only writes does not get what the CPU writes, if it bounces.
        if direction.reads() || !self.bounces {
            expected = pattern(len(), 2);
            self.for_cpu(buffer, || process.write(0, &expected))?;
            self.expect_reads(&mapped, direction, &expected, "what a process wrote")?;

            let vmap = self.importer.vmap(buffer)?;
            expected = pattern(len(), 3);
            self.for_cpu(buffer, || self.importer.kwrite(&vmap, 0, &expected))??;
            self.importer.vunmap(&vmap)?;
            self.expect_reads(&mapped, direction, &expected, "what the kernel wrote")?;
        }

        let by_device = pattern(self.range.len(), 4);
        let at = self.range.start as u64;
        let written = self.importer.write(&mapped, at, &by_device);
        if direction.writes() {
            written.context("writing")?;
            expected[self.range.clone()].copy_from_slice(&by_device);
            self.expect_cpu_reads(buffer, &process, &expected)?;
        } else {
            expect_errno("writing", written, Errno::ACCESS)?;
        }

        self.importer.unmap(&mapped)?;
        let seen = self.importer.read(&mapped, 0, 1);
        expect_errno("reading what is unmapped", seen, Errno::NOENT)?;
        self.importer.detach(attachment)?;
        self.expect_attached(buffer, 0)?;
        self.expect_cpu_reads(buffer, &process, &expected)
            .context("after unmapping")
    }

    /// Lets the CPU do something, in a bracket only if the design asks for one.
    fn for_cpu<T>(&self, buffer: &Buffer, access: impl FnOnce() -> T) -> Result<T> {
        Ok(if self.bracketed {
            buffer.bracketed(access)?
        } else {
            access()
        })
    }

    fn expect_attached(&self, buffer: &Buffer, times: usize) -> Result<()> {
        let seen = bufinfo::attached(buffer.inode())?;
        ensure!(
            seen == vec![self.name.clone(); times],
            "expected {} to be attached {times} times, got {seen:?}",
            self.name
        );
        Ok(())
    }

    fn expect_reads(
        &self,
        mapped: &Mapped,
        direction: Direction,
        expected: &[u8],
        what: &str,
    ) -> Result<()> {
        let at = self.range.start as u64;
        let seen = self.importer.read(mapped, at, self.range.len());
        if direction.reads() {
            let expected = &expected[self.range.clone()];
            expect_bytes(&format!("the device reads {what}"), &seen?, expected)
        } else {
            expect_errno("reading", seen, Errno::ACCESS)
        }
    }

    /// Fails unless both a process and the kernel see these bytes.
    fn expect_cpu_reads(&self, buffer: &Buffer, process: &Mapping, expected: &[u8]) -> Result<()> {
        let vmap = self.importer.vmap(buffer)?;
        if self.bracketed {
            buffer.sync((READ | WRITE).into())?;
        }
        let mut by_process = vec![0; len()];
        process.read(0, &mut by_process);
        let by_kernel = self.importer.kread(&vmap, 0, len())?;
        if self.bracketed {
            buffer.sync((READ | WRITE | END).into())?;
        }
        self.importer.vunmap(&vmap)?;
        expect_bytes("a process reads", &by_process, expected)?;
        expect_bytes("the kernel reads", &by_kernel, expected)
    }
}

/// A call of the DMA API in a bracket: event, device, direction.
type Call = (&'static str, String, String);

/// The calls for a buffer's mappings in a bracket for reading and writing.
fn calls(buffer: &Buffer) -> Result<Vec<Call>> {
    let recording = Recording::start(&[SYNC_FOR_CPU, SYNC_FOR_DEVICE])?;
    buffer.bracketed(|| ())?;
    let mut calls = Vec::new();
    for event in recording.events()? {
        for name in [SYNC_FOR_CPU, SYNC_FOR_DEVICE] {
            if event.is(name) {
                calls.push((name, event.subject.clone(), event.field("dir").to_owned()));
            }
        }
    }
    calls.sort();
    Ok(calls)
}

/// Whether this kernel traces the DMA API's calls for a device that does not snoop. On x86
/// it skips these calls for all devices, unless the DMA API is debugged.
pub fn calls_are_told(control: &Heap) -> Result<bool> {
    let buffer = control.alloc(len())?;
    let importer = Importer::new(&Setup::NOT_SNOOPING)?;
    let attachment = importer.attach(&buffer, Kind::Static)?;
    importer.map(attachment, Direction::Bidirectional)?;
    Ok(!calls(&buffer)?.is_empty())
}

/// A device that has the buffer mapped.
struct Maintained {
    importer: Importer,
    mapped: Mapped,
    /// The device and the direction of its calls.
    call: (String, String),
    writes: bool,
    bracketed: bool,
}

/// All devices use the same memory, so the caches are maintained once. There is one call before access
/// by devices, for one of the mappings that need maintenance. There is one call before access by the
/// CPU, for one of those that may have been written to. If a snooping device may have written to the
/// caches, one more call cleans them before that.
fn expect_one_call_each(
    heap: &str,
    devices: &[Maintained],
    snooping_writer: bool,
    seen: &[Call],
) -> Result<()> {
    let bracketed = devices.iter().any(|device| device.bracketed);
    let written = devices
        .iter()
        .any(|device| device.bracketed && device.writes);
    for (event, expected) in [
        (SYNC_FOR_CPU, usize::from(written)),
        (
            SYNC_FOR_DEVICE,
            usize::from(bracketed) + usize::from(written && snooping_writer),
        ),
    ] {
        let candidates: Vec<_> = devices
            .iter()
            .filter(|device| device.bracketed && (event == SYNC_FOR_DEVICE || device.writes))
            .map(|device| &device.call)
            .collect();
        let called: Vec<_> = seen.iter().filter(|call| call.0 == event).collect();
        let right = called.iter().all(|(_, name, direction)| {
            candidates
                .iter()
                .any(|call| (&call.0, &call.1) == (name, direction))
        });
        ensure!(
            right && called.len() == expected,
            "{heap}: expected {event} {expected} times for one of {candidates:?}, got {called:?}"
        );
    }
    Ok(())
}

fn maintenance(options: &Options) -> Result<()> {
    drop(Importer::open()?);
    if bouncing_is_forced()? {
        return skip("every device bounces here: the tests brackets.* see what a bracket does");
    }
    if !calls_are_told(&options.control()?)? {
        return skip("no calls are told of: try a kernel with CONFIG_DMA_API_DEBUG, or arm64");
    }
    // Each kind alone, and both together.
    for heap in heaps()?.iter().filter(|heap| is_ours(heap)) {
        for setups in [
            &[Setup::SNOOPING][..],
            &[Setup::NOT_SNOOPING],
            &[Setup::SNOOPING, Setup::NOT_SNOOPING],
        ] {
            maintenance_of(heap, setups)?;
        }
    }
    Ok(())
}

/// Tests devices of these kinds, with mappings in each direction.
fn maintenance_of(heap: &str, setups: &[Setup]) -> Result<()> {
    let buffer = Heap::open(heap)?.alloc(len())?;
    let mut devices = Vec::new();
    let mut snooping_writer = false;
    for setup in setups {
        let answer = answer(heap, reach(setup)?);
        if answer == Answer::Refused {
            continue;
        }
        snooping_writer |= setup.snoops;
        let directions = ["BIDIRECTIONAL", "TO_DEVICE", "FROM_DEVICE"];
        for (direction, called) in Direction::ALL.into_iter().zip(directions) {
            let importer = Importer::open()?;
            let name = importer.setup(setup)?;
            let attachment = importer.attach(&buffer, Kind::Static)?;
            let mapped = importer.map(attachment, direction)?;
            devices.push(Maintained {
                importer,
                mapped,
                call: (name, called.to_owned()),
                writes: direction.writes(),
                bracketed: answer == Answer::Bracketed,
            });
        }
    }
    // Mappings go one by one. Those that are gone must not be maintained any more.
    loop {
        expect_one_call_each(heap, &devices, snooping_writer, &calls(&buffer)?)?;
        let Some(device) = devices.pop() else { break };
        device.importer.unmap(&device.mapped)?;
    }
    Ok(())
}
