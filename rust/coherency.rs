// SPDX-License-Identifier: GPL-2.0

//! What [`policy`] asks of a device, and of the memory of a buffer.

use crate::{
    kernel::{
        compat::eopnotsupp,
        dma_mapping::DmaDevice,
        mm::page::Pages, //
    },
    policy::{
        self,
        CacheableAlias,
        Dma,
        Mode,
        Refusal, //
    }, //
};
use kernel::prelude::*;

/// What this kernel does with its own mapping of uncached memory.
pub(crate) const ALIAS: CacheableAlias = CacheableAlias(!cfg!(CONFIG_X86));

/// What a device gets that is refused: the DMA API's own error for one that is not coherent, told
/// apart from the [`EINVAL`] of a malformed request.
pub(crate) fn refused() -> Error {
    eopnotsupp()
}

/// Returns whether `dev` may attach to a buffer of these pages, from a heap of mode `mode`.
pub(crate) fn accepts(mode: Mode, dev: DmaDevice<'_>, pages: &Pages) -> Result<(), Refusal> {
    let dma = Dma {
        snoops: dev.is_dma_coherent(),
        has_mask: dev.has_dma_mask(),
        // Maintained heaps take any device, so they need not ask.
        reaches: mode == Mode::Maintained || dev.reaches_pages(pages),
    };

    policy::accepts(mode, dma, ALIAS)
}

/// Returns whether `dev` may map what it has attached to: as [`accepts`] says, which may have changed,
/// and not without a DMA mask, of which the DMA API would warn. There are drivers that do no DMA and
/// attach all the same.
pub(crate) fn may_map(mode: Mode, dev: DmaDevice<'_>, pages: &Pages) -> Result<(), Refusal> {
    accepts(mode, dev, pages)?;
    if dev.has_dma_mask() {
        Ok(())
    } else {
        Err(Refusal::NoDmaMask)
    }
}
