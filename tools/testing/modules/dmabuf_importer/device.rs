// SPDX-License-Identifier: GPL-2.0

//! Devices that import: made up, or QEMU's `edu`.
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

/// A device that imports, bound to its driver as long as this lives.
pub(crate) enum Device {
    Synthetic(SyntheticDevice),
    Edu(edu::Claim),
}

impl Device {
    /// The device that the driver core knows.
    fn bound(&self) -> &device::Device<Bound> {
        match self {
            Self::Synthetic(device) => device.bound(),
            Self::Edu(claim) => claim.device(),
        }
    }

    /// The raw `struct device`. It is able to do DMA as long as `self` lives.
    pub(crate) fn as_raw(&self) -> *mut bindings::device {
        self.bound().as_raw()
    }

    /// Returns whether the device has a DMA mask. Without one it must not map anything.
    pub(crate) fn has_mask(&self) -> bool {
        DmaDevice::from(self.bound()).has_dma_mask()
    }

    /// Says which addresses the device can reach.
    ///
    /// What is mapped at this time may be synchronised by the wrong rules afterwards, as with any
    /// driver that does this.
    ///
    /// # Errors
    ///
    /// [`EIO`] if the device has no mask, or if the DMA API does not support this one.
    pub(crate) fn set_mask(&self, mask: DmaMask) -> Result {
        set_mask(self.bound(), mask)
    }

    /// Lets the device read what is at `addr`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENXIO`] if the CPU stands in for the device, and has no way to reach it.
    /// - [`ENOMEM`], [`ETIMEDOUT`] if a real device is in trouble.
    ///
    /// # Safety
    ///
    /// The memory at `addr` must be mapped for the device to read, for the length of `to`. It must
    /// lie in one page.
    pub(crate) unsafe fn read(&self, addr: bindings::dma_addr_t, to: &mut [u8]) -> Result {
        match self {
            // SAFETY: The device is valid; otherwise by this function's safety requirements. `to`
            // is as long as its length.
            Self::Synthetic(_) => to_result(unsafe {
                bindings::importer_dma_read(self.as_raw(), addr, to.as_mut_ptr().cast(), to.len())
            }),
            // SAFETY: By this function's safety requirements.
            Self::Edu(claim) => unsafe { claim.read(addr, to) },
        }
    }

    /// Lets the device write to `addr`. May sleep.
    ///
    /// # Errors
    ///
    /// As [`Device::read`].
    ///
    /// # Safety
    ///
    /// The memory at `addr` must be mapped for the device to write, for the length of `from`. It
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

/// As [`Device::set_mask`].
pub(crate) fn set_mask(dev: &device::Device<Bound>, mask: DmaMask) -> Result {
    // SAFETY: The device is valid. The mask is one word, which the C side reads and writes whole,
    // and no memory is reached by a mapping that was not reached before.
    to_result(unsafe { bindings::dma_set_mask_and_coherent(dev.as_raw(), mask.value()) })
}
