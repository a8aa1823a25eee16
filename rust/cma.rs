// SPDX-License-Identifier: GPL-2.0

//! Contiguous memory areas.
//!
//! C header: [`include/linux/cma.h`](srctree/include/linux/cma.h)

use crate::{
    bindings,
    page::PageBlock,
    signal::fatal_signal_pending, //
};
use core::ptr::NonNull;
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sizes::SZ_1M, //
};

/// A contiguous memory area. Areas are made when the kernel boots, and never go.
#[derive(Clone, Copy)]
pub(crate) struct Cma(NonNull<bindings::cma>);

// SAFETY: An area has a lock of its own.
unsafe impl Send for Cma {}

// SAFETY: As above.
unsafe impl Sync for Cma {}

impl Cma {
    /// The area that devices without one of their own use, if the kernel has it.
    pub(crate) fn default_area() -> Option<Self> {
        // SAFETY: Callable in any context.
        NonNull::new(unsafe { bindings::dmacoh_default_cma() }).map(Self)
    }

    /// The size of all areas together, in bytes. That of one is not told.
    pub(crate) fn total_size() -> u64 {
        // SAFETY: Callable in any context.
        let nr_pages = unsafe { bindings::dmacoh_cma_pages() };

        // CAST: To a type of the same size.
        (nr_pages << PAGE_SHIFT) as u64
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
        let page = unsafe { bindings::dmacoh_cma_alloc(self.0.as_ptr(), nr_pages) };
        let Some(page) = NonNull::new(page) else {
            return Err(if fatal_signal_pending() {
                EINTR
            } else {
                ENOMEM
            });
        };

        // SAFETY: The pages are from this area, and zeroed below, before anybody sees them. There
        // is no high memory on 64-bit machines.
        let block = unsafe { PageBlock::from_cma(page, nr_pages, self) };
        let start = block.address().cast::<u8>();
        for offset in (0..nr_pages << PAGE_SHIFT).step_by(SZ_1M) {
            if fatal_signal_pending() {
                return Err(EINTR);
            }
            let len = SZ_1M.min((nr_pages << PAGE_SHIFT) - offset);
            // SAFETY: The bytes are part of the block, which is not shared yet.
            unsafe { start.add(offset).write_bytes(0, len) };
        }
        Ok(block)
    }

    /// Gives pages back.
    ///
    /// # Safety
    ///
    /// They must have been allocated from this area in one piece, and nobody may use them.
    pub(crate) unsafe fn release(self, page: NonNull<bindings::page>, nr_pages: usize) {
        // SAFETY: By this function's safety requirements.
        unsafe { bindings::dmacoh_cma_release(self.0.as_ptr(), page.as_ptr(), nr_pages) };
    }
}
