// SPDX-License-Identifier: GPL-2.0

// Memory that is mapped past the caches while the zeroes are still in them.

use crate::kernel::mm::page::PageBlock;
use kernel::prelude::*;

fn prepare(block: &mut PageBlock) -> Result {
    block.set_write_combining()?;
    block.zero_in_cache(0..1);
    Ok(())
}
