// SPDX-License-Identifier: GPL-2.0

//! Devices, the kernel and processes read each other's data, and modules ask what a
//! buffer is. The devices are those of the module `dmabuf_importer`.

use super::Test;
use crate::expect::{expect_errno, skip};
use crate::heap::{Buffer, Heap};
use crate::mapping::{Mapping, page_size};
use crate::memory::{eventually, make_blocks};
use crate::options::{CONTIGUOUS_CONTROL, Options, is_contiguous};
use crate::pattern::{expect_bytes, pattern};
use crate::reach::{self, accepted_by, bouncing_is_forced, suitable};
use crate::test_importer::{Direction, Importer, KernelMapping, Kind, Mapped, SCATTERED, Setup};
use crate::udmabuf;
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;

const MIB: usize = 1 << 20;

pub const TESTS: &[Test] = &[
    Test::new(
        "importer.data",
        "devices, the kernel and processes see each other's bytes",
        data,
    ),
    Test::new(
        "importer.many_segments",
        "a device with segments of one page gets all pages in the right order",
        many_segments,
    ),
    Test::new(
        "importer.vmap_place",
        "vmap of a buffer in one block returns its address in the direct mapping",
        vmap_place,
    ),
    Test::new(
        "importer.cpu_access",
        "brackets from inside the kernel lose nothing",
        cpu_access,
    ),
    Test::new(
        "importer.query",
        "modules can ask whether a buffer is only for snooping devices",
        query,
    ),
    Test::new(
        "importer.foreign",
        "the test's devices take buffers of other exporters, too",
        foreign,
    ),
];

/// A process, the kernel and devices that read and write one buffer.
struct Users<'a> {
    buffer: &'a Buffer,
    process: Mapping,
    importer: &'a Importer,
    vmap: KernelMapping,
    /// Mappings of three attachments: for reading and writing, for reading, and for writing.
    both: Mapped,
    reads: Mapped,
    writes: Mapped,
}

const USERS: [&str; 4] = ["process", "kernel", "device", "device, one way"];

impl<'a> Users<'a> {
    fn new(buffer: &'a Buffer, importer: &'a Importer) -> Result<Self> {
        let fixed = importer.attach(buffer, Kind::Static)?;
        let moving = importer.attach(buffer, Kind::Dynamic)?;
        let apart = importer.attach(buffer, Kind::Dynamic)?;
        Ok(Self {
            buffer,
            process: buffer.map()?,
            importer,
            vmap: importer.vmap(buffer)?,
            both: importer.map(fixed, Direction::Bidirectional)?,
            reads: importer.map(moving, Direction::ToDevice)?,
            writes: importer.map(apart, Direction::FromDevice)?,
        })
    }

    fn write(&self, user: &str, offset: usize, bytes: &[u8]) -> Result<()> {
        let at = offset as u64;
        match user {
            "process" => self
                .buffer
                .bracketed(|| self.process.write(offset, bytes))?,
            "kernel" => {
                self.importer
                    .begin_cpu_access(self.buffer, Direction::Bidirectional)?;
                self.importer.kwrite(&self.vmap, at, bytes)?;
                self.importer
                    .end_cpu_access(self.buffer, Direction::Bidirectional)?;
            }
            "device" => self.importer.write(&self.both, at, bytes)?,
            _ => self.importer.write(&self.writes, at, bytes)?,
        }
        Ok(())
    }

    fn read(&self, user: &str, offset: usize, len: usize) -> Result<Vec<u8>> {
        let at = offset as u64;
        Ok(match user {
            "process" => {
                let mut bytes = vec![0; len];
                self.buffer
                    .bracketed(|| self.process.read(offset, &mut bytes))?;
                bytes
            }
            "kernel" => {
                self.importer
                    .begin_cpu_access(self.buffer, Direction::Bidirectional)?;
                let bytes = self.importer.kread(&self.vmap, at, len)?;
                self.importer
                    .end_cpu_access(self.buffer, Direction::Bidirectional)?;
                bytes
            }
            "device" => self.importer.read(&self.both, at, len)?,
            _ => self.importer.read(&self.reads, at, len)?,
        })
    }
}

