// SPDX-License-Identifier: GPL-2.0

//! The effect of brackets around CPU access, and that nothing else has it.
//!
//! Emulators have no caches. A bounce buffer is between CPU and device just as caches
//! are: without the right bracket, one of the two sees stale bytes. So the device here
//! is one that bounces. The heaps are those that take such a device, the in-tree heap
//! `system` among them. If nothing bounces, `matrix.maintenance` checks the calls of
//! the DMA API instead.

use super::Test;
use super::matrix::heaps;
use crate::expect::skip;
use crate::heap::{Buffer, END, Heap, READ, WRITE};
use crate::mapping::Mapping;
use crate::options::{Options, is_ours};
use crate::pattern::{expect_bytes, pattern};
use crate::reach::{Answer, Reach, answer, bouncing, bouncing_is_forced, reach_buffer};
use crate::test_importer::{Attachment, Direction, Importer, Kind, Mapped, Setup};
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;

pub const TESTS: &[Test] = &[
    Test::new(
        "brackets.device_writes",
        "the CPU sees what a device wrote after the start of a bracket, not before",
        |_| each(device_writes),
    ),
    Test::new(
        "brackets.cpu_writes",
        "a device sees what the CPU wrote after the end of a bracket, not before",
        |_| each(cpu_writes),
    ),
    Test::new(
        "brackets.write_keeps",
        "a bracket for writing keeps what a device wrote beside the CPU's bytes",
        |_| each(write_keeps),
    ),
    Test::new(
        "brackets.unmapping",
        "after unmapping the CPU sees what the device wrote, without a bracket",
        |_| each(unmapping),
    ),
    Test::new(
        "brackets.several",
        "a bracket works for all mappings of all attachments",
        |_| each(several),
    ),
    Test::new(
        "brackets.pass_on",
        "a bracket passes on what one device wrote to another device",
        |_| each(pass_on),
    ),
    Test::new(
        "brackets.one_of_two",
        "a device that bounces and one that does not both see the right bytes",
        one_of_two,
    ),
    Test::new(
        "brackets.no_room",
        "mapping fails while there is no free bounce buffer, and works again afterwards",
        no_room,
    ),
    Test::new(
        "brackets.midway",
        "a device may attach and map in the middle of a bracket",
        |_| each(midway),
    ),
    Test::new(
        "brackets.nested",
        "brackets nest if all of them are opened before anything is written",
        |_| each(nested),
    ),
    Test::new(
        "brackets.closed",
        "brackets work if the CPU or a device has no mapping",
        |_| each(closed),
    ),
    Test::new(
        "brackets.descriptors",
        "one descriptor may open a bracket, and another may close it",
        |_| each(descriptors),
    ),
];

/// A size that is one block in every heap, and fits into a bounce buffer.
const LEN: usize = 64 << 10;

const RW: u32 = READ | WRITE;

/// A buffer, and a device that bounces.
struct Stage {
    buffer: Buffer,
    process: Mapping,
    importer: Importer,
    /// Whether the buffer's heap is one of the module's.
    is_ours: bool,
}

/// Runs a test with each heap that takes devices that bounce, once with a device that snoops and
/// once with one that does not.
fn each(test: fn(&Stage) -> Result<()>) -> Result<()> {
    let bouncing = bouncing()?;
    let mut tried = Vec::new();
    for heap in heaps()? {
        if answer(&heap, Reach::Bouncing) == Answer::Refused {
            continue;
        }
        for snoops in [true, false] {
            let setup = Setup { snoops, ..bouncing };
            let stage = Stage::new(&heap, &setup)?;
            if reach_buffer(&setup, &heap, &stage.buffer)? != Reach::Bouncing {
                println!("{heap}: the device reaches its memory, so nothing bounces");
                continue;
            }
            test(&stage).with_context(|| format!("{heap}, {setup:?}"))?;
            tried.push(heap.clone());
        }
    }
    tried.dedup();
    println!("{}", tried.join(", "));
    Ok(())
}

impl Stage {
    fn new(heap: &str, setup: &Setup) -> Result<Self> {
        let buffer = Heap::open(heap)?.alloc(LEN)?;
        let process = buffer.map()?;
        process.write(0, &pattern(LEN, 0));
        Ok(Self {
            process,
            buffer,
            importer: Importer::new(setup)?,
            is_ours: is_ours(heap),
        })
    }

    fn attach(&self, kind: Kind) -> Result<Attachment> {
        Ok(self.importer.attach(&self.buffer, kind)?)
    }

    fn map(&self, kind: Kind, direction: Direction) -> Result<Mapped> {
        Ok(self.importer.map(self.attach(kind)?, direction)?)
    }

    fn start(&self, flags: u32) -> Result<()> {
        Ok(self.buffer.sync(flags.into())?)
    }

