// SPDX-License-Identifier: GPL-2.0

//! Memory that is reserved for this module when the kernel boots.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! The kernel's parameter `reserve_mem=<size>:<align>:<name>` keeps memory from the page allocator,
//! for a user who knows the name. This is the memory under the module's own name, so that nobody else
//! uses it.

use crate::{
    bindings,
    kernel::mm::page::{
        Blocks,
        Caching,
        Home,
        Keeper,
        PageBlock,
        Pages, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    bitmap::BitmapVec,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        UniqueArc, //
    },
    ModuleMetadata, //
};

/// The memory that is reserved for this module.
///
/// # Invariants
///
/// - `page` is the first of as many pages as `used` has bits. They are reserved for this module, and
///   there is no other `ReservedMem`.
/// - The bits of pages that have been lent are set.
#[pin_data]
pub(crate) struct ReservedMem {
    page: NonNull<bindings::page>,
    #[pin]
    used: Mutex<BitmapVec>,
}

// SAFETY: The memory belongs to no task.
unsafe impl Send for ReservedMem {}

// SAFETY: The bits of what is lent have a lock, and the pointer never changes.
unsafe impl Sync for ReservedMem {}

impl ReservedMem {
    /// Takes the memory that is reserved under the name of the module. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if this has been called before.
    /// - [`ENODEV`] if none is reserved.
    /// - [`ENOMEM`] if there is no memory for it.
    pub(crate) fn take() -> Result<Arc<Self>> {
        static IS_TAKEN: Atomic<bool> = Atomic::new(false);

        if IS_TAKEN.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        let name = <crate::LocalModule as ModuleMetadata>::NAME;
        let mut nr_pages = 0;
        // SAFETY: `name` is a C string, and the number may be written.
        let page = unsafe { bindings::dmacoh_reserved_pages(name.as_char_ptr(), &mut nr_pages) };
        let page = NonNull::new(page).ok_or(ENODEV)?;
        let used = BitmapVec::new(nr_pages, GFP_KERNEL)?;

        // INVARIANT: `IS_TAKEN` was not set. No page has been lent.
        Arc::pin_init(
            pin_init!(Self {
                page,
                used <- new_mutex!(used),
            }),
            GFP_KERNEL,
        )
    }

    /// Lends `nr_pages` zeroed pages in one piece until the buffer has gone. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `nr_pages` is 0.
    /// - [`ENOMEM`] if there is no such piece, or no memory for the buffer.
    pub(crate) fn alloc_zeroed(self: &Arc<Self>, nr_pages: usize) -> Result<UniqueArc<Pages>> {
        let mut pages = Pages::new(Caching::WriteBack, Some(Home::new(self.clone())))?;
        let first = self.reserve(nr_pages)?;
        // SAFETY: By the type invariants the page exists. Nobody else uses pages whose bits were not
        // set. Reserved memory is in the direct mapping, and there is no high memory on 64-bit
        // machines. The pages are zeroed below.
        let mut block = unsafe { PageBlock::lend(self.page.add(first), nr_pages) };

        // SAFETY: The CPU caches are where the data of such a block belongs.
        unsafe { block.zero_in_cache(0..nr_pages) };
        // The list needs no memory for a single block, so the block is not lost.
        pages.push(block, 1)?;
        Ok(pages)
    }

    /// Sets the bits of the first piece that is large enough. Returns its first page.
    fn reserve(&self, nr_pages: usize) -> Result<usize> {
        if nr_pages == 0 {
            return Err(EINVAL);
        }
        let mut used = self.used.lock();
        let mut start = 0;

        while start < used.len() {
            let Some(first) = used.next_zero_bit(start) else {
                break;
            };
            let end = used.next_bit(first).unwrap_or(used.len());
            if end - first >= nr_pages {
                for page in first..first + nr_pages {
                    used.set_bit(page);
                }
                return Ok(first);
            }
            start = end;
        }
        Err(ENOMEM)
    }

    /// The first page of a block, if it is one of this memory.
    fn index_of(&self, block: &PageBlock) -> Option<usize> {
        // SAFETY: By the type invariants the page exists.
        let first = unsafe { bindings::dmacoh_page_to_pfn(self.page.as_ptr()) };
        let index = block.pfn().checked_sub(first)?;

        (index < self.used.lock().len()).then_some(index)
    }
}

impl Keeper for ReservedMem {
    fn keep(&self, blocks: &mut Blocks) {
        blocks.retain(|block| {
            let Some(first) = self.index_of(block) else {
                return true;
            };
            let mut used = self.used.lock();

            for page in first..first + block.nr_pages() {
                used.clear_bit(page);
            }
            false
        });
    }

    fn left(&self) {}
}
