// SPDX-License-Identifier: GPL-2.0

// Memory that is mapped past the caches while the zeroes are still in them.

use crate::kernel::mm::{
    page::PageBlock,
    write_combining::Registry, //
};
use kernel::prelude::*;

fn prepare(block: &mut PageBlock, registry: Registry) -> Result {
    block.set_write_combining(registry)?;
    block.zero_in_cache(0..1);
    Ok(())
}
