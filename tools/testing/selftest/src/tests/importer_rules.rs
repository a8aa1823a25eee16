// SPDX-License-Identifier: GPL-2.0

//! What devices of all kinds may do with a buffer, and what they and the CPU
//! see of each other's data. The devices are those of the module
//! `dmabuf_importer`; without it, the tests are skipped.

use super::Test;
use crate::bufinfo;
use crate::expect::{expect_errno, outcome, skip};
use crate::heap::{self, Buffer, Heap};
use crate::ioctl;
use crate::mapping::{Mapping, page_size};
use crate::memory::wait_until;
use crate::options::Options;
use crate::process::in_fork;
use crate::test_importer::{
    self, Attachment, Direction, Importer, KernelMapping, Kind, Mapped, RawSetup, Setup,
};
use crate::udmabuf;
use anyhow::{Context as _, Result, ensure};
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::io::Errno;
use rustix::process::Signal;
use std::fs::{self, File};
use std::time::Duration;

pub const TESTS: &[Test] = &[
    Test::new(
        "importer.snooping",
        "a device that snoops attaches and maps",
        snooping,
    ),
    Test::new(
        "importer.not_snooping",
        "a device that does not snoop gets EOPNOTSUPP",
        not_snooping,
    ),
    Test::new(
        "importer.no_mask",
        "a device without a DMA mask gets EOPNOTSUPP",
        no_mask,
    ),
    Test::new(
        "importer.masks",
        "a device that cannot reach all memory gets EOPNOTSUPP",
        masks,
    ),
    Test::new(
        "importer.mask_changed",
        "a mask that is too narrow when mapping is noticed",
        mask_changed,
    ),
    Test::new(
        "importer.attach_many",
        "devices attach several times, and detach in any order",
        attach_many,
    ),
    Test::new(
        "importer.map_many",
        "attachments are mapped several times, and unmapped in any order",
        map_many,
    ),
    Test::new(
        "importer.data",
        "devices, the kernel and processes see each other's bytes",
        data,
    ),
    Test::new(
        "importer.bounce",
        "a device that bounces sees its bounce buffer, and brackets bring it up to date",
        bounce,
    ),
    Test::new(
        "importer.vmap_place",
        "the kernel maps a buffer in one block where it is anyway",
        vmap_place,
    ),
    Test::new(
        "importer.cpu_access",
        "brackets from inside the kernel lose nothing",
        cpu_access,
    ),
    Test::new(
        "importer.query",
        "modules are told which buffers are for snooping devices",
        query,
    ),
    Test::new(
        "importer.foreign",
        "the devices of this test take buffers of other exporters",
        foreign,
    ),
    Test::new(
        "importer.bad_input",
        "wrong requests are refused, and harm nothing",
        bad_input,
    ),
    Test::new(
        "importer.parallel",
        "devices use one buffer at the same time",
        parallel,
    ),
    Test::new(
        "importer.left_open",
        "closing a device undoes what it has left",
        left_open,
    ),
    Test::new(
        "importer.killed",
        "killing a process undoes what its device was doing",
        killed,
    ),
];

const MIB: usize = 1 << 20;

/// More than any heap has in one block.
const SCATTERED: usize = 9 * MIB + 4096;

/// Whether DMA through bounce buffers was asked for on the kernel's command line.
fn bouncing_is_forced() -> Result<bool> {
    let line = fs::read_to_string("/proc/cmdline")?;
    let values = line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("swiotlb="));
    Ok(values
        .flat_map(|value| value.split(','))
        .any(|part| part == "force"))
}

/// The last address of memory.
fn last_address() -> Result<u64> {
    let text = fs::read_to_string("/proc/iomem").context("reading /proc/iomem")?;
    let ends = text.lines().filter_map(|line| {
        let range = line.strip_suffix(" : System RAM")?.trim();
        u64::from_str_radix(range.split_once('-')?.1, 16).ok()
    });
    let last = ends.max().unwrap_or_default();
    ensure!(last > 0, "expected System RAM in /proc/iomem, got:\n{text}");
    Ok(last)
}

