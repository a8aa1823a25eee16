// SPDX-License-Identifier: GPL-2.0

//! Caches that give memory back when it is short. If a memory cgroup is short of memory, they give
//! back what they keep for that cgroup.
//!
//! C headers: [`include/linux/shrinker.h`](srctree/include/linux/shrinker.h),
//! [`include/linux/list_lru.h`](srctree/include/linux/list_lru.h)
//!
//! The kernel asks a shrinker for the memory of a cgroup only if the shrinker has something on that
//! cgroup's list. So there is one item for each cgroup on a `list_lru`, and behind it whatever the
//! cache keeps for the cgroup. When a cgroup goes, the kernel moves its item to the parent's list.

use crate::{
    bindings,
    kernel::{
        mm::memcg::Memcg,
        module::Forever, //
    }, //
};
use core::{
    marker::PhantomData,
    mem::{
        align_of,
        size_of, //
    },
    ptr::NonNull, //
};
use kernel::{
    container_of,
    error::to_result,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque,
    ModuleMetadata, //
};

/// What a cache keeps for one cgroup.
pub(crate) trait Reclaim: Send + Sync + 'static {
    /// How many pages there are to give back. Must not sleep.
    fn reclaimable(&self) -> usize;

    /// Frees at least `nr_pages` pages, or all, and returns how many. Called while a task
    /// allocates: it must neither allocate nor take a lock that is held while allocating.
    fn reclaim(&self, nr_pages: usize) -> usize;
}

/// The macro of the same name, which bindgen cannot evaluate.
const SHRINK_STOP: usize = !0;

/// A shrinker for the caches of all cgroups.
///
/// # Invariants
///
/// - `shrinker` has been allocated, and its private data points to this.
/// - `lru` is initialised, and has nothing on it but items of [`Member<T>`]s that live.
#[pin_data(PinnedDrop)]
pub(crate) struct Shrinker<T: Reclaim> {
    shrinker: NonNull<bindings::shrinker>,
    #[pin]
    lru: Opaque<bindings::list_lru>,
    items: ItemCache,
    is_registered: Atomic<bool>,
    _type: PhantomData<fn(T) -> T>,
}

// SAFETY: What is shared has locks of its own.
unsafe impl<T: Reclaim> Send for Shrinker<T> {}

// SAFETY: As above.
unsafe impl<T: Reclaim> Sync for Shrinker<T> {}

/// The slab cache that items come from. Only an allocation from a slab cache prepares a `list_lru`
/// for the cgroup that it is charged to.
struct ItemCache(NonNull<bindings::kmem_cache>);

impl Drop for ItemCache {
    fn drop(&mut self) {
        // SAFETY: All items have been freed: each has kept the shrinker alive, and so its cache.
        unsafe { bindings::kmem_cache_destroy(self.0.as_ptr()) };
    }
}

/// An item on the list of a cgroup.
#[repr(C)]
struct Item<T> {
    list: bindings::list_head,
    what: Arc<T>,
}

impl<T: Reclaim> Shrinker<T> {
    /// Creates a shrinker, of which the kernel does not know before [`Self::register`]. May sleep.
    ///
    /// It and its slab cache have the name of the module and a number, as the kernel dumps the stack
    /// for two caches of one name.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(crate) fn new() -> Result<Arc<Self>> {
        static COUNT: Atomic<usize> = Atomic::new(0);

        let module = <crate::LocalModule as ModuleMetadata>::NAME;
        let number = COUNT.fetch_add(1, Relaxed);
        let name = CString::try_from_fmt(fmt!("{}-{}", module, number))?;
        // CAST: An item is small.
        // SAFETY: The name is a string, which is copied.
        let items = unsafe {
            bindings::dmacoh_cache_create(
                name.as_char_ptr(),
                size_of::<Item<T>>() as u32,
                align_of::<Item<T>>() as u32,
            )
        };
        let items = ItemCache(NonNull::new(items).ok_or(ENOMEM)?);
        // SAFETY: The format is for a string, which is copied.
        let shrinker = unsafe {
            bindings::shrinker_alloc(
                bindings::DMACOH_SHRINKER_FLAGS,
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        };
        let shrinker = NonNull::new(shrinker).ok_or(ENOMEM)?;

        let this = Arc::pin_init(
            try_pin_init!(Self {
                shrinker,
                lru <- Opaque::try_ffi_init(|lru| {
                    // SAFETY: `lru` may be written; the shrinker has just been allocated.
                    to_result(unsafe { bindings::dmacoh_list_lru_init(lru, shrinker.as_ptr()) })
                }),
                items,
                is_registered: Atomic::new(false),
                _type: PhantomData,
            }? Error),
            GFP_KERNEL,
        )
        .inspect_err(|_| {
            // SAFETY: It has not been registered.
            unsafe { bindings::shrinker_free(shrinker.as_ptr()) };
        })?;

        // INVARIANT: Nobody else has got at the shrinker yet.
        //
        // SAFETY: As above.
        unsafe {
            (*shrinker.as_ptr()).count_objects = Some(count_callback::<T>);
            (*shrinker.as_ptr()).scan_objects = Some(scan_callback::<T>);
            // It costs no I/O to fill a cache again, and a few large blocks are much memory.
            (*shrinker.as_ptr()).seeks = 1;
            (*shrinker.as_ptr()).batch = 1;
            (*shrinker.as_ptr()).private_data = Arc::as_ptr(&this).cast_mut().cast();
        }
        Ok(this)
    }