    fn end(&self, flags: u32) -> Result<()> {
        Ok(self.buffer.sync((flags | END).into())?)
    }

    fn write(&self, seed: u64) {
        self.process.write(0, &pattern(LEN, seed));
    }

    fn device_writes(&self, mapped: &Mapped, seed: u64) -> Result<()> {
        Ok(self.importer.write(mapped, 0, &pattern(LEN, seed))?)
    }

    /// The CPU sees the pattern of `seed`.
    fn sees(&self, what: &str, seed: u64) -> Result<()> {
        let mut seen = vec![0; LEN];
        self.process.read(0, &mut seen);
        expect_bytes(&format!("the CPU, {what}"), &seen, &pattern(LEN, seed))
    }

    /// The device sees the pattern of `seed`.
    fn device_sees(&self, what: &str, mapped: &Mapped, seed: u64) -> Result<()> {
        let seen = self.importer.read(mapped, 0, LEN)?;
        expect_bytes(&format!("the device, {what}"), &seen, &pattern(LEN, seed))
    }
}

fn device_writes(stage: &Stage) -> Result<()> {
    let mut now = 0;
    for kind in Kind::ALL {
        for direction in [Direction::FromDevice, Direction::Bidirectional] {
            let mapped = stage.map(kind, direction)?;
            for flags in [READ, WRITE, RW] {
                // The in-tree heap depends on the direction of the bracket.
                if flags == WRITE && !stage.is_ours {
                    continue;
                }
                let context = || format!("{kind:?}, {direction:?}, flags {flags}");
                stage.device_writes(&mapped, now + 1)?;
                stage
                    .sees("without a bracket: expected stale bytes", now)
                    .with_context(context)?;
                stage.start(flags)?;
                now += 1;
                stage.sees("in a bracket", now).with_context(context)?;
                stage.end(flags)?;
                stage.sees("after it", now).with_context(context)?;
            }
            // The same through the functions that drivers call.
            let vmap = stage.importer.vmap(&stage.buffer)?;
            stage.device_writes(&mapped, now + 1)?;
            let stale = stage.importer.kread(&vmap, 0, LEN)?;
            expect_bytes(
                "the kernel, without a bracket: expected stale bytes",
                &stale,
                &pattern(LEN, now),
            )?;
            now += 1;
            stage
                .importer
                .begin_cpu_access(&stage.buffer, Direction::FromDevice)?;
            let seen = stage.importer.kread(&vmap, 0, LEN)?;
            expect_bytes("the kernel, in a bracket", &seen, &pattern(LEN, now))?;
            stage
                .importer
                .end_cpu_access(&stage.buffer, Direction::FromDevice)?;
            stage.importer.vunmap(&vmap)?;
            stage.importer.unmap(&mapped)?;
        }
    }
    Ok(())
}

fn cpu_writes(stage: &Stage) -> Result<()> {
    let mut now = 0;
    for kind in Kind::ALL {
        for direction in [Direction::ToDevice, Direction::Bidirectional] {
            let mapped = stage.map(kind, direction)?;
            let context = || format!("{kind:?}, {direction:?}");
            stage
                .device_sees("after mapping", &mapped, now)
                .with_context(context)?;
            for flags in [WRITE, RW] {
                stage.start(flags)?;
                stage.write(now + 1);
                stage
                    .device_sees("in a bracket: expected stale bytes", &mapped, now)
                    .with_context(context)?;
                stage.end(flags)?;
                now += 1;
                stage
                    .device_sees("after a bracket", &mapped, now)
                    .with_context(context)?;
            }
            stage.write(now + 1);
            stage
                .device_sees("without a bracket: expected stale bytes", &mapped, now)
                .with_context(context)?;
            // The end alone is enough.
            stage
                .importer
                .end_cpu_access(&stage.buffer, Direction::ToDevice)?;
            now += 1;
            stage
                .device_sees("after an end", &mapped, now)
                .with_context(context)?;
            stage.importer.unmap(&mapped)?;
        }
    }
    Ok(())
}

fn write_keeps(stage: &Stage) -> Result<()> {
    if !stage.is_ours {
        return Ok(());
    }
    let mapped = stage.map(Kind::Static, Direction::Bidirectional)?;
    stage.device_writes(&mapped, 1)?;
    stage.start(WRITE)?;
    stage.process.write(4000, b"by the CPU");
    stage.end(WRITE)?;
    let mut expected = pattern(LEN, 1);
    expected[4000..4010].copy_from_slice(b"by the CPU");
    let seen = stage.importer.read(&mapped, 0, LEN)?;
    expect_bytes("the device", &seen, &expected)?;
    let mut seen = vec![0; LEN];
    stage.process.read(0, &mut seen);
    expect_bytes("the CPU", &seen, &expected)
}