/// Whether a device's DMA sees the CPU caches and reaches all memory.
fn is_capable(setup: &Setup) -> Result<bool> {
    let last = last_address()?;
    let reaches = |bits: u32| last.checked_shr(bits).unwrap_or(0) == 0;
    Ok(setup.snoops && setup.mask_bits.is_some_and(reaches) && !bouncing_is_forced()?)
}

/// A device that the heap under test must accept and map for.
fn suitable(options: &Options) -> Result<Importer> {
    let importer = Importer::new(&Setup::SNOOPING)?;
    match (
        bouncing_is_forced()?,
        options.heap_is_strict(),
        options.heap_is_ours(),
    ) {
        (true, true, _) => skip("every device bounces here, and this heap refuses them all"),
        (true, _, false) => {
            skip("every device bounces here, and this heap has blocks too large for that")
        }
        _ => Ok(importer),
    }
}

/// Lets a device attach to a buffer in both ways, once to the heap under test
/// and once to the in-tree heap, which refuses nobody.
fn check_attach(options: &Options, setup: &Setup) -> Result<()> {
    let capable = is_capable(setup)?;
    let expected = if capable || !options.heap_is_strict() {
        Ok(())
    } else {
        Err(Errno::OPNOTSUPP)
    };
    println!("{setup:?}: expecting {}", outcome(&expected));
    let importer = Importer::open()?;
    let name = importer.setup(setup)?;
    for kind in Kind::ALL {
        let buffer = options.heap()?.alloc(MIB)?;
        let seen = importer.attach(&buffer, kind);
        ensure!(
            seen.map(drop) == expected,
            "{setup:?}, {kind:?}: expected {}, got {}",
            outcome(&expected),
            outcome(&seen)
        );
        let attached = bufinfo::attached(buffer.inode())?;
        let listed = vec![name.clone(); usize::from(seen.is_ok())];
        ensure!(
            attached == listed,
            "{setup:?}, {kind:?}: expected {listed:?} to be attached, got {attached:?}"
        );
        // Others may have no room to bounce in.
        if let (Ok(attachment), true) = (seen, capable) {
            let mapped = importer.map(attachment, Direction::Bidirectional)?;
            check_segments(&buffer, &mapped)?;
        }
        let control = options.control()?.alloc(MIB)?;
        importer
            .attach(&control, kind)
            .with_context(|| format!("{setup:?}, {kind:?}: the in-tree heap"))?;
    }
    Ok(())
}

/// A mapping covers the whole buffer.
fn check_segments(buffer: &Buffer, mapped: &Mapped) -> Result<()> {
    let good = mapped.length == buffer.size() as u64
        && mapped.segments > 0
        && mapped.largest <= mapped.length
        && mapped.largest * u64::from(mapped.segments) >= mapped.length;
    ensure!(
        good,
        "expected a mapping of {} bytes, got {mapped:?}",
        buffer.size()
    );
    Ok(())
}

fn snooping(options: &Options) -> Result<()> {
    check_attach(options, &Setup::SNOOPING)?;
    // What the driver leaves unsaid must not matter either.
    check_attach(
        options,
        &Setup {
            max_segment_size: 0,
            ..Setup::SNOOPING
        },
    )
}

fn not_snooping(options: &Options) -> Result<()> {
    check_attach(options, &Setup::NOT_SNOOPING)
}

fn no_mask(options: &Options) -> Result<()> {
    check_attach(options, &Setup::NO_MASK)?;
    // A driver that maps nevertheless has a bug, which this one does not have.
    let importer = Importer::new(&Setup::NO_MASK)?;
    let buffer = options.control()?.alloc(4096)?;
    let attachment = importer.attach(&buffer, Kind::Static)?;
    let seen = importer.map(attachment, Direction::ToDevice);
    expect_errno("mapping without a mask", seen, Errno::INVAL)
}

fn masks(options: &Options) -> Result<()> {
    let mut tried = 0;
    for bits in [24, 28, 30, 31, 32, 33, 36, 40, 48, 63] {
        // Of what is too narrow for any memory, the DMA API itself says so.
        match Importer::open()?.setup(&Setup::with_mask(bits)) {
            Err(Errno::IO) if bits < 32 => continue,
            seen => seen.with_context(|| format!("a mask of {bits} bits"))?,
        };
        check_attach(options, &Setup::with_mask(bits))?;
        tried += 1;
    }
    ensure!(
        tried >= 6,
        "expected 6 of the masks to be possible, got {tried}"
    );
    Ok(())
}

