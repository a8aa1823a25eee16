// SPDX-License-Identifier: GPL-2.0

//! Several devices and the CPU use one buffer at the same time. The devices are
//! those of the module `dmabuf_importer`.

use super::Test;
use crate::expect::skip;
use crate::heap::{BLOCK, Buffer, END, Heap, READ};
use crate::mapping::{Mapping, page_size};
use crate::options::Options;
use crate::pattern::{expect_bytes, pattern};
use crate::reach::{Answer, answer, bouncing_is_forced, reach, suitable};
use crate::test_importer::{Attachment, Direction, Importer, Kind, Mapped, SCATTERED, Setup};
use anyhow::{Context as _, Result, bail, ensure};
use std::sync::Barrier;

pub const TESTS: &[Test] = &[
    Test::new(
        "parallel.own_pages",
        "devices write different pages of one buffer at the same time",
        own_pages,
    ),
    Test::new(
        "parallel.devices_read",
        "devices that come and go read what the CPU has written in brackets",
        devices_read,
    ),
    Test::new(
        "parallel.device_writes",
        "threads read in brackets what a device wrote, while others come and go",
        device_writes,
    ),
    Test::new(
        "parallel.mapped_meanwhile",
        "a device reads what the CPU wrote in a bracket while it was being mapped",
        mapped_meanwhile,
    ),
    Test::new(
        "parallel.snooping_writer",
        "what a snooping device wrote stays when another device is synchronised or unmapped",
        snooping_writer,
    ),
];

type Task<'a> = Box<dyn FnOnce() -> Result<()> + Send + 'a>;

/// Runs all tasks at the same time, and waits for all of them. Fails if one of them fails.
fn together(tasks: Vec<Task<'_>>) -> Result<()> {
    let start = &Barrier::new(tasks.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = tasks
            .into_iter()
            .map(|task| {
                scope.spawn(move || {
                    start.wait();
                    task()
                })
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        for result in results {
            result.unwrap_or_else(|_| bail!("a thread panicked"))?;
        }
        Ok(())
    })
}

/// Devices of all kinds that the heap takes.
fn devices(options: &Options) -> Result<Vec<Setup>> {
    drop(suitable(options)?);
    let mut setups = Vec::new();
    for setup in [Setup::SNOOPING, Setup::NOT_SNOOPING] {
        if answer(&options.heap, reach(&setup)?) != Answer::Refused {
            setups.push(setup);
        }
    }
    ensure!(!setups.is_empty(), "the heap takes no device");
    Ok(setups)
}

fn own_pages(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let setups = &devices(options)?;
    if bouncing_is_forced()? {
        return skip("everything bounces here, so devices overwrite each other's pages");
    }
    let buffer = &options.heap()?.alloc(SCATTERED)?;
    buffer.bracketed(|| -> Result<()> {
        buffer.map()?.stamp(1);
        Ok(())
    })??;
    let worker = |setup: &Setup, number: usize| -> Result<()> {
        let importer = Importer::new(setup)?;
        // Each device writes its own pages.
        let offset = (number * page_size()) as u64;
        for round in 0..options.rounds {
            let kind = Kind::ALL[round % 2];
            let attachment = importer.attach(buffer, kind)?;
            let mapped = importer.map(attachment, Direction::Bidirectional)?;
            let vmap = importer.vmap(buffer)?;
            let bytes = pattern(page_size(), (number * 1000 + round) as u64);
            importer.write(&mapped, offset, &bytes)?;
            importer.begin_cpu_access(buffer, Direction::FromDevice)?;
            let seen = importer.kread(&vmap, offset, bytes.len())?;
            importer.end_cpu_access(buffer, Direction::FromDevice)?;
            expect_bytes(&format!("round {round}: the kernel"), &seen, &bytes)?;
            importer.unmap(&mapped)?;
            importer.vunmap(&vmap)?;
            importer.detach(attachment)?;
        }
        Ok(())
    };
    // Not both kinds at once: a bracket cleans and invalidates caches for the kind that does not snoop.
    // Only fences would protect from that what the other kind is just writing.
    for setup in setups {
        together(
            (0..4)
                .map(|number| Box::new(move || worker(setup, number)) as Task)
                .collect(),
        )?;
    }
    Ok(())
}

/// A size that is one block, and fits into a bounce buffer.
const LEN: usize = 64 << 10;

/// A device that comes and goes.
struct Visitor<'a> {
    importer: Importer,
    buffer: &'a Buffer,
    direction: Direction,
    held: Option<(Attachment, Mapped)>,
    times: usize,
}