/// More segments than fit into a page, so that the table is a chain of pages.
fn many_segments(options: &Options) -> Result<()> {
    drop(suitable(options)?);
    let importer = Importer::new(&Setup {
        max_segment_size: page_size() as u32,
        ..accepted_by(&options.heap)
    })?;
    let buffer = options.heap()?.alloc(SCATTERED)?;
    let expected = pattern(SCATTERED, 1);
    let mapping = buffer.map()?;
    buffer.bracketed(|| mapping.write(0, &expected))?;
    let attachment = importer.attach(&buffer, Kind::Static)?;
    let mapped = importer.map(attachment, Direction::ToDevice)?;
    mapped.expect_whole(&buffer)?;
    ensure!(
        mapped.largest == page_size() as u64,
        "expected segments of a page, got {mapped:?}"
    );
    let seen = importer.read(&mapped, 0, SCATTERED)?;
    expect_bytes("what the device reads", &seen, &expected)
}

fn data(options: &Options) -> Result<()> {
    let importer = suitable(options)?;
    if bouncing_is_forced()? {
        return skip("everything bounces here, so mappings do not see each other's data");
    }
    for len in [4096, 64 << 10, SCATTERED] {
        expect_agreement(&options.heap()?.alloc(len)?, &importer)?;
    }
    Ok(())
}

/// Each user writes the whole buffer, and then a part that begins and ends anywhere. All
/// users read both. With bounce buffers, a device would overwrite what came through
/// another mapping.
pub(super) fn expect_agreement(buffer: &Buffer, importer: &Importer) -> Result<()> {
    let len = buffer.size();
    let users = Users::new(buffer, importer)?;
    println!("{len} bytes: {:?}, {:?}", users.both, users.vmap);
    for (seed, writer) in (1..).zip(USERS) {
        let mut expected = pattern(len, seed);
        users.write(writer, 0, &expected)?;
        let (offset, part) = (len / 3 + 1, pattern(len / 2 + 1, seed + 100));
        expected[offset..offset + part.len()].copy_from_slice(&part);
        users.write(writer, offset, &part)?;
        for reader in USERS {
            let seen = users.read(reader, 0, len)?;
            let what = format!("{len} bytes, written by the {writer}, read by the {reader}");
            expect_bytes(&what, &seen, &expected)?;
            let seen = users.read(reader, offset, part.len())?;
            expect_bytes(&format!("{what} from {offset:#x} on"), &seen, &part)?;
        }
    }
    Ok(())
}

fn vmap_place(options: &Options) -> Result<()> {
    if options.heap.ends_with("-uncached") {
        return skip("only cached memory is used at its address in the direct mapping");
    }
    options.need_our_heap()?;
    let importer = Importer::open()?;
    let device = suitable(options)?;
    for len in [4096, 64 << 10, MIB, SCATTERED] {
        let one_block = len < SCATTERED || is_contiguous(&options.heap);
        let mut made = None;
        let good = eventually(|| {
            drop(made.take());
            if one_block {
                make_blocks(len.next_power_of_two() / page_size(), 2)?;
            }
            let buffer = options.heap()?.alloc(len)?;
            let attachment = device.attach(&buffer, Kind::Static)?;
            let mapped = device.map(attachment, Direction::ToDevice)?;
            device.unmap(&mapped)?;
            device.detach(attachment)?;
            let segments = mapped.segments as usize;
            made = Some((buffer, segments));
            Ok(!one_block || segments == reach::segments(len)?)
        })?;
        let (buffer, segments) = made.context("no buffer was made")?;
        ensure!(good, "{len} bytes came in {segments} segments");
        let first = importer.vmap(&buffer)?;
        let second = importer.vmap(&buffer)?;
        for vmap in [first, second] {
            ensure!(
                vmap.in_vmalloc_area != one_block,
                "{len} bytes in {segments} segments: got {vmap:?}"
            );
        }
        // The kernel counts the users of the mapping. When the first goes, the second keeps it.
        importer.kwrite(&first, 0, b"first")?;
        importer.vunmap(&first)?;
        ensure!(
            importer.kread(&second, 0, 5)? == b"first",
            "one vunmap of two undid both"
        );
        importer.kwrite(&second, len as u64 - 1, b"!")?;
        importer.vunmap(&second)?;
        expect_errno("vunmap again", importer.vunmap(&second), Errno::NOENT)?;
        let mut last = [0];
        buffer.map()?.read(len - 1, &mut last);
        ensure!(
            &last == b"!",
            "expected what the kernel wrote, got {last:?}"
        );
    }
    Ok(())
}