fn mask_changed(options: &Options) -> Result<()> {
    options.need_strict_heap()?;
    let importer = suitable(options)?;
    if last_address()? >> 32 == 0 {
        return skip("all memory lies below 4 GiB: try a guest with --mem 5G");
    }
    let buffer = options.heap()?.alloc(MIB)?;
    for kind in Kind::ALL {
        importer.set_mask(64)?;
        let attachment = importer.attach(&buffer, kind)?;
        let mapped = importer.map(attachment, Direction::ToDevice)?;
        expect_errno(
            "a new mask while mapped",
            importer.set_mask(32),
            Errno::BUSY,
        )?;
        importer.unmap(&mapped)?;
        importer.set_mask(32)?;
        let seen = importer.map(attachment, Direction::ToDevice);
        expect_errno("mapping with a narrower mask", seen, Errno::OPNOTSUPP)?;
        let seen = importer.attach(&buffer, kind);
        expect_errno("attaching with a narrower mask", seen, Errno::OPNOTSUPP)?;
        importer.set_mask(64)?;
        let again = importer.map(attachment, Direction::ToDevice);
        importer.unmap(&again.context("mapping with the first mask again")?)?;
        importer.detach(attachment)?;
    }
    Ok(())
}

/// All orders of three things.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

fn attach_many(options: &Options) -> Result<()> {
    let (one, other) = (suitable(options)?, Importer::new(&Setup::SNOOPING)?);
    let heap = options.heap()?;
    for order in ORDERS {
        let (first, second) = (heap.alloc(MIB)?, heap.alloc(4096)?);
        let attachments = [
            (&one, &first, one.attach(&first, Kind::Static)?),
            (&one, &first, one.attach(&first, Kind::Dynamic)?),
            (&other, &first, other.attach(&first, Kind::Dynamic)?),
        ];
        let elsewhere = one.attach(&second, Kind::Static)?;
        let mut left = attachments.len();
        for (importer, buffer, attachment) in order.map(|number| attachments[number]) {
            let seen = bufinfo::attached(buffer.inode())?.len();
            ensure!(
                seen == left,
                "{order:?}: expected {left} attachments, got {seen}"
            );
            let mapped = importer.map(attachment, Direction::Bidirectional)?;
            importer.unmap(&mapped)?;
            importer.detach(attachment)?;
            left -= 1;
            let again = importer.detach(attachment);
            expect_errno("detaching again", again, Errno::NOENT)?;
        }
        ensure!(
            bufinfo::attached(first.inode())?.is_empty(),
            "{order:?}: something is still attached"
        );
        let seen = bufinfo::attached(second.inode())?.len();
        ensure!(
            seen == 1,
            "the other buffer: expected 1 attachment, got {seen}"
        );
        one.detach(elsewhere)?;
    }
    Ok(())
}

fn map_many(options: &Options) -> Result<()> {
    // The in-tree heap has one table for all mappings of an attachment.
    options.need_our_heap()?;
    let importer = suitable(options)?;
    for len in [64 << 10, SCATTERED] {
        let buffer = options.heap()?.alloc(len)?;
        let mapping = buffer.map()?;
        for (tag, order) in (0..).zip(ORDERS) {
            for kinds in [
                [Kind::Static; 3],
                [Kind::Dynamic; 3],
                [Kind::Static, Kind::Dynamic, Kind::Dynamic],
            ] {
                buffer.bracketed(|| mapping.stamp(tag))?;
                let shared = importer.attach(&buffer, kinds[0])?;
                let attachments = [shared, shared, importer.attach(&buffer, kinds[1])?];
                let own = attachments[2];
                let mut maps = Vec::new();
                for (attachment, direction) in attachments.into_iter().zip(Direction::ALL) {
                    let mapped = importer.map(attachment, direction)?;
                    check_segments(&buffer, &mapped)?;
                    maps.push((mapped, direction));
                }
                for attachment in [shared, own] {
                    expect_errno(
                        "detaching while mapped",
                        importer.detach(attachment),
                        Errno::BUSY,
                    )?;
                }
                for number in order {
                    let (mapped, direction) = maps[number];
                    check_permissions(&importer, &mapped, direction)?;
                    importer.unmap(&mapped)?;
                    expect_errno("unmapping again", importer.unmap(&mapped), Errno::NOENT)?;
                    let seen = importer.read(&mapped, 0, 1);
                    expect_errno("reading what is unmapped", seen, Errno::NOENT)?;
                }
                importer.detach(shared)?;
                importer.detach(own)?;
                buffer.bracketed(|| mapping.expect_stamped("after unmapping", tag, 0))??;
            }
        }
    }
    Ok(())
}

