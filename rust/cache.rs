// SPDX-License-Identifier: GPL-2.0

//! Cleaning the CPU caches, outside of any importer's mapping.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use crate::{
    bindings,
    compat::{
        eopnotsupp,
        faux_device, //
    },
    device::DeviceExt,
    dma_mapping::DmaDevice,
    page::PageBlock, //
};
use core::ops::Range;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    faux,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// Writes back and invalidates what the CPU caches hold of memory.
///
/// There is no function for that which modules may call; but the DMA API does it for a device that
/// does not snoop. So this is such a device.
pub(crate) struct Cleaner(faux::Registration);

impl Cleaner {
    /// To make a mapping write-combining cleans the caches on x86.
    const IS_NEEDLESS: bool = cfg!(CONFIG_X86);

    /// Creates a device of this name. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`] if the device cannot be created.
    /// - [`EIO`] if it cannot address all memory.
    /// - [`EOPNOTSUPP`] if the DMA API would bounce instead of cleaning, as where bouncing is forced.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let this = Self(faux::Registration::new(name, None)?);

        // SAFETY: The device is our own, and nothing has been mapped for it yet.
        to_result(unsafe { bindings::dmacoh_clear_coherent(this.device().as_raw()) })?;
        if !Self::IS_NEEDLESS && !DmaDevice::from(this.device()).reaches_all() {
            return Err(eopnotsupp());
        }
        Ok(this)
    }

    fn device(&self) -> &Device<Bound> {
        faux_device(&self.0)
    }

    /// Cleans the caches of some pages of a block. Callable in any context.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the block does not have these pages.
    /// - [`EOPNOTSUPP`] if the DMA API would bounce instead, as where bouncing is forced.
    /// - [`EIO`] if the DMA API refuses.
    pub(crate) fn clean(&self, block: &PageBlock, pages: Range<usize>) -> Result {
        if pages.start > pages.end || pages.end > block.nr_pages() {
            return Err(EINVAL);
        }
        if pages.is_empty() || Self::IS_NEEDLESS {
            return Ok(());
        }
        if !DmaDevice::from(self.device()).reaches(&block.physical()) {
            return Err(eopnotsupp());
        }

        // SAFETY: The device is ours, and bound as long as we are. The block has these pages.
        to_result(unsafe {
            bindings::dmacoh_clean(
                self.device().as_raw(),
                block.as_ptr(),
                pages.start << PAGE_SHIFT,
                pages.len() << PAGE_SHIFT,
            )
        })
    }
}