impl<'a> Visitor<'a> {
    fn new(setup: &Setup, buffer: &'a Buffer, direction: Direction) -> Result<Self> {
        Ok(Self {
            importer: Importer::new(setup)?,
            buffer,
            direction,
            held: None,
            times: 0,
        })
    }

    fn come(&mut self) -> Result<Mapped> {
        if let Some((_, mapped)) = self.held {
            return Ok(mapped);
        }
        let kind = Kind::ALL[self.times % 2];
        self.times += 1;
        let attachment = self.importer.attach(self.buffer, kind)?;
        let mapped = self.importer.map(attachment, self.direction)?;
        self.held = Some((attachment, mapped));
        Ok(mapped)
    }

    fn go(&mut self) -> Result<()> {
        if let Some((attachment, mapped)) = self.held.take() {
            self.importer.unmap(&mapped)?;
            self.importer.detach(attachment)?;
        }
        Ok(())
    }

    /// Comes and goes, and stays at the end.
    fn visit(&mut self, times: usize) -> Result<()> {
        for _ in 0..times {
            self.go()?;
            self.come()?;
        }
        Ok(())
    }

    fn expect(&mut self, what: &str, expected: &[u8]) -> Result<()> {
        let mapped = self.come()?;
        expect_bytes(what, &self.importer.read(&mapped, 0, LEN)?, expected)
    }
}

/// Several visitors of all kinds that the heap takes.
fn visitors<'a>(options: &Options, buffer: &'a Buffer) -> Result<Vec<Visitor<'a>>> {
    let setups = devices(options)?;
    let setups = setups.iter().cycle().take(3);
    setups
        .map(|setup| Visitor::new(setup, buffer, Direction::ToDevice))
        .collect()
}

/// Reads in a bracket of its own.
fn cpu_reads(buffer: &Buffer, mapping: &Mapping, expected: &[u8]) -> Result<()> {
    let mut seen = vec![0; LEN];
    buffer.sync(READ.into())?;
    mapping.read(0, &mut seen);
    buffer.sync((READ | END).into())?;
    expect_bytes("the CPU, in a bracket", &seen, expected)
}

/// A device may map the buffer before a bracket, in the middle of it, or when it is ending.
/// In each case it sees what was written once the bracket has ended.
fn devices_read(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let buffer = &options.heap()?.alloc(LEN)?;
    let mapping = &buffer.map()?;
    let mut visitors = visitors(options, buffer)?;
    for round in 0..10 * options.rounds {
        let expected = &pattern(LEN, round as u64);
        // In every other round only one device comes, and it comes just then.
        let alone = round % 2 == 1;
        if alone {
            visitors.iter_mut().try_for_each(Visitor::go)?;
        }
        let coming = if alone { 1 } else { visitors.len() };
        let mut tasks: Vec<Task> = Vec::new();
        for (number, visitor) in visitors.iter_mut().take(coming).enumerate() {
            let times = if alone { 1 } else { (round + number) % 3 };
            tasks.push(Box::new(move || visitor.visit(times)));
        }
        tasks.push(Box::new(move || {
            Ok(buffer.bracketed(|| mapping.write(0, expected))?)
        }));
        together(tasks).with_context(|| format!("round {round}, writing"))?;

        let mut tasks: Vec<Task> = Vec::new();
        for visitor in &mut visitors {
            tasks.push(Box::new(|| visitor.expect("a device", expected)));
        }
        for _ in 0..2 {
            tasks.push(Box::new(|| cpu_reads(buffer, mapping, expected)));
        }
        together(tasks).with_context(|| format!("round {round}, reading"))?;
    }
    Ok(())
}