/// A device can do what the direction permits, and nothing else.
fn check_permissions(importer: &Importer, mapped: &Mapped, direction: Direction) -> Result<()> {
    let len = page_size() + 2;
    let offset = mapped.length - len as u64;
    let read = importer.read(mapped, offset, len);
    let write = |data: &[u8]| importer.write(mapped, offset, data);
    match &read {
        Ok(data) => {
            ensure!(
                direction.reads(),
                "{direction:?}: expected EACCES for reading"
            );
            let stamp = data.last_chunk::<8>();
            ensure!(
                stamp.is_some_and(|stamp| stamp != &[0; 8]),
                "read no stamp: {stamp:?}"
            );
            if direction.writes() {
                write(data)?;
            } else {
                expect_errno(
                    "a write to a buffer mapped for reading",
                    write(data),
                    Errno::ACCESS,
                )?;
            }
            Ok(())
        }
        Err(_) => {
            ensure!(
                !direction.reads(),
                "{direction:?}: reading: {}",
                outcome(&read)
            );
            expect_errno("a read of a buffer mapped for writing", read, Errno::ACCESS)
        }
    }
}

/// Bytes that differ from one another nearby, and by `seed`.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_ne_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Those who read and write a buffer.
struct Users<'a> {
    buffer: &'a Buffer,
    process: Mapping,
    importer: &'a Importer,
    vmap: KernelMapping,
    /// Mappings of two attachments, for reading and writing and for one of the two.
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

/// Everybody writes the whole buffer, and then a part of it that begins and
/// ends anywhere; everybody reads it. With bounce buffers a device that does
/// not know of the other mappings would overwrite them.
fn data(options: &Options) -> Result<()> {
    let importer = suitable(options)?;
    if bouncing_is_forced()? {
        return skip("through bounce buffers, several mappings do not see each other");
    }
    for len in [4096, 64 << 10, SCATTERED] {
        let buffer = options.heap()?.alloc(len)?;
        let users = Users::new(&buffer, &importer)?;
        println!("{len} bytes: {:?}, {:?}", users.both, users.vmap);
        for (seed, writer) in (1..).zip(USERS) {
            let mut expected = pattern(len, seed);
            users.write(writer, 0, &expected)?;
            let (offset, part) = (len / 3 + 1, pattern(len / 2 + 1, seed + 100));
            expected[offset..offset + part.len()].copy_from_slice(&part);
            users.write(writer, offset, &part)?;
            for reader in USERS {
                let seen = users.read(reader, 0, len)?;
                let wrong = seen
                    .iter()
                    .zip(&expected)
                    .position(|(seen, expected)| seen != expected);
                ensure!(
                    wrong.is_none() && seen.len() == len,
                    "{len} bytes, written by the {writer}: the {reader} sees something else from {wrong:x?} on"
                );
                let seen = users.read(reader, offset, part.len())?;
                ensure!(
                    seen == part,
                    "{len} bytes, written by the {writer}: the {reader} sees something else at {offset:#x}"
                );
            }
        }
    }
    Ok(())
}