fn cpu_access(options: &Options) -> Result<()> {
    let importer = suitable(options)?;
    let buffer = options.heap()?.alloc(SCATTERED)?;
    let mapping = buffer.map()?;
    let attachment = importer.attach(&buffer, Kind::Static)?;
    for mapped in [false, true] {
        if mapped {
            importer.map(attachment, Direction::Bidirectional)?;
        }
        let mut tag = 0;
        for direction in Direction::ALL {
            // With a bounce buffer, bytes that are written in a bracket for reading are lost.
            let writes = direction != Direction::FromDevice || !bouncing_is_forced()?;
            let begin = || importer.begin_cpu_access(&buffer, direction);
            let end = || importer.end_cpu_access(&buffer, direction);
            begin()?;
            begin().context("nested")?;
            if writes {
                tag += 1;
                mapping.stamp(tag);
            }
            end()?;
            // A bracket of a process inside a bracket of the kernel.
            buffer.bracketed(|| mapping.expect_stamped("in the outer bracket", tag, 0))??;
            end()?;
            end().context("an end too much")?;
            buffer.bracketed(|| mapping.expect_stamped("after all brackets", tag, 0))??;
        }
    }
    Ok(())
}

fn query(options: &Options) -> Result<()> {
    let importer = Importer::open()?;
    let mut cases = vec![
        (
            options.heap()?.alloc(MIB)?,
            options.heap.as_str(),
            options.heap_is_strict(),
        ),
        (options.control()?.alloc(MIB)?, "the in-tree heap", false),
    ];
    match udmabuf::alloc(64 << 10) {
        Ok(buffer) => cases.push((buffer, "udmabuf", false)),
        Err(error) => println!("without udmabuf: {error:#}"),
    }
    for (buffer, what, expected) in &cases {
        let seen = importer.query(buffer)?;
        ensure!(
            seen == (*expected, *expected),
            "{what}: expected {expected} from Rust and from C, got {seen:?}"
        );
    }
    Ok(())
}

fn foreign(options: &Options) -> Result<()> {
    let importer = Importer::open()?;
    if bouncing_is_forced()? {
        return skip("everything bounces here, and not every exporter maintains bounce buffers");
    }
    drop(importer);
    let mut buffers = vec![
        ("the in-tree heap", options.control()?.alloc(MIB)?),
        ("udmabuf", udmabuf::alloc(64 << 10)?),
    ];
    if let Ok(heap) = Heap::open(CONTIGUOUS_CONTROL) {
        buffers.push((CONTIGUOUS_CONTROL, heap.alloc(MIB)?));
    }
    for setup in [Setup::SNOOPING, Setup::NOT_SNOOPING] {
        for (what, buffer) in &buffers {
            let importer = Importer::new(&setup)?;
            for kind in Kind::ALL {
                let context = || format!("{what}, {setup:?}, {kind:?}");
                let attachment = importer.attach(buffer, kind).with_context(context)?;
                let mapped = importer
                    .map(attachment, Direction::Bidirectional)
                    .with_context(context)?;
                mapped.expect_whole(buffer).with_context(context)?;
                let bytes = pattern(buffer.size(), 7);
                importer.write(&mapped, 0, &bytes).with_context(context)?;
                importer
                    .begin_cpu_access(buffer, Direction::FromDevice)
                    .with_context(context)?;
                let vmap = importer.vmap(buffer).with_context(context)?;
                let seen = importer
                    .kread(&vmap, 0, bytes.len())
                    .with_context(context)?;
                importer
                    .end_cpu_access(buffer, Direction::FromDevice)
                    .with_context(context)?;
                ensure!(
                    seen == bytes,
                    "{}: the kernel sees something else",
                    context()
                );
                importer.vunmap(&vmap)?;
                importer.unmap(&mapped)?;
                importer.detach(attachment)?;
            }
        }
    }
    Ok(())
}
