// SPDX-License-Identifier: GPL-2.0

//! Memory cgroups.
//!
//! C header: [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h)

use crate::bindings;
use core::ptr::NonNull;

/// Identifies a memory cgroup among all that exist or have existed. It holds no reference, so the
/// cgroup may have been freed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u64);

impl Id {
    /// The identifier for memory that no cgroup is charged for. The root cgroup has it too, as the
    /// kernel never charges it.
    pub(crate) const NONE: Self = Self(0);

    /// Returns the identifier of the current task's cgroup.
    #[inline]
    pub(crate) fn current() -> Self {
        // SAFETY: Callable in any context.
        Self(unsafe { bindings::dmacoh_current_memcg_id() })
    }

    /// Returns the identifier of the cgroup that a page is charged to. If that cgroup has been
    /// removed, this is its parent's. While the kernel moves the charge to the parent, this is an
    /// identifier that no cgroup has.
    ///
    /// # Safety
    ///
    /// The page must be valid, and not be freed meanwhile.
    #[inline]
    pub(crate) unsafe fn of_page(page: NonNull<bindings::page>) -> Self {
        // SAFETY: Callable in any context; the page is valid by this function's safety requirements.
        Self(unsafe { bindings::dmacoh_page_memcg_id(page.as_ptr()) })
    }
}

/// A reference to a memory cgroup, or to none where the kernel has no such controller.
///
/// A reference keeps a cgroup that is removed from being freed. So hold one no longer than an
/// operation takes, and keep an [`Id`] otherwise.
///
/// # Invariants
///
/// Owns a reference to the cgroup unless the pointer is NULL.
pub(crate) struct Memcg(*mut bindings::mem_cgroup);

impl Memcg {
    /// Whether there are memory cgroups. That does not change.
    pub(crate) fn exist() -> bool {
        // SAFETY: Callable in any context.
        !unsafe { bindings::dmacoh_memcg_disabled() }
    }

    /// The cgroup of the current task.
    pub(crate) fn current() -> Self {
        // INVARIANT: The callee returns a reference.
        // SAFETY: Callable in process context.
        Self(unsafe { bindings::dmacoh_current_memcg() })
    }

    /// Returns no cgroup, for memory that is not charged.
    pub(crate) fn none() -> Self {
        // INVARIANT: The pointer is NULL.
        Self(core::ptr::null_mut())
    }

    /// The C structure, or NULL.
    pub(crate) fn as_ptr(&self) -> *mut bindings::mem_cgroup {
        self.0
    }

    /// The identifier of the cgroup.
    pub(crate) fn id(&self) -> Id {
        // SAFETY: By the type invariants.
        Id(unsafe { bindings::dmacoh_memcg_id(self.0) })
    }
}

impl Drop for Memcg {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; this gives up the reference.
        unsafe { bindings::dmacoh_memcg_put(self.0) };
    }
}