fn unmapping(stage: &Stage) -> Result<()> {
    for (kind, seed) in Kind::ALL.into_iter().zip(1..) {
        let mapped = stage.map(kind, Direction::FromDevice)?;
        stage.device_writes(&mapped, seed)?;
        stage.sees("while mapped: expected stale bytes", seed - 1)?;
        stage.importer.unmap(&mapped)?;
        stage.sees("after unmapping", seed)?;
    }
    Ok(())
}

/// Another device, two attachments of one device, one attachment mapped twice.
fn several(stage: &Stage) -> Result<()> {
    let other = Importer::new(&bouncing()?)?;
    let twice = stage.attach(Kind::Static)?;
    let mut own = vec![
        stage.importer.map(twice, Direction::ToDevice)?,
        stage.map(Kind::Dynamic, Direction::ToDevice)?,
    ];
    // The in-tree heap has one table for all mappings of an attachment.
    if stage.is_ours {
        own.push(stage.importer.map(twice, Direction::ToDevice)?);
    }
    let attachment = other.attach(&stage.buffer, Kind::Static)?;
    let others = other.map(attachment, Direction::Bidirectional)?;
    for seed in 1..4 {
        stage.start(RW)?;
        stage.write(seed);
        stage.end(RW)?;
        for mapped in &own {
            stage.device_sees("one of several mappings", mapped, seed)?;
        }
        let seen = other.read(&others, 0, LEN)?;
        expect_bytes("the other device", &seen, &pattern(LEN, seed))?;
    }
    // In the in-tree heap, the mappings that only read would overwrite what the device wrote.
    if !stage.is_ours {
        return Ok(());
    }
    other.write(&others, 0, &pattern(LEN, 4))?;
    stage.sees("without a bracket: expected stale bytes", 3)?;
    stage.start(READ)?;
    stage.sees("in a bracket", 4)?;
    stage.end(READ)
}

/// A camera and a display.
fn pass_on(stage: &Stage) -> Result<()> {
    let display = Importer::new(&bouncing()?)?;
    let camera = stage.map(Kind::Static, Direction::FromDevice)?;
    let attachment = display.attach(&stage.buffer, Kind::Dynamic)?;
    let shown = display.map(attachment, Direction::ToDevice)?;
    let shows = |what: &str, seed| {
        let seen = display.read(&shown, 0, LEN)?;
        expect_bytes(&format!("the display, {what}"), &seen, &pattern(LEN, seed))
    };
    for seed in 1..4 {
        stage.device_writes(&camera, seed)?;
        shows("without a bracket: expected stale bytes", seed - 1)?;
        stage.start(RW)?;
        stage.sees("in a bracket", seed)?;
        stage.end(RW)?;
        shows("after a bracket", seed)?;
    }
    Ok(())
}

fn one_of_two(_options: &Options) -> Result<()> {
    bouncing()?;
    if bouncing_is_forced()? {
        return skip("every device bounces here: try a guest with --mem 5G");
    }
    each(beside_direct)
}

/// Beside the device that bounces is one that does not.
fn beside_direct(stage: &Stage) -> Result<()> {
    let direct = Importer::new(&Setup::SNOOPING)?;
    let attachment = direct.attach(&stage.buffer, Kind::Static)?;
    let whole = direct.map(attachment, Direction::Bidirectional)?;
    let bounced = stage.map(Kind::Static, Direction::ToDevice)?;
    let mut now = 0;
    for _ in 0..3 {
        // From the CPU to both devices.
        stage.start(WRITE)?;
        stage.write(now + 1);
        stage.device_sees("in a bracket: expected stale bytes", &bounced, now)?;
        stage.end(WRITE)?;
        now += 1;
        stage.device_sees("after a bracket", &bounced, now)?;
        let seen = direct.read(&whole, 0, LEN)?;
        expect_bytes("the other device", &seen, &pattern(LEN, now))?;
        // In the in-tree heap, the mapping that only reads would overwrite what the device wrote.
        if !stage.is_ours {
            continue;
        }
        // From one device to the CPU and to the other device.
        direct.write(&whole, 0, &pattern(LEN, now + 1))?;
        stage.start(RW)?;
        now += 1;
        stage.sees("in a bracket", now)?;
        stage.end(RW)?;
        stage.device_sees("after a bracket, by the other", &bounced, now)?;
    }
    Ok(())
}

