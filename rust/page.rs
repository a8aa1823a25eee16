// SPDX-License-Identifier: GPL-2.0

//! Blocks of physically contiguous pages.
//!
//! C headers: [`include/linux/gfp.h`](srctree/include/linux/gfp.h),
//! [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! [`kernel::page::Page`] is a single page. A [`PageBlock`] is any number of them in one physical
//! piece, and [`Pages`] is the memory of one buffer: a sequence of blocks.

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// How hard the page allocator tries. Neither calls the OOM killer, and neither logs a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Take a block that is free now; reclaim nothing.
    AtHand,
    /// Reclaim memory for it, for as long as that makes progress.
    Reclaim,
}

/// An owned block of physically contiguous pages, zeroed when it was allocated.
///
/// Blocks come from the page allocator's directly mapped memory, so they have a kernel address.
///
/// # Invariants
///
/// `page` is the first of `nr_pages` pages that nobody else frees. They were allocated as one
/// compound page if `nr_pages` is a power of two, else by `alloc_pages_exact()`.
pub(crate) struct PageBlock {
    page: NonNull<bindings::page>,
    nr_pages: usize,
}

// SAFETY: Pages belong to no task, and may be freed by any.
unsafe impl Send for PageBlock {}

// SAFETY: A shared `PageBlock` only tells where its pages are.
unsafe impl Sync for PageBlock {}

impl PageBlock {
    /// Allocates `nr_pages` zeroed pages in one piece, charged to the memory cgroup of the current
    /// task if `account` is set.
    ///
    /// Sleeps if `effort` is [`Effort::Reclaim`].
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `nr_pages` is 0.
    /// - [`ENOMEM`] if there is no such block, or the memory cgroup is at its limit.
    pub(crate) fn alloc_zeroed(nr_pages: usize, effort: Effort, account: bool) -> Result<Self> {
        let order = nr_pages.checked_ilog2().ok_or(EINVAL)?;

        let mut gfp = bindings::DMACOH_GFP_USER | bindings::__GFP_ZERO | bindings::__GFP_NOWARN;
        match effort {
            Effort::AtHand => {
                gfp |= bindings::DMACOH___GFP_NORETRY;
                gfp &= !bindings::DMACOH___GFP_RECLAIM;
            }
            Effort::Reclaim => gfp |= bindings::DMACOH___GFP_RETRY_MAYFAIL,
        }
        if account {
            gfp |= bindings::DMACOH___GFP_ACCOUNT;
        }

        let page = if nr_pages.is_power_of_two() {
            // SAFETY: An order that is too large is refused by returning NULL.
            unsafe { bindings::alloc_pages(gfp | bindings::DMACOH___GFP_COMP, order) }
        } else {
            let size = nr_pages.checked_mul(PAGE_SIZE).ok_or(ENOMEM)?;
            // SAFETY: As above, and `gfp` asks neither for a compound page nor for high memory.
            let addr = unsafe { bindings::alloc_pages_exact_noprof(size, gfp) };
            if addr.is_null() {
                return Err(ENOMEM);
            }
            // SAFETY: `addr` is an address in the direct mapping.
            unsafe { bindings::dmacoh_virt_to_page(addr) }
        };

        // INVARIANT: The pages have just been allocated in the way that the invariants name.
        Ok(Self {
            page: NonNull::new(page).ok_or(ENOMEM)?,
            nr_pages,
        })
    }

    /// The size in bytes, a multiple of [`PAGE_SIZE`].
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.nr_pages << PAGE_SHIFT
    }

    /// The number of pages.
    #[inline]
    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// The first `struct page`. The others follow it within the same memory section map.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::page {
        self.page.as_ptr()
    }

    /// The page frame number of the first page.
    #[inline]
    pub(crate) fn pfn(&self) -> usize {
        // SAFETY: The page is valid by the type invariants.
        unsafe { bindings::dmacoh_page_to_pfn(self.page.as_ptr()) }
    }

    /// The kernel address of the first byte.
    #[inline]
    pub(crate) fn address(&self) -> NonNull<c_void> {
        // SAFETY: The page is valid by the type invariants.
        let addr = unsafe { bindings::dmacoh_page_address(self.page.as_ptr()) };
        // SAFETY: Directly mapped pages have an address, which is not NULL.
        unsafe { NonNull::new_unchecked(addr) }
    }
}

impl Drop for PageBlock {
    fn drop(&mut self) {
        if self.nr_pages.is_power_of_two() {
            // SAFETY: By the type invariants this is the compound page that we own.
            unsafe { bindings::__free_pages(self.page.as_ptr(), self.nr_pages.ilog2()) };
        } else {
            // SAFETY: By the type invariants this came from `alloc_pages_exact()` with this size.
            unsafe { bindings::free_pages_exact(self.address().as_ptr(), self.size()) };
        }
    }
}

/// The memory of one buffer: blocks in the order of their offsets in it.
pub(crate) struct Pages {
    blocks: KVVec<PageBlock>,
    size: usize,
}

impl Pages {
    /// Takes the blocks over.
    pub(crate) fn new(blocks: KVVec<PageBlock>) -> Self {
        let size = blocks.iter().map(PageBlock::size).sum();

        Self { blocks, size }
    }

    /// The blocks, by rising offset.
    #[inline]
    pub(crate) fn blocks(&self) -> &[PageBlock] {
        &self.blocks
    }

    /// The size of all blocks together, in bytes.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

/// An estimate of the bytes that can be allocated without swapping, for refusing a request at once
/// that cannot succeed.
pub(crate) fn available() -> usize {
    // SAFETY: Callable in any context.
    let pages = unsafe { bindings::si_mem_available() };

    usize::try_from(pages).map_or(0, |pages| pages.saturating_mul(PAGE_SIZE))
}
