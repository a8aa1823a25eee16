// SPDX-License-Identifier: GPL-2.0

//! Whether a device suits a buffer depends on where the buffer's blocks lie, and on how
//! its heap maps them. It does not depend on where all memory ends. The devices are those
//! of the module `dmabuf_importer`. The heaps are all heaps of our module.

use super::Test;
use super::matrix::heaps;
use crate::expect::{expect_errno, skip};
use crate::heap::Heap;
use crate::heap_files::Files;
use crate::mapping::page_size;
use crate::options::{Options, is_contiguous, is_ours};
use crate::pattern::{expect_bytes, pattern};
use crate::reach::{
    Answer, Reach, accepted_by, allocates, answer, bits_of, bouncing_is_forced, memory_is_beyond,
    reach,
};
use crate::test_importer::{Direction, Importer, Kind, Mapped, Setup};
use crate::trace::{Recording, VERDICT};
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;

pub const TESTS: &[Test] = &[
    Test::new(
        "importer.narrow_block",
        "a 32-bit device maps contiguous memory that it reaches in one segment, without bouncing",
        narrow_block,
    ),
    Test::new(
        "importer.uncached",
        "a snooping device is refused uncached memory if the CPU may have that in its caches",
        uncached,
    ),
    Test::new(
        "importer.segments",
        "a block is one segment, unless the driver has set a smaller limit",
        segments,
    ),
    Test::new(
        "importer.boundary",
        "no segment crosses the device's boundary, whatever addresses memory has for the device",
        boundary,
    ),
];

const MIB: usize = 1 << 20;

/// The module's heaps of contiguous memory.
fn contiguous() -> Result<Vec<String>> {
    let mut all = heaps()?;
    all.retain(|heap| is_ours(heap) && is_contiguous(heap));
    if all.is_empty() {
        return skip("this kernel has no contiguous memory");
    }
    Ok(all)
}

fn map(setup: &Setup, heap: &str, len: usize) -> Result<Mapped> {
    let buffer = Heap::open(heap)?.alloc(len)?;
    let importer = Importer::new(setup)?;
    let attachment = importer.attach(&buffer, Kind::Static)?;
    let mapped = importer.map(attachment, Direction::Bidirectional)?;
    mapped.expect_whole(&buffer)?;
    Ok(mapped)
}

fn narrow_block(_options: &Options) -> Result<()> {
    const LEN: usize = 4 * MIB;
    drop(Importer::open()?);
    if bouncing_is_forced()? {
        return skip("every device bounces here");
    }
    if !memory_is_beyond(32)? {
        return skip("all memory lies below 4 GiB: try a guest with --mem 5G");
    }
    let mut tried = 0;
    for heap in contiguous()? {
        let buffer = Heap::open(&heap)?.alloc(LEN)?;
        let bits = bits_of(&heap, &buffer)?;
        if bits > 32 {
            println!("{heap}: a buffer needs {bits} address bits");
            continue;
        }
        let importer = Importer::new(&Setup {
            mask_bits: Some(32),
            ..accepted_by(&heap)
        })?;
        for kind in Kind::ALL {
            let context = || format!("{heap}, {kind:?}");
            let attachment = importer.attach(&buffer, kind).with_context(context)?;
            let mapped = importer.map(attachment, Direction::Bidirectional)?;
            ensure!(
                mapped.segments == 1 && mapped.length == LEN as u64,
                "{}: expected one segment of {LEN} bytes, got {mapped:?}",
                context()
            );
            // Without a bracket, a copy in a bounce buffer would stay there.
            let bytes = pattern(LEN, 1);
            importer.write(&mapped, 0, &bytes)?;
            let mut seen = vec![0; LEN];
            buffer.map()?.read(0, &mut seen);
            expect_bytes(&context(), &seen, &bytes)?;
            importer.unmap(&mapped)?;
        }
        println!("{heap}: one segment");
        tried += 1;
    }
    if tried == 0 {
        return skip(
            "all contiguous memory lies above 4 GiB: try a guest with --append cma=64M@0-4G",
        );
    }
    Ok(())
}

