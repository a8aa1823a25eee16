// SPDX-License-Identifier: GPL-2.0

//! The exporters in `tools/testing/modules/samples`, which use the module's abstractions:
//! a heap over reserved memory, and an exporter of single pages that is no heap. The
//! devices are those of the module `dmabuf_importer`.

use super::Test;
use super::importer_data::expect_agreement;
use crate::expect::{expect_errno, outcome, skip};
use crate::heap::{Buffer, Heap};
use crate::ioctl;
use crate::mapping::page_size;
use crate::options::Options;
use crate::pattern::pattern;
use crate::reach::bouncing_is_forced;
use crate::test_importer::{Direction, Importer, Kind, Setup};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};
use std::fs;

const MIB: usize = 1 << 20;

/// The heap over reserved memory.
const CARVEOUT: &str = "carveout";

/// The node that exports single pages, and the ioctl that exports one.
const PAGE_NODE: &str = "/dev/dmabuf_page";
const EXPORT: Opcode = opcode::none(0xf6, 0);

pub const TESTS: &[Test] = &[
    Test::new(
        "samples.carveout",
        "buffers of a heap over reserved memory are zeroed, and in one piece",
        carveout,
    ),
    Test::new(
        "samples.carveout_full",
        "a heap over reserved memory gives all of it and no more, and reuses freed memory",
        carveout_full,
    ),
    Test::new(
        "samples.carveout_attach",
        "a heap over reserved memory takes a device that snoops, and refuses one that does not",
        carveout_attach,
    ),
    Test::new(
        "samples.page",
        "a page of an exporter that is no heap is the same for devices, kernel and processes",
        page,
    ),
    Test::new(
        "samples.page_attach",
        "an exporter of pages takes each device that does DMA, and refuses one that does not",
        page_attach,
    ),
];

fn open_carveout() -> Result<Heap> {
    match Heap::open(CARVEOUT) {
        Ok(heap) => Ok(heap),
        Err(Errno::NOENT) => skip(format!(
            "no heap {CARVEOUT}: load the module dmabuf_carveout"
        )),
        Err(errno) => bail!(
            "opening the heap {CARVEOUT}: {}",
            outcome::<()>(&Err(errno))
        ),
    }
}

fn new_page() -> Result<Buffer> {
    let node = match rustix::fs::open(PAGE_NODE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(node) => node,
        Err(Errno::NOENT) => {
            return skip(format!("no {PAGE_NODE}: load the module dmabuf_page"));
        }
        Err(errno) => bail!("opening {PAGE_NODE}: {}", outcome::<()>(&Err(errno))),
    };
    // SAFETY: The ioctl returns a new descriptor.
    let fd = unsafe { ioctl::descriptor(node, EXPORT) }.context("exporting a page")?;
    Ok(Buffer::from_fd(fd)?)
}

/// How much memory the kernel's command line reserves for the heap.
fn reserved() -> Result<usize> {
    let line = fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    line.split_whitespace()
        .filter_map(|word| word.strip_prefix("reserve_mem="))
        .filter(|value| value.ends_with(":dmabuf_carveout"))
        .find_map(|value| value.split_once("M:")?.0.parse::<usize>().ok())
        .map(|mib| mib * MIB)
        .with_context(|| format!("expected reserve_mem=<n>M:<align>:dmabuf_carveout in {line}"))
}

fn carveout(_: &Options) -> Result<()> {
    let heap = open_carveout()?;
    let importer = Importer::new(&Setup::SNOOPING)?;
    if bouncing_is_forced()? {
        return skip("everything bounces here, so the heap takes no device");
    }
    // The second round must not see data of the first.
    for _ in 0..2 {
        for len in [page_size(), 64 << 10, MIB + page_size()] {
            let buffer = heap.alloc(len)?;
            ensure!(
                buffer.size() == len,
                "expected {len} bytes, got {}",
                buffer.size()
            );
            buffer.map()?.expect_zeroed("a new buffer")?;
            let attachment = importer.attach(&buffer, Kind::Static)?;
            let mapped = importer.map(attachment, Direction::Bidirectional)?;
            mapped.expect_whole(&buffer)?;
            ensure!(
                mapped.segments == 1,
                "expected one piece of {len} bytes, got {mapped:?}"
            );
            expect_agreement(&buffer, &importer)?;
            importer.unmap(&mapped)?;
            importer.detach(attachment)?;
            drop(buffer);
        }
    }
    Ok(())
}

fn carveout_full(_: &Options) -> Result<()> {
    let heap = open_carveout()?;
    let count = reserved()? / MIB;
    expect_errno(
        "more than there is",
        heap.alloc((count + 1) * MIB),
        Errno::NOMEM,
    )?;
    let mut buffers = Vec::new();
    for i in 0..count {
        let buffer = heap
            .alloc(MIB)
            .with_context(|| format!("MiB {i} of {count}"))?;
        buffer.map()?.fill(0xa5);
        buffers.push(buffer);
    }
    expect_errno("a page too much", heap.alloc(page_size()), Errno::NOMEM)?;
    // A buffer that fits may use memory that was freed in the middle.
    drop(buffers.remove(count / 2));
    expect_errno(
        "more than has been freed",
        heap.alloc(2 * MIB),
        Errno::NOMEM,
    )?;
    let again = heap.alloc(MIB).context("what has been freed")?;
    again.map()?.expect_zeroed("what has been freed")?;
    drop(again);
    drop(buffers);
    drop(heap.alloc(count * MIB).context("all of it")?);
    Ok(())
}

fn carveout_attach(_: &Options) -> Result<()> {
    let buffer = open_carveout()?.alloc(MIB)?;
    for kind in Kind::ALL {
        let importer = Importer::new(&Setup::SNOOPING)?;
        importer
            .attach(&buffer, kind)
            .with_context(|| format!("a device that snoops, {kind:?}"))?;
        let importer = Importer::new(&Setup::NOT_SNOOPING)?;
        expect_errno(
            "a device that does not snoop",
            importer.attach(&buffer, kind),
            Errno::OPNOTSUPP,
        )?;
    }
    Ok(())
}

fn page(_: &Options) -> Result<()> {
    let buffer = new_page()?;
    ensure!(
        buffer.size() == page_size(),
        "expected a page, got {} bytes",
        buffer.size()
    );
    let name = buffer.fdinfo("exp_name")?;
    ensure!(name == "page", "expected the exporter page, got {name}");
    buffer.map()?.expect_zeroed("a new page")?;
    if bouncing_is_forced()? {
        return skip("everything bounces here, so mappings do not see each other's data");
    }
    for setup in [Setup::SNOOPING, Setup::NOT_SNOOPING] {
        expect_agreement(&buffer, &Importer::new(&setup)?).with_context(|| format!("{setup:?}"))?;
    }
    let other = new_page()?;
    buffer.map()?.write(0, &pattern(page_size(), 1));
    other.map()?.expect_zeroed("another page")
}

fn page_attach(_: &Options) -> Result<()> {
    let buffer = new_page()?;
    for kind in Kind::ALL {
        for setup in [Setup::SNOOPING, Setup::NOT_SNOOPING] {
            Importer::new(&setup)?
                .attach(&buffer, kind)
                .with_context(|| format!("{setup:?}, {kind:?}"))?;
        }
        let importer = Importer::new(&Setup::NO_MASK)?;
        expect_errno(
            "a device that does no DMA",
            importer.attach(&buffer, kind),
            Errno::OPNOTSUPP,
        )?;
    }
    Ok(())
}
