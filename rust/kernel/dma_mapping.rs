// SPDX-License-Identifier: GPL-2.0

//! Devices as the DMA API sees them.
//!
//! C headers: [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h),
//! [`include/linux/dma-map-ops.h`](srctree/include/linux/dma-map-ops.h)

use crate::{
    bindings,
    kernel::{
        device::{
            DeviceExt,
            HasDriver, //
        },
        mm::page::Pages, //
    }, //
};
use core::ops::{
    Deref,
    RangeInclusive, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};

/// Attributes of a mapping, a set of `DMA_ATTR_*`.
///
/// Stands in for [`kernel::dma::Attrs`], whose value other crates cannot read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attrs(c_ulong);

impl Attrs {
    /// No attribute.
    pub(crate) const NONE: Self = Self(0);

    /// The value for the C side.
    #[inline]
    pub(crate) fn as_raw(self) -> c_ulong {
        self.0
    }
}

/// Single attributes.
pub(crate) mod attrs {
    use super::Attrs;
    use crate::bindings;
    use kernel::prelude::*;

    /// Fail with [`EOPNOTSUPP`] rather than map for a device that does not snoop, and fail rather
    /// than bounce.
    pub(crate) const DMA_ATTR_REQUIRE_COHERENT: Attrs =
        Attrs(bindings::DMA_ATTR_REQUIRE_COHERENT as c_ulong);

    /// Leave the CPU caches alone: they hold nothing of the memory.
    pub(crate) const DMA_ATTR_SKIP_CPU_SYNC: Attrs =
        Attrs(bindings::DMA_ATTR_SKIP_CPU_SYNC as c_ulong);
}

/// A device that stays able to do DMA for `'a`, so that the DMA API may be asked about it.
///
/// # Invariants
///
/// Unbinding the device from its driver, if that has begun, does not end during `'a`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{
///         Bound,
///         Device, //
///     },
///     dma::dma_device::DmaDevice,
///     mm::page::Pages, //
/// };
///
/// /// Whether a device uses a buffer as it is: it sees the caches, and nothing bounces.
/// fn is_suitable(dev: &Device<Bound>, pages: &Pages) -> bool {
///     let dev = DmaDevice::from(dev);
///
///     dev.has_dma_mask() && dev.is_dma_coherent() && dev.reaches_pages(pages)
/// }
///
/// /// Whether the device can be given a buffer in one segment.
/// fn takes_one_segment(dev: &Device<Bound>, pages: &Pages) -> bool {
///     let dev = DmaDevice::from(dev);
///     let size = pages.size();
///
///     size <= dev.longest_segment(size)
///         && size - 1 <= dev.segment_boundary()
///         && (dev.reaches_all() || dev.can_bounce() && size <= dev.max_mapping())
/// }
/// ```
#[derive(Clone, Copy)]
pub(crate) struct DmaDevice<'a>(&'a Device);

