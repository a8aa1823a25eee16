// SPDX-License-Identifier: GPL-2.0

//! Memory cgroups.
//!
//! C header: [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h)

use crate::{
    bindings,
    page::PageBlock, //
};
use kernel::sync::rcu;

/// A reference to a memory cgroup, or to none where the kernel has no such controller.
///
/// # Invariants
///
/// Owns a reference to the cgroup unless the pointer is NULL.
pub(crate) struct Memcg(*mut bindings::mem_cgroup);

// SAFETY: A cgroup belongs to no task.
unsafe impl Send for Memcg {}

// SAFETY: As above; it is only looked at.
unsafe impl Sync for Memcg {}

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

    /// The [`id`](Self::id) of the current task's cgroup. No other cgroup gets it as long as `_guard`
    /// lives, or there is a reference to the cgroup.
    pub(crate) fn current_id(_guard: &rcu::Guard) -> usize {
        // SAFETY: Callable in process context, and in an RCU read-side critical section.
        unsafe { bindings::dmacoh_current_memcg_rcu() }.addr()
    }

    /// No cgroup: that of memory that is not charged.
    pub(crate) fn none() -> Self {
        // INVARIANT: The pointer is NULL.
        Self(core::ptr::null_mut())
    }

    /// The C structure, or NULL.
    pub(crate) fn as_ptr(&self) -> *mut bindings::mem_cgroup {
        self.0
    }

    /// Tells the cgroup from all others for as long as this reference lives.
    pub(crate) fn id(&self) -> usize {
        self.0.addr()
    }

    /// Whether the cgroup has been removed, or is being removed. No task is in it then.
    pub(crate) fn is_dying(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::dmacoh_memcg_is_dying(self.0) }
    }

    /// Whether this is what `block` is charged to. What is charged to nobody counts as the root's.
    pub(crate) fn is_charged(&self, block: &PageBlock) -> bool {
        // SAFETY: By the type invariants, and the block is owned by the caller.
        unsafe { bindings::dmacoh_memcg_is_charged(self.0, block.as_ptr()) }
    }
}

impl Drop for Memcg {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; this gives up the reference.
        unsafe { bindings::dmacoh_memcg_put(self.0) };
    }
}
