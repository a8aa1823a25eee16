// SPDX-License-Identifier: GPL-2.0

//! Devices that import: synthetic ones, or QEMU's `edu`.
//!
//! C header: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use crate::{
    bindings,
    edu,
    kernel::{
        device::DeviceExt,
        dma_mapping::DmaDevice, //
    },
    synthetic::SyntheticDevice, //
};
use kernel::{
    device,
    device::Bound,
    dma::DmaMask,
    error::to_result,
    prelude::*, //
};

/// A device that imports. It is bound to its driver as long as this value lives.
pub(crate) enum Device {
    Synthetic(SyntheticDevice),
    Edu(edu::Claim),
}

impl Device {
    /// Returns the device of the driver core.
    fn bound(&self) -> &device::Device<Bound> {
        match self {
            Self::Synthetic(device) => device.bound(),
            Self::Edu(claim) => claim.device(),
        }
    }

    /// Returns the raw `struct device`. It stays able to do DMA as long as `self` lives.
    pub(crate) fn as_raw(&self) -> *mut bindings::device {
        self.bound().as_raw()
    }

    /// Returns whether the device has a DMA mask. Without one it must not map anything.
    pub(crate) fn has_mask(&self) -> bool {
        DmaDevice::from(self.bound()).has_dma_mask()
    }

    /// Sets the DMA mask of the device.
    ///
    /// No buffer should be mapped at this time. Otherwise the DMA API may synchronise that mapping
    /// by the wrong rules afterwards, as for any driver that does this.
    ///
    /// # Errors
    ///
    /// [`EIO`] if the device has no mask, or if the DMA API does not support the new mask.
    pub(crate) fn set_mask(&self, mask: DmaMask) -> Result {
        set_mask(self.bound(), mask)
    }

    /// Makes the device read memory at the DMA address `addr`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENXIO`] if the device is synthetic, and the CPU cannot access the memory in its place.
    /// - Those of [`edu::Claim::read`] if the device is `edu`.
    ///
    /// # Safety
    ///
    /// As many bytes at `addr` as `to` has must be mapped so that the device may read them. They
    /// must lie in one page.
    pub(crate) unsafe fn read(&self, addr: bindings::dma_addr_t, to: &mut [u8]) -> Result {
        match self {
            // SAFETY: The device is valid. The memory at `addr` is mapped by this function's safety
            // requirements. `to` may be written for its length.
            Self::Synthetic(_) => to_result(unsafe {
                bindings::importer_dma_read(self.as_raw(), addr, to.as_mut_ptr().cast(), to.len())
            }),
            // SAFETY: By this function's safety requirements.
            Self::Edu(claim) => unsafe { claim.read(addr, to) },
        }
    }

    /// Makes the device write to memory at the DMA address `addr`. May sleep.
    ///
    /// # Errors
    ///
    /// As [`Device::read`].
    ///
    /// # Safety
    ///
    /// As many bytes at `addr` as `from` has must be mapped so that the device may write them. They
    /// must lie in one page.
    pub(crate) unsafe fn write(&self, addr: bindings::dma_addr_t, from: &[u8]) -> Result {
        match self {
            // SAFETY: As in `read()`.
            Self::Synthetic(_) => to_result(unsafe {
                bindings::importer_dma_write(self.as_raw(), addr, from.as_ptr().cast(), from.len())
            }),
            // SAFETY: By this function's safety requirements.
            Self::Edu(claim) => unsafe { claim.write(addr, from) },
        }
    }
}

/// Sets the DMA mask of `dev`, as [`Device::set_mask`] does.
pub(crate) fn set_mask(dev: &device::Device<Bound>, mask: DmaMask) -> Result {
    // SAFETY: The device is valid. The mask is a single word, so the C side cannot see half of a
    // new mask. Existing mappings do not reach more memory than before.
    to_result(unsafe { bindings::dma_set_mask_and_coherent(dev.as_raw(), mask.value()) })
}