fn uncached(_options: &Options) -> Result<()> {
    drop(Importer::open()?);
    let mut all = heaps()?;
    all.retain(|heap| heap.ends_with("-uncached"));
    for heap in all {
        if !allocates(&heap)? {
            return skip("everything bounces here, so uncached heaps cannot allocate");
        }
        let buffer = Heap::open(&heap)?.alloc(MIB)?;
        let files = Files::of(&heap);
        for setup in [Setup::SNOOPING, Setup::NOT_SNOOPING] {
            let refused = answer(&heap, reach(&setup)?) == Answer::Refused;
            let importer = Importer::open()?;
            let name = importer.setup(&setup)?;
            for kind in Kind::ALL {
                let context = || format!("{heap}, {setup:?}, {kind:?}");
                let before = files.number("refused")?;
                let recording = Recording::start(&[VERDICT])?;
                let seen = importer.attach(&buffer, kind);
                let events = recording.events()?;
                let verdict = events.iter().find(|event| event.field("device") == name);
                let verdict = verdict.with_context(|| format!("{}: no verdict", context()))?;
                let error = if refused {
                    expect_errno(&context(), seen, Errno::OPNOTSUPP)?;
                    -Errno::OPNOTSUPP.raw_os_error()
                } else {
                    let attachment = seen.with_context(context)?;
                    importer.map(attachment, Direction::Bidirectional)?;
                    0
                };
                ensure!(
                    verdict.field("error") == error.to_string()
                        && verdict.field("snoops") == u8::from(setup.snoops).to_string(),
                    "{}: expected error {error} to be traced, got {verdict:?}",
                    context()
                );
                let counted = files.number("refused")? - before;
                ensure!(
                    counted == usize::from(refused),
                    "{}: {counted} refusals were counted",
                    context()
                );
            }
            println!("{heap}: snoops {}: refused {refused}", setup.snoops);
        }
    }
    Ok(())
}

fn boundary(_options: &Options) -> Result<()> {
    const LEN: usize = 8 * MIB;
    drop(Importer::open()?);
    if bouncing_is_forced()? {
        return skip("every device bounces here, and a bounce buffer limits the segments");
    }
    // None, a page, a multiple of each boundary, and multiples of a part of a boundary.
    let offsets = [0, page_size() as u64, 16 << 20, 0x30_0000, 0xf_0000];
    for heap in heaps()?.iter().filter(|heap| is_ours(heap)) {
        for boundary in [64 << 10, 1 << 20, 2 << 20] {
            for offset in offsets {
                let setup = Setup {
                    segment_boundary: boundary - 1,
                    offset,
                    ..accepted_by(heap)
                };
                let mapped =
                    map(&setup, heap, LEN).with_context(|| format!("{heap}, {setup:?}"))?;
                let most = if offset % boundary == 0 {
                    boundary
                } else {
                    offset & offset.wrapping_neg()
                };
                ensure!(
                    mapped.crossing == 0 && mapped.largest <= boundary,
                    "{heap}: {setup:?}: expected no segment to cross the boundary, got {mapped:?}"
                );
                // If the buffer is one block, no segment is smaller than it has to be.
                ensure!(
                    !is_contiguous(heap) || mapped.largest >= most,
                    "{heap}: {setup:?}: expected segments of {most} bytes, got {mapped:?}"
                );
            }
        }
    }
    Ok(())
}

fn segments(_options: &Options) -> Result<()> {
    const LEN: usize = 8 * MIB;
    drop(Importer::open()?);
    if bouncing_is_forced()? {
        return skip("every device bounces here, and a bounce buffer limits the segments");
    }
    for heap in contiguous()? {
        // What the driver has said, and as how much it counts.
        for (stated, counts) in [
            (0, LEN),
            (u32::MAX, LEN),
            (4 << 20, 4 * MIB),
            (MIB as u32, MIB),
            (64 << 10, 64 << 10),
        ] {
            let setup = Setup {
                max_segment_size: stated,
                ..accepted_by(&heap)
            };
            let mapped = map(&setup, &heap, LEN).with_context(|| format!("{heap}, {setup:?}"))?;
            ensure!(
                mapped.segments as usize == LEN / counts && mapped.largest == counts as u64,
                "{heap}: the driver has said {stated}: expected segments of {counts} bytes, got \
                 {mapped:?}"
            );
        }
        // PCI says 64 KiB of all devices.
        let reach = reach(&Setup::EDU)?;
        if answer(&heap, reach) == Answer::Refused || reach == Reach::Bouncing {
            println!("{heap} is not for edu");
            continue;
        }
        let mapped = map(&Setup::EDU, &heap, LEN).with_context(|| format!("{heap}, edu"))?;
        ensure!(
            mapped.segments == 1,
            "{heap}: edu: expected one segment, got {mapped:?}"
        );
    }
    Ok(())
}
