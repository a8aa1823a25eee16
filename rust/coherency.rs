// SPDX-License-Identifier: GPL-2.0

//! The properties of a device, and of the memory of a buffer, that [`policy`] decides by.

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

/// Whether this kernel's own mapping of uncached memory stays cacheable.
pub(crate) const ALIAS: CacheableAlias = CacheableAlias(!cfg!(CONFIG_X86));

/// The error that a refused device gets. It is the DMA API's own error for a device that is not
/// coherent, and differs from the [`EINVAL`] of a malformed request.
pub(crate) fn refused() -> Error {
    eopnotsupp()
}

/// Returns whether `dev` may attach to a buffer of these pages, from a heap of mode `mode`.
pub(crate) fn accepts(mode: Mode, dev: DmaDevice<'_>, pages: &Pages) -> Result<(), Refusal> {
    let dma = Dma {
        snoops: dev.is_dma_coherent(),
        has_mask: dev.has_dma_mask(),
        // A maintained heap takes any device, whatever that reaches.
        reaches: mode == Mode::Maintained || dev.reaches_pages(pages),
    };

    policy::accepts(mode, dma, ALIAS)
}

/// Returns whether `dev` may map a buffer that it has attached to.
///
/// Asks [`accepts`] again, as the device may have changed since. Refuses a device without a DMA
/// mask, because the DMA API would warn about it: some drivers attach although they do no DMA.
pub(crate) fn may_map(mode: Mode, dev: DmaDevice<'_>, pages: &Pages) -> Result<(), Refusal> {
    accepts(mode, dev, pages)?;
    if dev.has_dma_mask() {
        Ok(())
    } else {
        Err(Refusal::NoDmaMask)
    }
}
