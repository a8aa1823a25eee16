// SPDX-License-Identifier: GPL-2.0

//! Parameters that are set when the module is loaded, and only then.
//!
//! Parameters of `module!` have no files in sysfs. So these are defined in C: see `module.c`.

use crate::bindings;

/// Returns whether buffers are to be charged to the control group of the task that allocates them.
pub(crate) fn accounting() -> bool {
    // SAFETY: Set before the module's initialisation, and only read since.
    unsafe { bindings::dmacoh_accounting }
}

/// Returns how much of the memory may be kept for new buffers, in per cent.
pub(crate) fn pool_percent() -> u8 {
    // SAFETY: As above.
    unsafe { bindings::dmacoh_pool_percent }
}
