// SPDX-License-Identifier: GPL-2.0

//! Cleaning the CPU caches, outside of any importer's mapping.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use crate::{
    bindings,
    device::DeviceExt,
    dma_mapping::{
        Attrs,
        DmaDevice, //
    },
    page::Pages,
    scatterlist::MappedTable, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    error::to_result,
    faux,
    prelude::*,
    sync::Arc, //
};

/// Writes back and invalidates what the CPU caches hold of memory.
///
/// There is no function for that which modules may call; but the DMA API does it for a device that
/// does not snoop. So this is such a device.
pub(crate) struct Cleaner(faux::Registration);

impl Cleaner {
    /// Creates a device of this name. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`] if the device cannot be created.
    /// - [`EIO`] if it cannot address all memory.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let this = Self(faux::Registration::new(name, None)?);

        // SAFETY: The device is our own, and nothing has been mapped for it yet.
        to_result(unsafe { bindings::dmacoh_clear_coherent(this.device().as_raw()) })?;
        Ok(this)
    }

    fn device(&self) -> &Device<Bound> {
        self.0.as_ref().as_ref()
    }

    /// Cleans the caches of `pages`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`] if the DMA API would bounce instead, as where bouncing is forced.
    /// - Otherwise those of [`MappedTable::new`].
    pub(crate) fn clean(&self, pages: &Arc<Pages>) -> Result {
        // To make a mapping write-combining there cleans the caches.
        if cfg!(CONFIG_X86) {
            return Ok(());
        }
        let dev = DmaDevice::from(self.device());

        if dev.may_bounce() {
            return Err(EOPNOTSUPP);
        }
        // SAFETY: The direction is valid. The device is ours, and bound as long as we are.
        drop(unsafe {
            MappedTable::new(
                dev,
                pages.clone(),
                DataDirection::Bidirectional,
                Attrs::NONE,
            )
        }?);
        Ok(())
    }
}
