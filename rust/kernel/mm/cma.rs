// SPDX-License-Identifier: GPL-2.0

//! Contiguous memory areas.
//!
//! C header: [`include/linux/cma.h`](srctree/include/linux/cma.h)

use crate::{
    bindings,
    kernel::{
        device::DeviceExt,
        dma_mapping::DmaDevice,
        mm::page::{
            Extent,
            PageBlock, //
        },
        signal::fatal_signal_pending, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sizes::SZ_1M, //
};

/// A contiguous memory area. Areas are made when the kernel boots, and never go.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::cma::Cma,
///     page::PAGE_SIZE, //
/// };
///
/// // A kernel may have no such area.
/// if let Some(area) = Cma::all().next() {
///     let block = area.alloc_zeroed(3)?;
///
///     assert_eq!(block.size(), 3 * PAGE_SIZE);
///     pr_info!("three pages of {}\n", area.name());
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cma(NonNull<bindings::cma>);

// SAFETY: An area has a lock of its own.
unsafe impl Send for Cma {}

// SAFETY: As above.
unsafe impl Sync for Cma {}

impl Cma {
    /// All areas. The first is the default area, which devices without an area of their own use,
    /// if the kernel has it.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..).map_while(|index| {
            // SAFETY: Callable in any context.
            NonNull::new(unsafe { bindings::dmacoh_cma_area(index) }).map(Self)
        })
    }

    /// The area that has been set apart for `dev`, if there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     dma::dma_device::DmaDevice,
    ///     mm::cma::Cma, //
    /// };
    ///
    /// /// The area that the DMA API would take memory for the device from.
    /// fn area(dev: DmaDevice<'_>) -> Option<Cma> {
    ///     Cma::of_device(dev).or_else(|| Cma::all().next())
    /// }
    /// ```
    pub(crate) fn of_device(dev: DmaDevice<'_>) -> Option<Self> {
        // SAFETY: The device is valid. Its area changes before its driver is bound, if at all.
        NonNull::new(unsafe { bindings::dmacoh_dev_cma(dev.as_raw()) }).map(Self)
    }

    /// The name that the kernel's own heap for the area has.
    pub(crate) fn name(self) -> &'static CStr {
        // SAFETY: The area exists always, and so does its name, a C string.
        unsafe { CStr::from_char_ptr(bindings::dmacoh_cma_name(self.0.as_ptr())) }
    }

    /// Where the area lies, and how large it is. Where the kernel does not tell, these are upper
    /// limits. None if the area has no page to give. May sleep.
    pub(crate) fn extent(self) -> Option<Extent> {
        // SAFETY: The area exists always.
        Extent::from_raw(unsafe { bindings::dmacoh_cma_extent(self.0.as_ptr()) })
    }

    /// Allocates `nr_pages` zeroed pages in one piece. Sleeps, possibly long, as pages of others
    /// may have to be moved out of the way.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `nr_pages` is 0.
    /// - [`ENOMEM`] if the area has no such piece.
    /// - [`EINTR`] if the task is about to be killed.
    pub(crate) fn alloc_zeroed(self, nr_pages: usize) -> Result<PageBlock> {
        if nr_pages == 0 || nr_pages > c_int::MAX as usize {
            return Err(if nr_pages == 0 { EINVAL } else { ENOMEM });
        }

        // SAFETY: The area exists always.
        let page = unsafe { bindings::dmacoh_cma_alloc_pages(self.0.as_ptr(), nr_pages) };
        let Some(page) = NonNull::new(page) else {
            return Err(if fatal_signal_pending() {
                EINTR
            } else {
                ENOMEM
            });
        };

        // SAFETY: The pages are from this area, and zeroed below, before anybody sees them. There
        // is no high memory on 64-bit machines.
        let mut block = unsafe { PageBlock::from_cma(page, nr_pages, self.0) };
        let step = SZ_1M >> PAGE_SHIFT;
        for start in (0..nr_pages).step_by(step) {
            if fatal_signal_pending() {
                return Err(EINTR);
            }
            block.zero(start..start + step)?;
        }
        Ok(block)
    }
}
