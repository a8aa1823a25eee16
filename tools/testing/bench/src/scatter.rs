// SPDX-License-Identifier: GPL-2.0

//! Scatters free memory, so that buffers consist of single pages.

use anyhow::{Context as _, Result};
use dmabuf_coherency_selftest::heap::{Buffer, Heap};
use dmabuf_coherency_selftest::mapping::{Mapping, page_size};
use dmabuf_coherency_selftest::memory;
use std::fs;
use std::time::Duration;

/// What is left to the kernel while memory is filled.
const RESERVE: u64 = 8 << 20;

/// How much is filled at a time.
const CHUNK: usize = 1 << 20;

/// Pages of the smallest block that is not left free.
const BLOCK: usize = 2;

/// How often taking may make them no fewer: the kernel has lists of free pages
/// for each CPU, which it uses first.
const IN_VAIN: u32 = 64;

/// How long the kernel is busy after memory was short.
const SETTLE: Duration = Duration::from_secs(2);

/// Memory that is held so that what is free lies in single pages.
pub struct Scattered {
    _every_second: Vec<Mapping>,
    _blocks: Vec<Buffer>,
}

impl Scattered {
    /// Fills memory, gives every second page back, and takes what blocks are
    /// left then.
    pub fn new() -> Result<Self> {
        // What is locked stays where it is.
        fs::write("/proc/sys/vm/compact_unevictable_allowed", "0")
            .context("keeping the kernel from moving what is locked")?;
        memory::settled_free()?;
        let mut every_second = Vec::new();
        while memory::meminfo("MemFree")? > RESERVE + CHUNK as u64 {
            let filler = Mapping::anonymous(CHUNK)?;
            filler.lock_single_pages()?;
            every_second.push(filler);
        }
        for filler in &every_second {
            filler.drop_every_second_page()?;
        }
        // What the kernel does about the lack of memory comes late, and makes blocks again.
        std::thread::sleep(SETTLE);
        let blocks = take_blocks()?;
        Ok(Self {
            _every_second: every_second,
            _blocks: blocks,
        })
    }
}

/// Takes blocks of several pages, until that makes them no fewer.
fn take_blocks() -> Result<Vec<Buffer>> {
    let heap = Heap::open("system")?;
    let mut taken = Vec::new();
    let mut fewest = memory::free_blocks(BLOCK)?;
    let mut in_vain = 0;
    while fewest > 0 && in_vain < IN_VAIN {
        taken.push(heap.alloc(16 * page_size())?);
        let now = memory::free_blocks(BLOCK)?;
        in_vain = if now < fewest { 0 } else { in_vain + 1 };
        fewest = fewest.min(now);
    }
    Ok(taken)
}