/// A device may unmap the buffer before a bracket or when it is beginning. In each case the
/// CPU sees in the bracket what the device wrote.
fn device_writes(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let buffer = &options.heap()?.alloc(LEN)?;
    let mapping = &buffer.map()?;
    let mut visitors = visitors(options, buffer)?;
    let setups = devices(options)?;
    let setup = &setups[setups.len() - 1];
    let mut writer = Visitor::new(setup, buffer, Direction::FromDevice)?;
    for round in 0..10 * options.rounds {
        let expected = &pattern(LEN, round as u64);
        let mapped = writer.come()?;
        writer.importer.write(&mapped, 0, expected)?;

        let mut tasks: Vec<Task> = Vec::new();
        for visitor in &mut visitors {
            tasks.push(Box::new(|| visitor.visit(1)));
        }
        for _ in 0..2 {
            tasks.push(Box::new(|| cpu_reads(buffer, mapping, expected)));
        }
        if round % 4 != 0 {
            tasks.push(Box::new(|| writer.go()));
        }
        together(tasks).with_context(|| format!("round {round}"))?;

        for visitor in &mut visitors {
            visitor.go()?;
            visitor
                .expect("a device that came later", expected)
                .with_context(|| format!("round {round}"))?;
        }
    }
    Ok(())
}

/// The CPU writes the first page that the device maps. If nothing bounces, only caches could keep those
/// bytes from the device. So under emulation only the cache checker sees a mistake.
fn mapped_meanwhile(options: &Options) -> Result<()> {
    let setups = devices(options)?;
    let importer = &Importer::new(&setups[setups.len() - 1])?;
    let len = if bouncing_is_forced()? { LEN } else { BLOCK };
    let buffer = &options.heap()?.alloc(len)?;
    let mapping = &buffer.map()?;
    let attachment = importer.attach(buffer, Kind::Static)?;
    for round in 0..options.rounds {
        let expected = &pattern(page_size(), round as u64);
        let mut mapped = None;
        together(vec![
            Box::new(|| {
                mapped = Some(importer.map(attachment, Direction::ToDevice)?);
                Ok(())
            }),
            Box::new(|| Ok(buffer.bracketed(|| mapping.write(0, expected))?)),
        ])?;
        let mapped = mapped.context("a device that was not mapped")?;
        let seen = importer.read(&mapped, 0, expected.len())?;
        expect_bytes(&format!("round {round}: the device"), &seen, expected)?;
        importer.unmap(&mapped)?;
    }
    Ok(())
}

/// What the snooping device writes may be only in the caches, and these are invalidated for the other
/// device. The heap takes both devices. QEMU has no caches, so only the cache checker sees lost bytes.
fn snooping_writer(_: &Options) -> Result<()> {
    drop(Importer::open()?);
    if bouncing_is_forced()? {
        return skip("everything bounces here, so devices overwrite each other's pages");
    }
    let buffer = &Heap::open("system-noncoherent")?.alloc(LEN)?;
    let mapping = &buffer.map()?;
    let snooping = &Importer::new(&Setup::SNOOPING)?;
    let other = &Importer::new(&Setup::NOT_SNOOPING)?;
    let there = other.attach(buffer, Kind::Static)?;
    let sees = |what: &str, expected: &[u8]| -> Result<()> {
        let mut seen = vec![0; LEN];
        buffer.bracketed(|| mapping.read(0, &mut seen))?;
        expect_bytes(what, &seen, expected)
    };
    // It makes no difference whether the snooping device has unmapped when the other is synchronised.
    for unmap in [false, true] {
        let mapped = other.map(there, Direction::Bidirectional)?;
        let attachment = snooping.attach(buffer, Kind::Static)?;
        let writer = snooping.map(attachment, Direction::FromDevice)?;
        let expected = &pattern(LEN, 1 + u64::from(unmap));
        snooping.write(&writer, 0, expected)?;
        if unmap {
            snooping.unmap(&writer)?;
        }
        sees("the CPU in a bracket", expected)?;
        let seen = other.read(&mapped, 0, LEN)?;
        expect_bytes("the other device after it", &seen, expected)?;

        let expected = &pattern(LEN, 3 + u64::from(unmap));
        let writer = match unmap {
            true => snooping.map(attachment, Direction::FromDevice)?,
            false => writer,
        };
        snooping.write(&writer, 0, expected)?;
        other.unmap(&mapped)?;
        sees("the CPU after unmapping", expected)?;
        snooping.unmap(&writer)?;
        snooping.detach(attachment)?;
    }
    Ok(())
}
