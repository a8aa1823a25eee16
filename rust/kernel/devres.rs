// SPDX-License-Identifier: GPL-2.0

//! Actions that run when a device's managed resources are released.
//!
//! C header: [`include/linux/device/devres.h`](srctree/include/linux/device/devres.h)
//!
//! [`kernel::devres::register`] drops a value at that time. An [`Action`] differs in two ways: a
//! device has at most one on each target, and it does not run if it cannot be added.

use crate::{
    bindings,
    kernel::device::DeviceExt, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    device::Device,
    prelude::*, //
};

/// The target of an action. A device has at most one action on each target.
pub(crate) trait Release: Sync + 'static {
    /// The managed resources of `dev` are being released: its driver is being unbound or, for a
    /// device without a driver such as that of a class, it is being deleted. May sleep.
    ///
    /// # Safety
    ///
    /// Only called by the driver core, by way of an [`Action`] on this target that `dev` had.
    unsafe fn release(&'static self, dev: &Device);
}

/// An action that is ready to be added to a device, which cannot fail.
pub(crate) struct Action<T: Release>(NonNull<&'static T>, PhantomData<T>);

impl<T: Release> Action<T> {
    /// Prepares an action on `target`. May sleep.
    pub(crate) fn new(target: &'static T) -> Result<Self> {
        // SAFETY: The size is that of what is written below.
        let data = unsafe {
            bindings::__devres_alloc_node(
                Some(Self::callback),
                core::mem::size_of::<&'static T>(),
                bindings::GFP_KERNEL,
                bindings::NUMA_NO_NODE,
                c"dmabuf_coherency".as_char_ptr(),
            )
        };
        let data = NonNull::new(data.cast::<&'static T>()).ok_or(ENOMEM)?;

        // SAFETY: The allocation is large enough, and aligned for any type.
        unsafe { data.write(target) };
        Ok(Self(data, PhantomData))
    }

    /// Adds the action to `dev`, unless it has one on the same target.
    ///
    /// # Safety
    ///
    /// - The module that `T` is part of must never be unloaded.
    /// - `dev` must have a driver that is bound or being bound, or belong to no bus.
    pub(crate) unsafe fn add(self, dev: &Device) {
        let dev = dev.as_raw();

        // SAFETY: `dev` is valid. The target is a valid argument of `match_callback()`.
        let found = unsafe {
            bindings::devres_find(
                dev,
                Some(Self::callback),
                Some(Self::match_callback),
                core::ptr::from_ref(*self.0.as_ref()).cast_mut().cast(),
            )
        };
        if found.is_null() {
            let this = core::mem::ManuallyDrop::new(self);

            // SAFETY: `this` owns the allocation and gives it up; by this function's safety
            // requirements the callback can run, and the device accepts managed resources.
            unsafe { bindings::devres_add(dev, this.0.as_ptr().cast()) };
        }
    }

    /// Takes the action on `target` away from `dev`, if it has one that is not being done already.
    ///
    /// # Safety
    ///
    /// Nobody may rely on the action any more.
    pub(crate) unsafe fn remove(dev: &Device, target: &'static T) {
        // There may be none.
        //
        // SAFETY: `dev` is valid. The target is a valid argument of `match_callback()`.
        let _ = unsafe {
            bindings::devres_destroy(
                dev.as_raw(),
                Some(Self::callback),
                Some(Self::match_callback),
                core::ptr::from_ref(target).cast_mut().cast(),
            )
        };
    }

    /// Whether an action is on this target.
    ///
    /// # Safety
    ///
    /// Only called by the driver core, with what was added to a device together with
    /// [`Self::callback`].
    unsafe extern "C" fn match_callback(
        _dev: *mut bindings::device,
        data: *mut c_void,
        target: *mut c_void,
    ) -> c_int {
        // SAFETY: `new()` has written it.
        let own: &T = unsafe { *data.cast::<&'static T>() };

        core::ptr::eq(own, target.cast()).into()
    }

    /// # Safety
    ///
    /// Only called by the driver core, for a device and an allocation that was added to it.
    unsafe extern "C" fn callback(dev: *mut bindings::device, data: *mut c_void) {
        // SAFETY: `new()` has written it.
        let target = unsafe { *data.cast::<&'static T>() };

        // SAFETY: The device is valid during the call, which is the driver core's.
        unsafe { target.release(Device::from_raw(dev)) };
    }
}

impl<T: Release> Drop for Action<T> {
    fn drop(&mut self) {
        // SAFETY: The allocation was not added to a device.
        unsafe { bindings::devres_free(self.0.as_ptr().cast()) };
    }
}
