// SPDX-License-Identifier: GPL-2.0

//! How buffers are mapped for DMA. The kernel's own trace events show it.

use super::Test;
use super::import::may_attach;
use crate::expect::skip;
use crate::heap::BLOCK;
use crate::importer::{Importer, observe_size};
use crate::importers;
use crate::mapping::page_size;
use crate::memory::{eventually, make_blocks};
use crate::options::Options;
use crate::reach;
use anyhow::{Result, bail, ensure};

pub const TESTS: &[Test] = &[
    Test::new(
        "map.one_block",
        "a buffer of up to 4 MiB is one block, if a block is free",
        one_block,
    ),
    Test::new(
        "map.large_blocks",
        "a large buffer has as few blocks as possible",
        large_blocks,
    ),
    Test::new(
        "map.attributes",
        "mappings require coherency, and are undone with the same attributes",
        attributes,
    ),
];

const MIB: usize = 1 << 20;

/// A device that the heap must accept, and that maps what it imports.
fn mapper(options: &Options) -> Result<Box<dyn Importer>> {
    for importer in importers::all()? {
        // A device may refuse smaller buffers for reasons of its own.
        let size = importer.buffer_size();
        let maps = |heap| -> Result<bool> {
            Ok(!observe_size(&*importer, &heap, size)?.mapped.is_empty())
        };
        if may_attach(options, &*importer)? && maps(options.control()?)? {
            return Ok(importer);
        }
    }
    skip("no device here that the heap must accept and that maps: try virtio_gpu")
}

/// Into how many segments a buffer of `len` bytes is mapped.
fn segments(options: &Options, importer: &dyn Importer, len: usize) -> Result<usize> {
    let seen = observe_size(importer, &options.heap()?, len)?;
    match &seen.mapped[..] {
        [mapped] => Ok(mapped.segments),
        other => bail!("{len} bytes: expected one mapping, got {other:?}"),
    }
}

fn one_block(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let importer = mapper(options)?;
    for len in [
        page_size(),
        3 * page_size(),
        64 << 10,
        MIB,
        BLOCK - page_size(),
        BLOCK,
    ] {
        let len = len.max(importer.buffer_size());
        let pages = len.next_power_of_two() / page_size();
        expect_segments(options, &*importer, len, (pages, 2), reach::segments(len)?)?;
    }
    Ok(())
}

fn large_blocks(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let importer = mapper(options)?;
    let expected = 9 * reach::segments(BLOCK)? + reach::segments(MIB)?;
    let blocks = (BLOCK / page_size(), 12);
    expect_segments(options, &*importer, 9 * BLOCK + MIB, blocks, expected)
}

/// Fails unless a buffer is mapped in `expected` segments at most, while `count` blocks of `pages` pages
/// are free. Somebody else may take a block in between, so there are several attempts.
fn expect_segments(
    options: &Options,
    importer: &dyn Importer,
    len: usize,
    (pages, count): (usize, u64),
    expected: usize,
) -> Result<()> {
    let (mut found, mut seen) = (false, 0);
    let good = eventually(|| {
        found = make_blocks(pages, count)?;
        seen = segments(options, importer, len)?;
        Ok(seen <= expected)
    })?;
    ensure!(
        good,
        "{len} bytes: expected at most {expected} segments with {count} blocks of {pages} pages \
         free ({found}), got {seen}"
    );
    Ok(())
}

fn attributes(options: &Options) -> Result<()> {
    options.need_strict_heap()?;
    let importer = mapper(options)?;
    let what = importer.describe();
    let seen = observe_size(
        &*importer,
        &options.heap()?,
        importer.buffer_size().max(BLOCK + MIB),
    )?;
    for mapped in &seen.mapped {
        ensure!(
            mapped.attributes == "REQUIRE_COHERENT",
            "{what}: expected REQUIRE_COHERENT and no other attribute, got {:?}",
            mapped.attributes
        );
    }
    let mapped: Vec<&String> = seen
        .mapped
        .iter()
        .map(|mapped| &mapped.attributes)
        .collect();
    let unmapped: Vec<&String> = seen.unmapped.iter().collect();
    ensure!(
        mapped == unmapped && !mapped.is_empty(),
        "{what}: mapped with {mapped:?}, unmapped with {unmapped:?}"
    );
    Ok(())
}
