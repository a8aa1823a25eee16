// SPDX-License-Identifier: GPL-2.0

//! Callbacks that run last before the machine sleeps, and first when it wakes up.
//!
//! C header: [`include/linux/syscore_ops.h`](srctree/include/linux/syscore_ops.h)

use crate::{
    bindings,
    kernel::module::Forever, //
};
use core::marker::PhantomData;
use kernel::{
    prelude::*,
    sync::Arc,
    types::ForeignOwnable, //
};

/// The callbacks of a module.
///
/// When they run, devices are stopped, only one CPU runs, and interrupts are off. So they must not
/// sleep. The kernel calls them for suspend and for hibernation. After hibernation, `wake_up` runs
/// in the kernel that has been restored.
pub(crate) trait Operations: Send + Sync + 'static {
    /// Called when the machine is about to sleep, or its memory is about to be saved.
    fn fall_asleep(&self);

    /// Called when the machine goes on, also if it failed to sleep.
    fn wake_up(&self);
}

/// Registers the callbacks of `data`, for ever. May sleep.
///
/// # Errors
///
/// [`ENOMEM`] if there is no memory for it.
pub(crate) fn register<T: Operations>(data: Arc<T>, _: Forever) -> Result {
    let mut syscore = KBox::new(
        bindings::syscore {
            ops: &Callbacks::<T>::OPS,
            ..pin_init::zeroed()
        },
        GFP_KERNEL,
    )?;

    syscore.data = data.into_foreign();
    // SAFETY: The module stays, so both the structure, which is leaked, and the functions do. They
    // get the data that they expect.
    unsafe { bindings::register_syscore(KBox::leak(syscore)) };
    Ok(())
}

struct Callbacks<T>(PhantomData<T>);

impl<T: Operations> Callbacks<T> {
    const OPS: bindings::syscore_ops = bindings::syscore_ops {
        suspend: Some(Self::suspend),
        resume: Some(Self::resume),
        shutdown: None,
    };

    /// # Safety
    ///
    /// Only called by the kernel, for what [`register`] has registered.
    unsafe extern "C" fn suspend(data: *mut c_void) -> c_int {
        // SAFETY: It is of an `Arc<T>` that is never taken back.
        unsafe { Arc::<T>::borrow(data) }.fall_asleep();
        0
    }

    /// # Safety
    ///
    /// As for [`Self::suspend`].
    unsafe extern "C" fn resume(data: *mut c_void) {
        // SAFETY: As above.
        unsafe { Arc::<T>::borrow(data) }.wake_up();
    }
}
