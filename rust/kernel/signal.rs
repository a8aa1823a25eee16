// SPDX-License-Identifier: GPL-2.0

//! Signals of the current task.
//!
//! C header: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)

use crate::bindings;

/// Returns whether the current task is about to be killed.
///
/// A function that works long for a task asks this between two steps. It gives up with [`EINTR`],
/// which nobody will see.
///
/// [`EINTR`]: kernel::error::code::EINTR
///
/// # Examples
///
/// ```
/// use kernel::signal::fatal_signal_pending;
///
/// fn work(steps: usize) -> Result {
///     for _ in 0..steps {
///         if fatal_signal_pending() {
///             return Err(EINTR);
///         }
///     }
///     Ok(())
/// }
///
/// work(3)?;
/// # Ok::<(), Error>(())
/// ```
#[inline]
pub(crate) fn fatal_signal_pending() -> bool {
    // SAFETY: `current` always exists in the contexts that Rust code of the kernel runs in.
    unsafe { bindings::dmacoh_fatal_signal_pending(bindings::get_current()) != 0 }
}
