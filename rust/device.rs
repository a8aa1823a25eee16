// SPDX-License-Identifier: GPL-2.0

//! Finding devices.
//!
//! C headers: [`include/linux/device.h`](srctree/include/linux/device.h),
//! [`include/linux/kobject.h`](srctree/include/linux/kobject.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    container_of,
    device::Device,
    interop::list::clist_create,
    prelude::*,
    sync::{
        aref::ARef,
        lock::{
            spinlock::SpinLockBackend,
            Lock, //
        },
    },
    types::Opaque, //
};

/// A member of the set of all devices.
#[repr(transparent)]
struct Member(Opaque<bindings::kobject>);

/// Returns the device `name` of the class named `class`, if there is one.
///
/// Classes such as that of the DMA heaps are private to their subsystem, but every device is a
/// member of one public set. Takes time in proportion to the number of devices. Callable in any
/// context but that of an interrupt.
///
/// # Safety
///
/// Devices of the class must never be renamed.
pub(crate) unsafe fn find_by_class(class: &CStr, name: &CStr) -> Option<ARef<Device>> {
    // SAFETY: The root device of the platform bus exists always, and as a registered device it is
    // a member of the set of all devices.
    let (kset, ktype) = unsafe {
        let root = &raw const bindings::platform_bus.kobj;
        ((*root).kset, (*root).ktype)
    };

    // SAFETY: The set and its lock exist always.
    let lock = unsafe { Lock::<(), SpinLockBackend>::from_raw(&raw mut (*kset).list_lock) };
    let _guard = lock.lock();
    // SAFETY: The list is not changed while its lock is held. Its links are `kobject::entry`.
    let members = unsafe { clist_create!(&raw mut (*kset).list, Member, bindings::kobject, entry) };

    members.iter().find_map(|member| {
        let kobj = member.0.get();

        // Only kobjects of this type are part of a `struct device`.
        //
        // SAFETY: A member of the set is a valid kobject, whose type never changes.
        if unsafe { (*kobj).ktype } != ktype {
            return None;
        }
        // SAFETY: As just checked, `kobj` is embedded in a `struct device`.
        let dev: *mut bindings::device = unsafe { container_of!(kobj, bindings::device, kobj) };

        // SAFETY: A device keeps its class as long as it is registered, and it is no longer
        // registered when it leaves the set.
        let found = unsafe {
            let dev_class = (*dev).class;
            !dev_class.is_null() && CStr::from_char_ptr((*dev_class).name) == class
        };
        // SAFETY: A member of the set has a name, and this one is never renamed.
        if !found || unsafe { CStr::from_char_ptr((*kobj).name) } != name {
            return None;
        }

        // SAFETY: The kobject is valid while it is in the set.
        let kobj = unsafe { bindings::kobject_get_unless_zero(kobj) };
        // SAFETY: The reference to the kobject is one to the device.
        (!kobj.is_null()).then(|| unsafe { ARef::from_raw(NonNull::new_unchecked(dev.cast())) })
    })
}
