// SPDX-License-Identifier: GPL-2.0

//! Memory of which only single pages are free.

use crate::expect::skip;
use crate::mapping::{Mapping, page_size};
use crate::memory::{meminfo, settled_free};
use crate::pages;
use anyhow::{Context as _, Result};
use std::path::Path;

/// What is left alone, and of what lies beyond that much memory one part in so many: for page tables,
/// and for the lists of free pages that CPUs keep.
const SPARE: usize = 24 << 20;
const BEYOND: usize = 1 << 30;
const SPARE_BEYOND: usize = 48;
/// What is left in small blocks, if it is wanted: more than a frame of 3840x2160 takes.
const SMALL_BLOCKS: usize = 64 << 20;
const SMALL_BLOCK: usize = 64 << 10;
/// Less than that would not do.
const NEEDED: usize = 320 << 20;

/// Every second page of nearly all memory. The others are free.
pub struct Fragments {
    _kept: Mapping,
}

impl Fragments {
    /// Takes nearly all memory, and gives every second page back. Skips the test where there is
    /// little of it, or where the kernel itself needs blocks.
    pub fn make() -> Result<Self> {
        Self::make_but_for(0)
    }

    /// The same, but for what the kernel and tests need of blocks while buffers take all that there
    /// are: some memory is free in pieces of 64 KiB, far smaller than a frame.
    pub fn make_with_small_blocks() -> Result<Self> {
        Self::make_but_for(SMALL_BLOCKS)
    }

    fn make_but_for(blocks: usize) -> Result<Self> {
        if pages::are_known()? {
            return skip("a slab takes two pages on this kernel, so that the kernel itself fails");
        }
        settled_free()?;
        let hoard = meminfo("MemAvailable")? as usize;
        if hoard < NEEDED {
            return skip(format!(
                "only {} MiB are free: needs {}",
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
        // One page after the other in turn, so that neighbours are not given back together.
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

/// Keeps memory in pieces until the process is killed, and makes the file when it is.
pub fn hold(done: &Path) -> Result<u8> {
    let _fragments = Fragments::make_with_small_blocks()?;
    std::fs::write(done, "").with_context(|| format!("making {}", done.display()))?;
    loop {
        std::thread::park();
    }
}
