// SPDX-License-Identifier: GPL-2.0

//! Kernel mappings of a buffer's memory.
//!
//! C header: [`include/linux/vmalloc.h`](srctree/include/linux/vmalloc.h)

use crate::{
    bindings,
    kernel::mm::page::{
        Caching,
        Pages, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::Arc, //
};

/// A contiguous kernel mapping of all of [`Pages`], which it keeps alive.
///
/// Memory in one block is used at its address in the direct mapping, if that has the caching of the
/// buffer. Other memory takes room in the vmalloc area.
///
/// # Invariants
///
/// `addr` is the start of a mapping of `pages` that lives as long as `self`; it came from `vmap()`
/// if and only if that is in the vmalloc area.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::{
///         page::{
///             Caching,
///             Effort,
///             PageBlock,
///             Pages,
///             Zone, //
///         },
///         vmalloc::VMap, //
///     },
///     page::PAGE_SIZE, //
/// };
///
/// let mut pages = Pages::new(Caching::WriteBack, None)?;
/// for _ in 0..2 {
///     let block = PageBlock::alloc_zeroed(1, Zone::All, Effort::Reclaim, false)?;
///     pages.push(block, 1)?;
/// }
/// let vmap = VMap::new(pages.into())?;
///
/// assert_eq!(vmap.size(), 2 * PAGE_SIZE);
/// // SAFETY: This is the last byte of the mapping, which nobody else has.
/// assert_eq!(unsafe { vmap.as_ptr().cast::<u8>().add(vmap.size() - 1).read() }, 0);
/// # Ok::<(), Error>(())
/// ```
pub(crate) struct VMap {
    addr: NonNull<c_void>,
    pages: Arc<Pages>,
}

// SAFETY: A kernel mapping belongs to no task, and may be undone by any that may sleep.
unsafe impl Send for VMap {}

// SAFETY: A shared `VMap` only tells its address and size.
unsafe impl Sync for VMap {}

impl VMap {
    /// Maps `pages`, cached or not as they are. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `pages` is empty, or too large to be counted in pages by the C side.
    /// - [`ENOMEM`] if there is no memory or no address space for it.
    pub(crate) fn new(pages: Arc<Pages>) -> Result<Self> {
        let addr = match pages.blocks() {
            [] => return Err(EINVAL),
            [block] if block.is_mapped(pages.caching()) => block.address(),
            blocks => {
                let count = pages.size() >> PAGE_SHIFT;
                let mut list = KVVec::with_capacity(count, GFP_KERNEL | __GFP_NOWARN)?;

                for block in blocks {
                    for i in 0..block.nr_pages() {
                        list.push(block.as_ptr().wrapping_add(i), GFP_KERNEL)?;
                    }
                }
                // SAFETY: `list` holds `count` valid pages. They outlive the mapping, as `self`
                // keeps `pages` until it is undone.
                let addr = unsafe {
                    bindings::dmacoh_vmap_pages(
                        list.as_mut_ptr(),
                        count.try_into()?,
                        pages.caching() == Caching::WriteCombining,
                    )
                };
                NonNull::new(addr).ok_or(ENOMEM)?
            }
        };

        // INVARIANT: `addr` is as the invariants ask in both cases.
        Ok(Self { addr, pages })
    }

    /// The address of the first byte.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.addr.as_ptr()
    }

    /// The number of bytes that are mapped.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.pages.size()
    }
}

impl Drop for VMap {
    fn drop(&mut self) {
        // SAFETY: This only looks at the address.
        if unsafe { bindings::is_vmalloc_addr(self.addr.as_ptr()) } {
            // SAFETY: By the type invariants `addr` came from `vmap()`. Users of the mapping
            // through a raw pointer have to have stopped before `self` is dropped.
            unsafe { bindings::vunmap(self.addr.as_ptr()) };
        }
    }
}
