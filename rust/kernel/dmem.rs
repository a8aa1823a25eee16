// SPDX-License-Identifier: GPL-2.0

//! Charging device memory to control groups.
//!
//! C header: [`include/linux/cgroup_dmem.h`](srctree/include/linux/cgroup_dmem.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// A region of memory that the dmem controller knows.
///
/// # Invariants
///
/// Registered until it is dropped.
pub(crate) struct Region {
    region: NonNull<c_void>,
    size: u64,
}

/// The size of the largest region. The controller counts bytes with a counter that is made for
/// pages.
const MAX_SIZE: u64 = i64::MAX as u64 / PAGE_SIZE as u64;

// SAFETY: The controller locks what it needs.
unsafe impl Send for Region {}

// SAFETY: As above.
unsafe impl Sync for Region {}

impl Region {
    /// Registers a region of `size` bytes, as `name` in the files `dmem.*` of control groups. None
    /// where the kernel does not have the controller. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the region is larger than any memory.
    /// - [`ENOMEM`] if there is no memory for it.
    pub(crate) fn register(size: u64, name: &CStr) -> Result<Option<Self>> {
        if size > MAX_SIZE {
            return Err(EINVAL);
        }
        // SAFETY: `name` is a string, which is copied.
        let region =
            from_err_ptr(unsafe { bindings::dmacoh_dmem_register(size, name.as_char_ptr()) })?;

        // INVARIANT: It has just been registered.
        Ok(NonNull::new(region).map(|region| Self { region, size }))
    }

    /// Charges `size` bytes to the control group of the current task. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if the region is smaller, the group or one above it is at its limit, or there is no
    /// memory for it.
    pub(crate) fn charge(self: &Arc<Self>, size: u64) -> Result<Charge> {
        // The controller adds to its counter before it compares. It does not notice that a sum
        // overflows, and other tasks see that sum until it is taken back.
        if size > self.size {
            return Err(ENOMEM);
        }
        let mut pool = core::ptr::null_mut();

        // SAFETY: The region is registered.
        to_result(unsafe { bindings::dmacoh_dmem_charge(self.region.as_ptr(), size, &mut pool) })
            .map_err(|_| ENOMEM)?;
        // INVARIANT: Charged just now.
        Ok(Charge {
            pool,
            size,
            _region: self.clone(),
        })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: It is registered, and whatever has been charged to it has been given back.
        unsafe { bindings::dmacoh_dmem_unregister(self.region.as_ptr()) };
    }
}

/// A charge to a control group, given back when it is dropped.
///
/// # Invariants
///
/// `size` bytes are charged to `pool`.
pub(crate) struct Charge {
    pool: *mut c_void,
    size: u64,
    _region: Arc<Region>,
}

// SAFETY: A charge may be given back by any task.
unsafe impl Send for Charge {}

// SAFETY: There is nothing to do with a shared one.
unsafe impl Sync for Charge {}

impl Drop for Charge {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, and this happens once.
        unsafe { bindings::dmacoh_dmem_uncharge(self.pool, self.size) };
    }
}