/// With bounce buffers in between, it shows whether a device really goes the
/// way that its DMA addresses name.
fn bounce(options: &Options) -> Result<()> {
    let importer = Importer::new(&Setup::SNOOPING)?;
    if !bouncing_is_forced()? {
        return skip("devices need not bounce here: try a guest with --append swiotlb=force");
    }
    let heap = options.control()?;
    for kind in Kind::ALL {
        let buffer = heap.alloc(64 << 10)?;
        let len = buffer.size();
        let process = buffer.map()?;
        let read = |offset: usize, len| {
            let mut bytes = vec![0; len];
            process.read(offset, &mut bytes);
            bytes
        };
        let (before, by_device, by_process) = (pattern(len, 1), pattern(len, 2), pattern(len, 3));
        process.write(0, &before);
        let attachment = importer.attach(&buffer, kind)?;
        let mapped = importer.map(attachment, Direction::Bidirectional)?;
        ensure!(
            importer.read(&mapped, 0, len)? == before,
            "{kind:?}: mapping did not bring the device what the process had written"
        );
        importer.write(&mapped, 0, &by_device)?;
        ensure!(
            read(0, len) == before,
            "{kind:?}: without a bracket the process sees what the device wrote"
        );
        buffer.sync(heap::READ.into())?;
        ensure!(
            read(0, len) == by_device,
            "{kind:?}: a bracket did not bring the process what the device had written"
        );
        buffer.sync((heap::READ | heap::END).into())?;
        process.write(0, &by_process);
        ensure!(
            importer.read(&mapped, 0, len)? == by_device,
            "{kind:?}: without a bracket the device sees what the process wrote"
        );
        importer.end_cpu_access(&buffer, Direction::ToDevice)?;
        ensure!(
            importer.read(&mapped, 0, len)? == by_process,
            "{kind:?}: the end of a bracket did not bring the device what the process had written"
        );
        importer.write(&mapped, 1, b"last")?;
        importer.unmap(&mapped)?;
        ensure!(
            read(1, 4) == b"last",
            "{kind:?}: unmapping lost what the device had written"
        );
    }
    Ok(())
}