fn midway(stage: &Stage) -> Result<()> {
    for kind in Kind::ALL {
        for direction in [Direction::ToDevice, Direction::Bidirectional] {
            stage.start(RW)?;
            stage.write(1);
            let mapped = stage.map(kind, direction)?;
            stage.device_sees("mapped in a bracket", &mapped, 1)?;
            stage.write(2);
            stage.device_sees("later in it: expected stale bytes", &mapped, 1)?;
            stage.end(RW)?;
            stage.device_sees("after it", &mapped, 2)?;
            if direction.writes() {
                stage.device_writes(&mapped, 3)?;
                stage.start(RW)?;
                stage.sees("in the next bracket", 3)?;
                stage.end(RW)?;
                stage.importer.unmap(&mapped)?;
            } else {
                // A mapping that only reads may be undone at any time.
                stage.start(RW)?;
                stage.write(4);
                stage.importer.unmap(&mapped)?;
                stage.sees("after unmapping in a bracket", 4)?;
                stage.end(RW)?;
                stage.sees("after it", 4)?;
            }
        }
    }
    Ok(())
}

fn nested(stage: &Stage) -> Result<()> {
    let mapped = stage.map(Kind::Static, Direction::Bidirectional)?;
    let mut now = 0;
    for inner in [READ, WRITE, RW] {
        stage.device_writes(&mapped, now + 1)?;
        now += 1;
        stage.start(RW)?;
        stage.start(inner)?;
        stage.sees("in both brackets", now)?;
        stage.write(now + 1);
        stage.end(inner)?;
        if inner != READ {
            stage.device_sees("after the inner bracket", &mapped, now + 1)?;
        }
        stage.write(now + 2);
        stage.end(RW)?;
        now += 2;
        stage.device_sees("after both brackets", &mapped, now)?;
        // The kernel does not check that starts and ends come in pairs.
        stage.end(RW)?;
        stage.device_sees("after an end too much", &mapped, now)?;
    }
    Ok(())
}

fn no_room(options: &Options) -> Result<()> {
    if !bouncing_is_forced()? {
        return skip("devices need not bounce here: try a guest with --append swiotlb=force");
    }
    let importer = Importer::new(&Setup::SNOOPING)?;
    let buffer = options.heap()?.alloc(64 << 10)?;
    let attachment = importer.attach(&buffer, Kind::Static)?;
    let map = || importer.map(attachment, Direction::Bidirectional);
    let mut all = Vec::new();
    let errno = loop {
        ensure!(all.len() < 2000, "there is room for more than 125 MiB");
        match map() {
            Ok(mapped) => all.push(mapped),
            Err(errno) => break errno,
        }
    };
    println!("{} mappings, and then {errno}", all.len());
    ensure!(
        !all.is_empty() && [Errno::IO, Errno::NOMEM].contains(&errno),
        "expected mappings, and then EIO or ENOMEM, got {} and {errno}",
        all.len()
    );
    // A failed mapping blocks nothing else.
    buffer.bracketed(|| ())?;
    for mapped in &all {
        importer.unmap(mapped)?;
    }
    let mapped = map().context("when there is room again")?;
    mapped.expect_whole(&buffer)
}

fn closed(stage: &Stage) -> Result<()> {
    // The process unmaps before it ends the bracket.
    let mapped = stage.map(Kind::Static, Direction::Bidirectional)?;
    let mapping = stage.buffer.map()?;
    stage.start(RW)?;
    mapping.write(0, &pattern(LEN, 1));
    drop(mapping);
    stage.device_sees("in a bracket: expected stale bytes", &mapped, 0)?;
    stage.end(RW)?;
    stage.device_sees("after munmap and the end", &mapped, 1)?;
    // The device unmaps, and then detaches, in the middle of a bracket.
    stage.start(READ)?;
    stage.importer.unmap(&mapped)?;
    stage.end(RW)?;
    stage.sees("after unmapping in a bracket", 1)?;
    let attachment = stage.attach(Kind::Dynamic)?;
    stage.start(RW)?;
    stage.importer.detach(attachment)?;
    stage.write(2);
    stage.end(RW)?;
    // No device has a mapping, so a bracket has nothing to do.
    stage.start(RW)?;
    stage.sees("in a bracket without devices", 2)?;
    stage.end(RW)?;
    let mapped = stage.map(Kind::Static, Direction::ToDevice)?;
    stage.device_sees("mapped after all that", &mapped, 2)
}

fn descriptors(stage: &Stage) -> Result<()> {
    let other = Buffer::from_fd(rustix::io::dup(&stage.buffer)?)?;
    let mapped = stage.map(Kind::Static, Direction::Bidirectional)?;
    stage.device_writes(&mapped, 1)?;
    other.sync(RW.into())?;
    stage.sees("in a bracket of the other descriptor", 1)?;
    other.map()?.write(0, &pattern(LEN, 2));
    stage.end(RW)?;
    stage.device_sees("after its end by the first", &mapped, 2)?;
    stage.start(RW)?;
    stage.write(3);
    let in_child = crate::process::in_fork(|| other.sync((RW | END).into()).is_ok())?;
    ensure!(in_child, "a child could not close the bracket");
    drop(other);
    stage.device_sees("after its end by a child", &mapped, 3)
}
