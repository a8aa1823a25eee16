// SPDX-License-Identifier: GPL-2.0

//! The list of all write-combining memory. Who cleans the caches of all of it before hibernation
//! needs the list.

#![allow(
    clippy::upper_case_acronyms,
    reason = "the macro makes a type of the name of the static"
)]

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        global_lock, //
    }, //
};

global_lock! {
    // SAFETY: `Registry::new()` initialises it, and nothing touches it without a `Registry`.
    unsafe(uninit) static BLOCKS: SpinLock<Option<RBTree<usize, usize>>> = None;
}

/// The list of all blocks that are write-combining: the address of the first `struct page` of each,
/// and the number of pages.
///
/// Only hibernation needs the list, so kernels without hibernation do not keep it. Nor does x86,
/// where such memory has no cacheable mapping.
///
/// # Examples
///
/// ```
/// use core::ptr::NonNull;
/// use kernel::mm::{
///     page::{
///         Effort,
///         PageBlock,
///         Zone, //
///     },
///     write_combining::Registry, //
/// };
///
/// /// Lists a block, counts the pages of all blocks on the list, and removes the block again.
/// fn listed(registry: Registry, block: &PageBlock) -> Result<usize> {
///     let page = NonNull::new(block.as_ptr()).ok_or(EINVAL)?;
///     let mut sum = 0;
///
///     registry.add(page, block.nr_pages())?;
///     registry.for_each(|_, nr_pages| sum += nr_pages);
///     // SAFETY: `registry` is one.
///     unsafe { Registry::remove(page) };
///     Ok(sum)
/// }
///
/// let block = PageBlock::alloc_zeroed(2, Zone::All, Effort::Reclaim, false)?;
/// // The kernel has one list, so this works once.
/// let registry = Registry::new()?;
/// assert!(Registry::new().is_err_and(|err| err == EBUSY));
///
/// let expected = if Registry::IS_KEPT { 2 } else { 0 };
/// assert_eq!(listed(registry, &block)?, expected);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy)]
pub(crate) struct Registry(());

impl Registry {
    /// Whether this kernel keeps the list.
    pub(crate) const IS_KEPT: bool = cfg!(CONFIG_HIBERNATION) && !cfg!(CONFIG_X86);

    /// Creates the list.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if it has been created before.
    pub(crate) fn new() -> Result<Self> {
        static EXISTS: Atomic<bool> = Atomic::new(false);

        if EXISTS.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: Nobody gets here a second time.
        unsafe { BLOCKS.init() };
        Ok(Self(()))
    }

    /// Adds a block. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(crate) fn add(self, page: NonNull<bindings::page>, nr_pages: usize) -> Result {
        if Self::IS_KEPT {
            let key = page.as_ptr().expose_provenance();
            let node = RBTreeNode::new(key, nr_pages, GFP_KERNEL)?;

            BLOCKS.lock().get_or_insert_with(RBTree::new).insert(node);
        }
        Ok(())
    }

    /// Removes a block.
    ///
    /// # Safety
    ///
    /// A `Registry` must have been created.
    pub(crate) unsafe fn remove(page: NonNull<bindings::page>) {
        if Self::IS_KEPT {
            let mut blocks = BLOCKS.lock();
            let node = blocks
                .as_mut()
                .and_then(|blocks| blocks.remove_node(&page.addr().get()));

            drop(blocks);
            drop(node);
        }
    }

    /// Calls `f` with each block. None of them is removed meanwhile, so `f` may not sleep.
    pub(crate) fn for_each(self, mut f: impl FnMut(*mut bindings::page, usize)) {
        if let Some(blocks) = BLOCKS.lock().as_ref() {
            for (page, nr_pages) in blocks {
                f(core::ptr::with_exposed_provenance_mut(*page), *nr_pages);
            }
        }
    }
}