    /// Registers the shrinker, for ever: the kernel may ask it for memory from now on. May sleep.
    ///
    /// It cannot be undone: a callback that dropped the last reference would wait for its own end.
    pub(crate) fn register(self: &Arc<Self>, _: Forever) {
        if !self.is_registered.xchg(true, Relaxed) {
            core::mem::forget(self.clone());
            // SAFETY: The shrinker is registered once. The callbacks get at `self` through its private
            // data, which is never freed now. They stay: there is a `Forever`.
            unsafe { bindings::shrinker_register(self.shrinker.as_ptr()) };
        }
    }

    /// Puts `what`, which is kept for `memcg`, under the shrinker. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it, or the cgroup is at its limit.
    pub(crate) fn add(self: &Arc<Self>, memcg: &Memcg, what: Arc<T>) -> Result<Member<T>> {
        // SAFETY: Both have been initialised, and there is a reference to the cgroup.
        let item = unsafe {
            bindings::dmacoh_cache_alloc_lru(self.items.0.as_ptr(), self.lru.get(), memcg.as_ptr())
        };
        let item = NonNull::new(item.cast::<Item<T>>()).ok_or(ENOMEM)?;

        // SAFETY: The item has just been allocated, and is large enough and aligned.
        unsafe {
            let list = &raw mut (*item.as_ptr()).list;

            list.write(bindings::list_head {
                next: list,
                prev: list,
            });
            (&raw mut (*item.as_ptr()).what).write(what);
            bindings::list_lru_add_obj(self.lru.get(), list);
        }
        Ok(Member {
            item,
            shrinker: self.clone(),
        })
    }

    /// Calls `visit` for up to `count` items on the list that a cgroup has for a memory node, with
    /// the list's lock held. `visit` says where on the list the item goes. An item that goes to
    /// the end is visited again if the count allows it.
    ///
    /// # Safety
    ///
    /// There must be a reference to `memcg`, unless it is NULL.
    unsafe fn walk<F: FnMut(&Arc<T>) -> bindings::lru_status>(
        &self,
        memcg: *mut bindings::mem_cgroup,
        node: c_int,
        mut count: usize,
        mut visit: F,
    ) {
        /// # Safety
        ///
        /// Only called for an item on the list, with the list's lock held, and with a pointer to an
        /// `F` that nobody else uses.
        unsafe extern "C" fn visit_callback<
            T: Reclaim,
            F: FnMut(&Arc<T>) -> bindings::lru_status,
        >(
            list: *mut bindings::list_head,
            _lru: *mut bindings::list_lru_one,
            visit: *mut c_void,
        ) -> bindings::lru_status {
            // SAFETY: By this function's safety requirements. An item that is on the list lives.
            let (item, visit) = unsafe {
                (
                    &*container_of!(list, Item<T>, list),
                    &mut *visit.cast::<F>(),
                )
            };

            visit(&item.what)
        }

        // SAFETY: The list is initialised; the callback gets what it needs.
        unsafe {
            bindings::list_lru_walk_one(
                self.lru.get(),
                node,
                memcg,
                Some(visit_callback::<T, F>),
                (&raw mut visit).cast(),
                &mut count,
            )
        };
    }

    /// Has the items on the list that a cgroup has for a memory node give back `wanted` pages, or
    /// all. Returns how many they gave.
    ///
    /// # Safety
    ///
    /// As for [`walk`](Self::walk).
    unsafe fn reclaim(
        &self,
        memcg: *mut bindings::mem_cgroup,
        node: c_int,
        wanted: usize,
    ) -> usize {
        let mut items = 0;
        let mut freed = 0_usize;

        // SAFETY: By this function's safety requirements.
        unsafe {
            self.walk(memcg, node, usize::MAX, |_| {
                items += 1;
                bindings::lru_status::LRU_SKIP
            })
        };
        for _ in 0..items {
            let mut next = None;

            // SAFETY: As above.
            unsafe {
                self.walk(memcg, node, 1, |what| {
                    next = Some(what.clone());
                    bindings::lru_status::LRU_ROTATE
                })
            };
            let Some(what) = next else { break };
            freed = freed.saturating_add(what.reclaim(wanted.saturating_sub(freed)));
            if freed >= wanted {
                break;
            }
        }
        freed
    }
}