impl<'a> DmaDevice<'a> {
    /// Creates a [`DmaDevice`] from a raw pointer.
    ///
    /// # Safety
    ///
    /// `dev` must point to a valid `struct device` that is neither released nor unbound from its
    /// driver during `'a`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     bindings,
    ///     dma::dma_device::DmaDevice, //
    /// };
    ///
    /// /// Whether the device of an attachment snoops the CPU caches.
    /// ///
    /// /// # Safety
    /// ///
    /// /// The importer must not detach before this returns.
    /// unsafe fn snoops(attachment: &bindings::dma_buf_attachment) -> bool {
    ///     // SAFETY: Importers keep the device of an attachment bound.
    ///     let dev = unsafe { DmaDevice::from_raw(attachment.dev) };
    ///
    ///     dev.is_dma_coherent()
    /// }
    /// ```
    #[inline]
    pub(crate) unsafe fn from_raw(dev: *mut bindings::device) -> Self {
        // INVARIANT: By this function's safety requirements.
        // SAFETY: By this function's safety requirements.
        Self(unsafe { Device::from_raw(dev) })
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

    /// Returns whether the device has a DMA mask. Without one it can map nothing, and the DMA API
    /// warns about an attempt.
    #[inline]
    pub(crate) fn has_dma_mask(&self) -> bool {
        // SAFETY: The device is valid, and its mask is not taken away while it is bound.
        !unsafe { (*self.as_raw()).dma_mask }.is_null()
    }

    /// How many bits a DMA address of the device may have, as the device and the buses before it
    /// state them; 0 without a DMA mask.
    pub(crate) fn address_bits(&self) -> u32 {
        // SAFETY: The device is valid, and its mask is not taken away while it is bound.
        unsafe { bindings::dmacoh_address_bits(self.as_raw()) }
    }

    /// Returns whether an IOMMU translates the DMA of the device to addresses that the DMA API
    /// chooses. Then the device sees each mapping in one piece.
    #[inline]
    pub(crate) fn has_iommu(&self) -> bool {
        // SAFETY: The device is valid.
        unsafe { bindings::dmacoh_dev_has_iommu(self.as_raw()) }
    }

    /// The longest segment that the device takes, in bytes, for a buffer of `size` bytes: the limit
    /// that its driver has set, or [`usize::MAX`].
    #[inline]
    pub(crate) fn longest_segment(&self, size: usize) -> usize {
        // SAFETY: The device is valid, and what it states stays while it is bound.
        unsafe { bindings::dmacoh_longest_segment(self.as_raw(), size) }
    }

    /// The longest piece that the DMA API can map for the device wherever it lies, in bytes. Where
    /// it may bounce, that is the size of one bounce buffer.
    #[inline]
    pub(crate) fn max_mapping(&self) -> usize {
        // SAFETY: The device is valid, and what the DMA API keeps for it stays meanwhile.
        unsafe { bindings::dma_max_mapping_size(self.as_raw()) }
    }

    /// The mask of addresses whose multiples no segment may cross.
    #[inline]
    pub(crate) fn segment_boundary(&self) -> usize {
        // SAFETY: As above.
        unsafe { bindings::dmacoh_segment_boundary(self.as_raw()) }
    }

    /// Returns whether the device reaches all memory itself: the DMA API never puts a bounce buffer
    /// in between.
    #[inline]
    pub(crate) fn reaches_all(&self) -> bool {
        // SAFETY: The device is valid, and by the type invariants what the DMA API keeps for it,
        // such as its range map, is not freed meanwhile.
        unsafe { bindings::dmacoh_dev_reaches_all(self.as_raw()) }
    }

    /// Returns whether the DMA API has bounce buffers for memory that the device does not reach.
    /// If it has none, it warns about an attempt to map such memory.
    pub(crate) fn can_bounce(&self) -> bool {
        // SAFETY: As above.
        unsafe { bindings::dmacoh_dev_can_bounce(self.as_raw()) }
    }

    /// Returns whether the device reaches this physical memory itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     dma::dma_device::DmaDevice,
    ///     mm::page::PageBlock, //
    /// };
    ///
    /// /// The number of blocks for which the DMA API would need bounce buffers.
    /// fn bounced(dev: DmaDevice<'_>, blocks: &[PageBlock]) -> usize {
    ///     blocks
    ///         .iter()
    ///         .filter(|block| !dev.reaches(&block.physical()))
    ///         .count()
    /// }
    /// ```
    #[inline]
    pub(crate) fn reaches(&self, memory: &RangeInclusive<u64>) -> bool {
        // SAFETY: As above.
        unsafe { bindings::dmacoh_dev_reaches(self.as_raw(), *memory.start(), *memory.end()) }
    }

    /// Returns whether the device reaches all of `pages` itself.
    pub(crate) fn reaches_pages(&self, pages: &Pages) -> bool {
        let blocks = pages.blocks();
        let reaches_each = || blocks.iter().all(|block| self.reaches(&block.physical()));

        // A single block is asked about more quickly than all memory.
        (blocks.len() == 1 && reaches_each()) || self.reaches_all() || reaches_each()
    }
}

impl<'a> From<&'a Device<Bound>> for DmaDevice<'a> {
    #[inline]
    fn from(dev: &'a Device<Bound>) -> Self {
        // INVARIANT: The type of `dev` says that it is bound during `'a`.
        Self(dev)
    }
}

impl<'a> From<HasDriver<'a>> for DmaDevice<'a> {
    #[inline]
    fn from(dev: HasDriver<'a>) -> Self {
        // INVARIANT: The driver core keeps what the DMA API needs until unbinding ends, which by the
        // invariants of `HasDriver` it does not during `'a`.
        Self(dev.get())
    }
}

impl Deref for DmaDevice<'_> {
    type Target = Device;

    #[inline]
    fn deref(&self) -> &Device {
        self.0
    }
}
