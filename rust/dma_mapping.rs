// SPDX-License-Identifier: GPL-2.0

//! Devices as the DMA API sees them.
//!
//! C headers: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h),
//! [`include/linux/dma-map-ops.h`](srctree/include/linux/dma-map-ops.h)

use crate::bindings;
use core::ops::Deref;
use kernel::{
    device::Device,
    prelude::*, //
};

/// Attributes of a mapping, a set of `DMA_ATTR_*`.
///
/// Stands in for [`kernel::dma::Attrs`], whose value other crates cannot read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attrs(c_ulong);

impl Attrs {
    /// Fail with [`EOPNOTSUPP`] rather than map for a device that does not snoop, and fail rather
    /// than bounce.
    pub(crate) const REQUIRE_COHERENT: Self = Self(bindings::DMA_ATTR_REQUIRE_COHERENT as c_ulong);

    /// The value for the C side.
    #[inline]
    pub(crate) fn as_raw(self) -> c_ulong {
        self.0
    }
}

/// A device that stays able to do DMA for `'a`, so that the DMA API may be asked about it.
///
/// # Invariants
///
/// The device is not unbound from its driver during `'a`.
#[derive(Clone, Copy)]
pub(crate) struct DmaDevice<'a>(&'a Device);

impl<'a> DmaDevice<'a> {
    /// Creates a [`DmaDevice`] from a raw pointer.
    ///
    /// # Safety
    ///
    /// `dev` must point to a valid `struct device` that is neither released nor unbound from its
    /// driver during `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw(dev: *mut bindings::device) -> Self {
        // INVARIANT: By this function's safety requirements.
        // SAFETY: By this function's safety requirements.
        Self(unsafe { Device::from_raw(dev) })
    }

    /// The raw `struct device`.
    #[inline]
    pub(crate) fn as_raw(&self) -> *mut bindings::device {
        // CAST: `Device` is a transparent wrapper of `struct device`.
        core::ptr::from_ref(self.0).cast_mut().cast()
    }

    /// Returns whether the device snoops the CPU caches.
    ///
    /// This is the driver core's own bit, which all architectures keep: `dev_is_dma_coherent()` is
    /// a constant on those where every device is expected to snoop.
    #[inline]
    pub(crate) fn is_dma_coherent(&self) -> bool {
        // SAFETY: The device is valid.
        unsafe { bindings::dmacoh_dev_dma_coherent(self.as_raw()) }
    }

    /// Returns whether the device has a DMA mask; without one it can map nothing, and the DMA API
    /// warns of the attempt.
    #[inline]
    pub(crate) fn has_dma_mask(&self) -> bool {
        // SAFETY: The device is valid, and its mask is not taken away while it is bound.
        !unsafe { (*self.as_raw()).dma_mask }.is_null()
    }

    /// Returns whether the DMA API may put a bounce buffer between this device and some memory:
    /// because the device cannot address all of it, or because bouncing is forced.
    #[inline]
    pub(crate) fn may_bounce(&self) -> bool {
        // SAFETY: The device is valid, and by the type invariants what the DMA API keeps for it,
        // such as its range map, is not freed meanwhile.
        unsafe {
            bindings::dma_addressing_limited(self.as_raw())
                || bindings::dmacoh_dev_forced_bounce(self.as_raw())
        }
    }
}

impl Deref for DmaDevice<'_> {
    type Target = Device;

    #[inline]
    fn deref(&self) -> &Device {
        self.0
    }
}
