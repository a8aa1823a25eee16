// SPDX-License-Identifier: GPL-2.0

//! Fragmented memory: only single pages are free.

use crate::expect::skip;
use crate::mapping::{Mapping, page_size};
use crate::memory::{meminfo, settled_free};
use crate::pages;
use anyhow::{Context as _, Result};
use std::path::Path;

/// How much memory is left alone, for page tables and for the lists of free pages of CPUs. Of the memory
/// beyond `BEYOND`, that is one part in `SPARE_BEYOND` more.
const SPARE: usize = 24 << 20;
const BEYOND: usize = 1 << 30;
const SPARE_BEYOND: usize = 48;
/// How much is left in small blocks, if that is wanted: more than a frame of 3840x2160 takes.
const SMALL_BLOCKS: usize = 64 << 20;
const SMALL_BLOCK: usize = 64 << 10;
/// The least free memory with which this works.
const NEEDED: usize = 320 << 20;

/// Holds every second page of nearly all memory. The other pages are free.
pub struct Fragments {
    _kept: Mapping,
}

impl Fragments {
    /// Takes nearly all memory, and gives every second page back. Skips the test if there is too
    /// little memory, or if the kernel itself needs blocks.
    pub fn make() -> Result<Self> {
        Self::make_but_for(0)
    }

    /// The same, but some memory is free in pieces of 64 KiB, far smaller than a frame. The kernel and
    /// tests need such blocks while buffers take all that there are.
    pub fn make_with_small_blocks() -> Result<Self> {
        Self::make_but_for(SMALL_BLOCKS)
    }

    fn make_but_for(blocks: usize) -> Result<Self> {
        if pages::are_known()? {
            return skip("this is a debug kernel, whose slabs take two pages: try another kernel");
        }
        settled_free()?;
        let hoard = meminfo("MemAvailable")? as usize;
        if hoard < NEEDED {
            return skip(format!(
                "only {} MiB are free: this test needs {}",
                hoard >> 20,
                NEEDED >> 20
            ));
        }
        let page = page_size();
        let spare = SPARE + hoard.saturating_sub(BEYOND) / SPARE_BEYOND;
        let half = (hoard - spare) / 2 / page * page;
        let (kept, given) = (Mapping::anonymous(half)?, Mapping::anonymous(half)?);
        kept.want_single_pages().context("NoHugepage")?;
        given.want_single_pages().context("NoHugepage")?;
        // The two mappings get pages in turn, so that no neighbours are given back together.
        let fill = |mapping: &Mapping, start: usize, run: usize| {
            for offset in (start..half.min(start + run)).step_by(page) {
                mapping.write(offset, &[1]);
            }
        };
        let mut offset = 0;
        while offset < half {
            let run = if offset < blocks { SMALL_BLOCK } else { page };
            fill(&kept, offset, run);
            fill(&given, offset, run);
            offset += run;
        }
        Ok(Self { _kept: kept })
    }
}

/// Keeps memory fragmented until the process is killed. Makes the file when memory is fragmented.
pub fn hold(done: &Path) -> Result<u8> {
    let _fragments = Fragments::make_with_small_blocks()?;
    std::fs::write(done, "").with_context(|| format!("making {}", done.display()))?;
    loop {
        std::thread::park();
    }
}
