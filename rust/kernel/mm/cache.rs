// SPDX-License-Identifier: GPL-2.0

//! Cleaning the CPU caches, outside of any importer's mapping.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use crate::{
    bindings,
    kernel::{
        compat::{
            eopnotsupp,
            faux_device, //
        },
        device::DeviceExt,
        dma_mapping::DmaDevice,
        mm::{
            page::PageBlock,
            write_combining::Registry, //
        },
        module::Forever,
        syscore, //
    }, //
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
    prelude::*,
    sync::Arc, //
};

/// Writes back and invalidates what the CPU caches hold of memory.
///
/// Modules can call no function that does just this. But the DMA API does it for a device that
/// does not snoop. So this is such a device.
pub(crate) struct Cleaner {
    device: faux::Registration,
    registry: Registry,
}

impl Cleaner {
    /// Whether there is nothing to do: on x86, making a mapping write-combining cleans the caches.
    const IS_NEEDLESS: bool = cfg!(CONFIG_X86);

    /// Creates a device of this name. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`] if the device cannot be created.
    /// - [`EBUSY`] if there has been one.
    /// - [`EIO`] if it cannot address all memory.
    /// - [`EOPNOTSUPP`] if the DMA API would bounce instead of cleaning, as where bouncing is forced.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        // There is only one. The kernel dumps the stack if two devices have the same name.
        let registry = Registry::new()?;
        let this = Self {
            device: faux::Registration::new(name, None)?,
            registry,
        };

        // SAFETY: The device is our own, and nothing has been mapped for it yet.
        to_result(unsafe { bindings::dmacoh_clear_coherent(this.device().as_raw()) })?;
        if !Self::IS_NEEDLESS && !DmaDevice::from(this.device()).reaches_all() {
            return Err(eopnotsupp());
        }
        Ok(this)
    }

    fn device(&self) -> &Device<Bound> {
        faux_device(&self.device)
    }

    /// Makes the contents of write-combining memory survive hibernation. May sleep.
    ///
    /// Hibernation saves and restores all memory by the kernel's own mapping. Where that is cacheable,
    /// it may save what the caches have fetched early, and what it restores may stay in the caches.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(crate) fn survive_hibernation(self: &Arc<Self>, forever: Forever) -> Result {
        if Registry::IS_KEPT {
            syscore::register(self.clone(), forever)?;
        }
        Ok(())
    }

    /// Prepares a block for being mapped write-combining. From then on the caches hold nothing of
    /// it. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] if the kernel's page tables cannot be changed.
    /// - Those of [`Self::zero`]. The block is freed.
    pub(crate) fn make_write_combining(&self, mut block: PageBlock) -> Result<PageBlock> {
        let all = 0..block.nr_pages();

        // SAFETY: Below the caches are cleaned, or the block is freed.
        unsafe { block.set_write_combining(self.registry) }?;
        self.clean(&block, all)?;
        Ok(block)
    }

    /// Fills some pages of a block with zeroes, which are in memory afterwards. Callable in any context.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the block does not have these pages.
    /// - [`EOPNOTSUPP`] if the DMA API would bounce instead, as where bouncing is forced.
    /// - [`EIO`] if the DMA API refuses.
    ///
    /// The block is [spoilt](PageBlock::spoil) then.
    pub(crate) fn zero(&self, block: &mut PageBlock, pages: Range<usize>) -> Result {
        // SAFETY: Below the caches are cleaned, or the block is spoilt.
        unsafe { block.zero_in_cache(pages.clone()) };
        self.clean(block, pages).inspect_err(|_| block.spoil())
    }

    /// Cleans the caches of some pages of a block.
    fn clean(&self, block: &PageBlock, pages: Range<usize>) -> Result {
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

    /// Cleans the caches of all write-combining memory. Callable in any context.
    fn clean_all(&self) {
        self.registry.for_each(|page, nr_pages| {
            // SAFETY: As above. The block has been cleaned in this way before, so the DMA API does
            // not bounce it.
            let result = to_result(unsafe {
                bindings::dmacoh_clean(self.device().as_raw(), page, 0, nr_pages << PAGE_SHIFT)
            });
            if let Err(err) = result {
                pr_err!("the caches keep {} pages: {:?}\n", nr_pages, err);
            }
        });
    }
}

impl syscore::Operations for Cleaner {
    fn fall_asleep(&self) {
        self.clean_all();
    }

    fn wake_up(&self) {
        self.clean_all();
    }
}