fn vmap_place(options: &Options) -> Result<()> {
    if options.heap.ends_with("-uncached") {
        return skip("only cached memory is used at the address that it has anyway");
    }
    options.need_our_heap()?;
    let importer = Importer::open()?;
    let device = suitable(options)?;
    for len in [4096, 64 << 10, MIB, SCATTERED] {
        let buffer = options.heap()?.alloc(len)?;
        let attachment = device.attach(&buffer, Kind::Static)?;
        let segments = device.map(attachment, Direction::ToDevice)?.segments;
        if (segments == 1) != (len < SCATTERED) {
            return skip(format!(
                "{len} bytes came in {segments} blocks: try on a fresh system"
            ));
        }
        let first = importer.vmap(&buffer)?;
        let second = importer.vmap(&buffer)?;
        for vmap in [first, second] {
            ensure!(
                vmap.in_vmalloc_area == (segments > 1),
                "{len} bytes in {segments} blocks: got {vmap:?}"
            );
        }
        // The kernel counts its users; the first to go leaves the other a mapping.
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
        for (tag, direction) in (0..).zip(Direction::ALL) {
            let begin = || importer.begin_cpu_access(&buffer, direction);
            let end = || importer.end_cpu_access(&buffer, direction);
            begin()?;
            begin().context("nested")?;
            mapping.stamp(tag);
            end()?;
            // One of a process inside one of the kernel.
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
        return skip("not every exporter looks after bounce buffers");
    }
    drop(importer);
    let mut buffers = vec![
        ("the in-tree heap", options.control()?.alloc(MIB)?),
        ("udmabuf", udmabuf::alloc(64 << 10)?),
    ];
    if let Ok(heap) = Heap::open("default_cma_region") {
        buffers.push(("default_cma_region", heap.alloc(MIB)?));
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
                check_segments(buffer, &mapped).with_context(context)?;
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

fn bad_input(options: &Options) -> Result<()> {
    let importer = Importer::open()?;
    let buffer = options.control()?.alloc(8192)?;
    let seen = importer.attach(&buffer, Kind::Static);
    expect_errno("attaching before anything is set up", seen, Errno::NODEV)?;
    expect_errno(
        "a mask before anything is set up",
        importer.set_mask(64),
        Errno::NODEV,
    )?;
    let good = RawSetup {
        mask_bits: 64,
        ..RawSetup::default()
    };
    for bad in [
        RawSetup { flags: 4, ..good },
        RawSetup { flags: 2, ..good },
        RawSetup {
            mask_bits: 0,
            ..good
        },
        RawSetup {
            mask_bits: 65,
            ..good
        },
        RawSetup {
            segment_boundary: 0x1000,
            ..good
        },
    ] {
        expect_errno("a wrong set-up", importer.raw_setup(&bad), Errno::INVAL)?;
    }
    // SAFETY: Nothing can be read or written at address 0.
    let seen = unsafe { ioctl::at_address(&importer, test_importer::SETUP, 0) };
    expect_errno("a set-up at a null pointer", seen, Errno::FAULT)?;
    // SAFETY: The module knows no such ioctl.
    let seen = unsafe { ioctl::at_address(&importer, rustix::ioctl::opcode::none(0xf7, 99), 0) };
    expect_errno("an unknown ioctl", seen, Errno::NOTTY)?;
    importer.raw_setup(&good)?;
    expect_errno("a second set-up", importer.raw_setup(&good), Errno::BUSY)?;

    // SAFETY: Nobody owns it. It is passed to be refused.
    let closed = unsafe { BorrowedFd::borrow_raw(1_000_000) };
    let file = File::open("/dev/null")?;
    for (fd, errno) in [(closed, Errno::BADF), (file.as_fd(), Errno::INVAL)] {
        for kind in Kind::ALL {
            expect_errno("attaching to no dma-buf", importer.attach(fd, kind), errno)?;
        }
        expect_errno("vmap of no dma-buf", importer.vmap(fd), errno)?;
        expect_errno("a query of no dma-buf", importer.query(fd), errno)?;
        let seen = importer.begin_cpu_access(fd, Direction::ToDevice);
        expect_errno("a bracket of no dma-buf", seen, errno)?;
    }

    let attachment = importer.attach(&buffer, Kind::Static)?;
    let seen = importer.raw_map(attachment, 3);
    expect_errno("mapping in no direction", seen, Errno::INVAL)?;
    let seen = importer.map(Attachment(attachment.0 + 1), Direction::ToDevice);
    expect_errno("mapping nothing", seen, Errno::NOENT)?;
    let mapped = importer.map(attachment, Direction::Bidirectional)?;
    let vmap = importer.vmap(&buffer)?;
    for (offset, len) in [(8192, 1), (8191, 2), (0, 8193), (u64::MAX, 1), (1 << 40, 8)] {
        let what = format!("{len} bytes at {offset:#x} of 8192");
        let bytes = vec![0; len];
        expect_errno(&what, importer.read(&mapped, offset, len), Errno::INVAL)?;
        expect_errno(&what, importer.write(&mapped, offset, &bytes), Errno::INVAL)?;
        expect_errno(&what, importer.kread(&vmap, offset, len), Errno::INVAL)?;
        expect_errno(&what, importer.kwrite(&vmap, offset, &bytes), Errno::INVAL)?;
    }
    importer.write(&mapped, 8192, &[])?;
    importer.kwrite(&vmap, 8192, &[])?;
    expect_errno(
        "unmapping an attachment",
        importer.unmap(&Mapped {
            handle: attachment.0,
            ..mapped
        }),
        Errno::NOENT,
    )
}

fn parallel(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    drop(suitable(options)?);
    let buffer = &options.heap()?.alloc(SCATTERED)?;
    buffer.bracketed(|| -> Result<()> {
        buffer.map()?.stamp(1);
        Ok(())
    })??;
    let worker = |number: usize| -> Result<()> {
        let importer = Importer::new(&Setup::SNOOPING)?;
        // Each has pages of its own to write.
        let offset = (number * page_size()) as u64;
        for round in 0..100 {
            let kind = Kind::ALL[round % 2];
            let attachment = importer.attach(buffer, kind)?;
            let mapped = importer.map(attachment, Direction::Bidirectional)?;
            let vmap = importer.vmap(buffer)?;
            let bytes = pattern(page_size(), (number * 1000 + round) as u64);
            importer.write(&mapped, offset, &bytes)?;
            importer.begin_cpu_access(buffer, Direction::FromDevice)?;
            let seen = importer.kread(&vmap, offset, bytes.len())?;
            importer.end_cpu_access(buffer, Direction::FromDevice)?;
            ensure!(
                seen == bytes,
                "round {round}: the kernel sees something else"
            );
            importer.unmap(&mapped)?;
            importer.vunmap(&vmap)?;
            importer.detach(attachment)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| scope.spawn(move || worker(number)))
            .collect();
        let mut results = threads.into_iter().map(|thread| thread.join());
        results.try_for_each(|result| result.unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })
}

/// Does everything that can be left undone, and names the device.
fn leave_open(importer: &Importer, buffer: &Buffer) -> Result<String> {
    let name = importer.setup(&Setup::SNOOPING)?;
    for kind in Kind::ALL {
        let attachment = importer.attach(buffer, kind)?;
        importer.attach(buffer, kind)?;
        importer.map(attachment, Direction::Bidirectional)?;
    }
    importer.vmap(buffer)?;
    importer.vmap(buffer)?;
    importer.begin_cpu_access(buffer, Direction::Bidirectional)?;
    Ok(name)
}

/// Fails unless neither the buffer nor the device is there any more.
fn expect_gone(inode: u64, name: &str, when: &str) -> Result<()> {
    let gone = wait_until(Duration::from_secs(5), || {
        let listed = bufinfo::list()?.iter().any(|listed| listed.inode == inode);
        Ok(!listed && !test_importer::sysfs(name).exists())
    })?;
    ensure!(gone, "{when}: the buffer or the device {name} still exists");
    Ok(())
}

fn left_open(options: &Options) -> Result<()> {
    drop(suitable(options)?);
    let heap = options.heap()?;
    for round in 0..100 {
        let buffer = heap.alloc([4096, MIB, SCATTERED][round % 3])?;
        let inode = buffer.inode();
        let importer = Importer::open()?;
        let name = leave_open(&importer, &buffer)?;
        ensure!(
            test_importer::sysfs(&name).exists(),
            "there is no device {name}"
        );
        // Neither has to be the last to go.
        if round % 2 == 0 {
            drop(buffer);
            let seen = bufinfo::attached(inode)?.len();
            ensure!(
                seen == 4,
                "after closing the buffer: expected 4 attachments, got {seen}"
            );
            drop(importer);
        } else {
            drop(importer);
            let seen = bufinfo::attached(inode)?;
            ensure!(
                seen.is_empty(),
                "after closing the device: {seen:?} attached"
            );
            buffer
                .map()?
                .expect_zeroed("a buffer whose device was closed")?;
            drop(buffer);
        }
        expect_gone(inode, &name, &format!("round {round}"))?;
    }
    Ok(())
}

/// The devices of the test module that exist.
fn devices() -> Result<Vec<String>> {
    let entries = fs::read_dir("/sys/devices/faux")?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let ours = |name: &Result<String>| {
        name.as_ref()
            .is_ok_and(|name| name.starts_with("dmabuf_importer."))
    };
    names.filter(ours).collect()
}

fn killed(options: &Options) -> Result<()> {
    drop(suitable(options)?);
    let heap = options.heap()?;
    for round in 0..20 {
        let buffer = heap.alloc(SCATTERED)?;
        let survived = in_fork(|| {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5 + round));
                rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)
            });
            let busy = || -> Result<()> {
                let importer = Importer::open()?;
                leave_open(&importer, &buffer)?;
                loop {
                    let attachment = importer.attach(&buffer, Kind::Dynamic)?;
                    let mapped = importer.map(attachment, Direction::Bidirectional)?;
                    importer.read(&mapped, 0, buffer.size())?;
                    importer.vmap(&buffer)?;
                }
            };
            println!("expected to be killed, got {:?}", busy());
            true
        })?;
        ensure!(!survived, "the fork was not killed");
        let gone = wait_until(Duration::from_secs(5), || {
            Ok(bufinfo::attached(buffer.inode())?.is_empty() && devices()?.is_empty())
        })?;
        ensure!(
            gone,
            "round {round}: {:?} still attached, {:?} still there",
            bufinfo::attached(buffer.inode())?,
            devices()?
        );
        buffer
            .map()?
            .expect_zeroed("a buffer that only the killed process used")?;
    }
    Ok(())
}
