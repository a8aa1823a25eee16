// SPDX-License-Identifier: GPL-2.0

//! Reads the properties of devices and buffers on which [`policy`] bases its decisions.

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

/// Whether the kernel's direct mapping of uncached memory stays cacheable.
pub(crate) const ALIAS: CacheableAlias = CacheableAlias(!cfg!(CONFIG_X86));

/// The error that a refused device gets. The DMA API returns the same error for a device that is
/// not coherent. It differs from the [`EINVAL`] of a malformed request.
pub(crate) fn refused() -> Error {
    eopnotsupp()
}

/// Returns whether `dev` may attach to a buffer that consists of `pages` and comes from a heap of
/// mode `mode`.
pub(crate) fn accepts(mode: Mode, dev: DmaDevice<'_>, pages: &Pages) -> Result<(), Refusal> {
    let dma = Dma {
        snoops: dev.is_dma_coherent(),
        has_mask: dev.has_dma_mask(),
        // A maintained heap accepts any device, even one that needs bounce buffers.
        reaches: mode == Mode::Maintained || dev.reaches_pages(pages),
    };

    policy::accepts(mode, dma, ALIAS)
}

/// Returns whether `dev` may map a buffer to which it has attached.
///
/// This checks [`accepts`] again, because the device may have changed since it attached. It also
/// refuses a device without a DMA mask, because the DMA API would warn about the mapping. Some
/// drivers attach such a device although they do no DMA.
pub(crate) fn may_map(mode: Mode, dev: DmaDevice<'_>, pages: &Pages) -> Result<(), Refusal> {
    accepts(mode, dev, pages)?;
    if dev.has_dma_mask() {
        Ok(())
    } else {
        Err(Refusal::NoDmaMask)
    }
}