#[pinned_drop]
impl<T: Reclaim> PinnedDrop for Shrinker<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It has been allocated, and is not registered, as that would keep it.
        unsafe { bindings::shrinker_free(self.shrinker.as_ptr()) };
        // SAFETY: It is initialised, and empty, as each item has kept the shrinker alive.
        unsafe { bindings::list_lru_destroy(self.lru.get()) };
    }
}

/// All memory nodes. An item is on the list of the node that its own memory is from. The memory
/// that the cache keeps may be from any node.
fn nodes() -> impl Iterator<Item = c_int> {
    // Their numbers may have gaps, for which there is no list.
    let next = |node| {
        // SAFETY: Callable in any context.
        let next = unsafe { bindings::dmacoh_next_node(node) };

        (next >= 0).then_some(next)
    };

    core::iter::successors(next(-1), move |node| next(*node))
}

/// Something that is kept under a [`Shrinker`] until this is dropped.
///
/// # Invariants
///
/// Owns `item`, which is on the list of the cgroup that it is charged to.
pub(crate) struct Member<T: Reclaim> {
    item: NonNull<Item<T>>,
    shrinker: Arc<Shrinker<T>>,
}

// SAFETY: The item belongs to no task, and what is in it is `Send` and `Sync`.
unsafe impl<T: Reclaim> Send for Member<T> {}

// SAFETY: As above.
unsafe impl<T: Reclaim> Sync for Member<T> {}

impl<T: Reclaim> core::ops::Deref for Member<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        // SAFETY: By the type invariants.
        unsafe { &(*self.item.as_ptr()).what }
    }
}

impl<T: Reclaim> Drop for Member<T> {
    fn drop(&mut self) {
        // The list is found by the item itself. It cannot be found by a cgroup that has gone, whose
        // number in `list_lru` another cgroup may have by now.
        // SAFETY: By the type invariants. Callbacks look at an item with the list's lock held, so
        // none does when it has been taken off.
        unsafe {
            bindings::list_lru_del_obj(
                self.shrinker.lru.get(),
                &raw mut (*self.item.as_ptr()).list,
            );
            core::ptr::drop_in_place(&raw mut (*self.item.as_ptr()).what);
            bindings::kmem_cache_free(self.shrinker.items.0.as_ptr(), self.item.as_ptr().cast());
        }
    }
}

/// # Safety
///
/// Only called by the core, with a shrinker of [`Shrinker<T>`].
unsafe extern "C" fn count_callback<T: Reclaim>(
    shrinker: *mut bindings::shrinker,
    sc: *mut bindings::shrink_control,
) -> usize {
    // SAFETY: By the invariants of `Shrinker`.
    let (this, memcg) = unsafe {
        (
            &*(*shrinker).private_data.cast::<Shrinker<T>>(),
            (*sc).memcg,
        )
    };
    let mut pages = 0_usize;

    for node in nodes() {
        // SAFETY: The core holds a reference to the cgroup.
        unsafe {
            this.walk(memcg, node, usize::MAX, |what| {
                pages = pages.saturating_add(what.reclaimable());
                bindings::lru_status::LRU_SKIP
            })
        };
    }
    pages
}

/// # Safety
///
/// As for [`count_callback`].
unsafe extern "C" fn scan_callback<T: Reclaim>(
    shrinker: *mut bindings::shrinker,
    sc: *mut bindings::shrink_control,
) -> usize {
    // SAFETY: By the invariants of `Shrinker`.
    let (this, memcg, wanted) = unsafe {
        (
            &*(*shrinker).private_data.cast::<Shrinker<T>>(),
            (*sc).memcg,
            (*sc).nr_to_scan,
        )
    };
    let mut freed = 0_usize;

    for node in nodes() {
        // SAFETY: The core holds a reference to the cgroup.
        let more = unsafe { this.reclaim(memcg, node, wanted.saturating_sub(freed)) };

        freed = freed.saturating_add(more);
        if freed >= wanted {
            break;
        }
    }

    // SAFETY: `sc` may be written. The current task is the one that reclaims.
    unsafe {
        (*sc).nr_scanned = freed;
        bindings::dmacoh_account_reclaimed_pages(freed);
    }
    if freed == 0 {
        SHRINK_STOP
    } else {
        freed
    }
}
