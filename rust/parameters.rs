// SPDX-License-Identifier: GPL-2.0

//! Module parameters that can be set only when the module is loaded.
//!
//! Parameters of the macro `module!` have no files in sysfs. So `module.c` defines these in C.

use crate::bindings;

/// Returns whether buffers are to be charged to the cgroup of the task that allocates them.
pub(crate) fn accounting() -> bool {
    // SAFETY: The kernel sets the parameter before it calls the module's initialisation. Afterwards
    // it is only read.
    unsafe { bindings::dmacoh_accounting }
}

/// Returns how many per cent of the machine's memory the pool may keep for new buffers.
pub(crate) fn pool_percent() -> u8 {
    // SAFETY: As above.
    unsafe { bindings::dmacoh_pool_percent }
}
