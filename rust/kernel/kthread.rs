// SPDX-License-Identifier: GPL-2.0

//! Kernel threads.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)

use crate::{
    bindings,
    kernel::module::Forever, //
};
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::Arc, //
};

/// The body of a thread that never ends.
pub(crate) trait Run: Send + Sync + 'static {
    /// Runs in the thread. It has to call [`try_to_freeze`] again and again.
    fn run(&self) -> !;
}

/// Starts a freezable thread of the lowest priority. May sleep.
///
/// # Errors
///
/// - [`ENOMEM`] if there is no memory for it.
/// - [`EINTR`] if the current task is about to be killed.
pub(crate) fn spawn<T: Run>(name: &'static CStr, what: Arc<T>, _forever: Forever) -> Result {
    let data = Arc::into_raw(what).cast_mut();

    // SAFETY: The thread gets what it needs, and the module stays for as long as it runs.
    from_err_ptr(unsafe {
        bindings::dmacoh_kthread(Some(thread_callback::<T>), data.cast(), name.as_char_ptr())
    })
    .map(drop)
    .inspect_err(|_| {
        // SAFETY: There is no thread that has it.
        drop(unsafe { Arc::from_raw(data) });
    })
}

/// Freezes the thread if the system is going to sleep, and lets other tasks run that wait for the
/// CPU. May sleep.
pub(crate) fn try_to_freeze() {
    // SAFETY: Callable in process context.
    unsafe { bindings::dmacoh_try_to_freeze() };
}

/// # Safety
///
/// Only called in a new thread, with a pointer from `Arc::into_raw`.
unsafe extern "C" fn thread_callback<T: Run>(data: *mut c_void) -> c_int {
    // SAFETY: By this function's safety requirements.
    let what = unsafe { Arc::<T>::from_raw(data.cast()) };

    // SAFETY: This is the thread itself.
    unsafe { bindings::dmacoh_set_freezable() };
    what.run()
}
