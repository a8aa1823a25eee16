// SPDX-License-Identifier: GPL-2.0

//! Scatters free memory, so that buffers consist of single pages.

use anyhow::{Context as _, Result};
use dmabuf_coherency_selftest::heap::{Buffer, Heap};
use dmabuf_coherency_selftest::mapping::{Mapping, page_size};
use dmabuf_coherency_selftest::memory;
use std::fs;
use std::path::Path;
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
    blocks: Vec<Buffer>,
}

impl Scattered {
    /// Fills memory, and gives every second page back.
    pub fn new() -> Result<Self> {
        // What is locked stays where it is, and the kernel makes no blocks on its own account.
        for knob in ["compact_unevictable_allowed", "compaction_proactiveness"] {
            let knob = Path::new("/proc/sys/vm").join(knob);
            fs::write(&knob, "0").with_context(|| knob.display().to_string())?;
        }
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
        Ok(Self {
            _every_second: every_second,
            blocks: Vec::new(),
        })
    }

    /// Takes blocks of several pages, until that makes them no fewer, also those
    /// that a heap has kept. There may be new ones after caches were dropped.
    pub fn take_blocks(&mut self) -> Result<()> {
        memory::settled_free()?;
        let heap = Heap::open("system")?;
        let mut fewest = memory::free_blocks(BLOCK)?;
        let mut in_vain = 0;
        while fewest > 0 && in_vain < IN_VAIN {
            self.blocks.push(heap.alloc(16 * page_size())?);
            let now = memory::free_blocks(BLOCK)?;
            in_vain = if now < fewest { 0 } else { in_vain + 1 };
            fewest = fewest.min(now);
        }
        Ok(())
    }
}
