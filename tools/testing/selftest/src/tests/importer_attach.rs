// SPDX-License-Identifier: GPL-2.0

//! Which devices may attach and map, how often, and in which order they may undo it.
//! The devices are those of the module `dmabuf_importer`.

use super::Test;
use crate::bufinfo;
use crate::expect::{expect_errno, outcome, skip};
use crate::heap_files::Files;
use crate::mapping::page_size;
use crate::options::Options;
use crate::reach::{
    Answer, Reach, accepted_by, answer, bits_of, memory_is_beyond, reach_buffer, suitable,
};
use crate::test_importer::{Direction, Importer, Kind, Mapped, SCATTERED, Setup};
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;

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
        "a device that cannot reach a buffer gets EOPNOTSUPP",
        masks,
    ),
    Test::new(
        "importer.mask_changed",
        "mapping fails if the DMA mask has become too narrow since attaching",
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
];

const MIB: usize = 1 << 20;

/// Lets a device attach in both ways to a buffer of the heap under test, and to one of the
/// in-tree heap, which refuses no device.
fn check_attach(options: &Options, setup: &Setup) -> Result<()> {
    let importer = Importer::open()?;
    let name = importer.setup(setup)?;
    for kind in Kind::ALL {
        let buffer = options.heap()?.alloc(MIB)?;
        // A device without DMA reaches no memory.
        let (refused, capable) = match setup.mask_bits {
            Some(_) => {
                let reach = reach_buffer(setup, &options.heap, &buffer)?;
                let refused = answer(&options.heap, reach) == Answer::Refused;
                (refused, reach != Reach::Bouncing)
            }
            None => (options.heap_is_strict(), false),
        };
        let expected = if refused {
            Err(Errno::OPNOTSUPP)
        } else {
            Ok(())
        };
        println!("{setup:?}: expecting {}", outcome(&expected));
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
        // For other devices there may be no free bounce buffers.
        if let (Ok(attachment), true) = (seen, capable) {
            let mapped = importer.map(attachment, Direction::Bidirectional)?;
            mapped.expect_whole(&buffer)?;
        }
        let control = options.control()?.alloc(MIB)?;
        importer
            .attach(&control, kind)
            .with_context(|| format!("{setup:?}, {kind:?}: the in-tree heap"))?;
    }
    Ok(())
}

fn snooping(options: &Options) -> Result<()> {
    check_attach(options, &Setup::SNOOPING)?;
    // A driver may leave its largest segment unset.
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
    let setup = Setup {
        snoops: accepted_by(&options.heap).snoops,
        ..Setup::NO_MASK
    };
    check_attach(options, &setup)?;
    // A driver that maps without a mask has a bug. The heap must keep the kernel from warning.
    let importer = Importer::new(&setup)?;
    let buffer = options.control()?.alloc(4096)?;
    let attachment = importer.attach(&buffer, Kind::Static)?;
    let seen = importer.map(attachment, Direction::ToDevice);
    expect_errno("mapping without a mask", seen, Errno::INVAL)?;
    if options.heap_is_ours() && !options.heap_is_strict() {
        let buffer = options.heap()?.alloc(4096)?;
        let files = Files::of(&options.heap);
        for kind in Kind::ALL {
            let attachment = importer.attach(&buffer, kind)?;
            let refused = files.number("refused")?;
            let seen = importer.map(attachment, Direction::ToDevice);
            expect_errno("mapping without a mask", seen, Errno::OPNOTSUPP)?;
            ensure!(
                files.number("refused")? == refused + 1,
                "expected the refusal to be counted"
            );
        }
    }
    Ok(())
}

fn masks(options: &Options) -> Result<()> {
    let mut tried = 0;
    for bits in [24, 28, 30, 31, 32, 33, 36, 40, 48, 63] {
        // The DMA API itself refuses a mask that is too narrow for any memory.
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
    if !memory_is_beyond(32)? {
        return skip("all memory lies below 4 GiB: try a guest with --mem 5G");
    }
    let buffer = options.heap()?.alloc(MIB)?;
    if bits_of(&options.heap, &buffer)? <= 32 {
        return skip("the memory of this heap lies below 4 GiB: try --heap system-coherent");
    }
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
    let (one, other) = (suitable(options)?, suitable(options)?);
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
    for len in [(64 << 10).max(2 * page_size()), SCATTERED] {
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
                    mapped.expect_whole(&buffer)?;
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
