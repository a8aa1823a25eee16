// SPDX-License-Identifier: GPL-2.0

//! Finding devices, and properties of devices that [`kernel::device::Device`] lacks.
//!
//! C headers: [`include/linux/device.h`](srctree/include/linux/device.h),
//! [`include/linux/kobject.h`](srctree/include/linux/kobject.h)

pub(crate) mod bus;
pub(crate) mod class;
pub(crate) mod node;
pub(crate) mod per_device;

use crate::bindings;
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    device::{
        Bound,
        Device, //
    },
    interop::list::clist_create,
    prelude::*,
    sync::{
        aref::ARef,
        lock::{
            spinlock::SpinLockBackend,
            Lock, //
        }, //
    },
    types::Opaque, //
};

/// Methods that every device has.
pub(crate) trait DeviceExt {
    /// The raw `struct device`.
    fn as_raw(&self) -> *mut bindings::device;
}

impl DeviceExt for Device {
    #[inline]
    fn as_raw(&self) -> *mut bindings::device {
        // CAST: `Device` is a transparent wrapper of `struct device`.
        core::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Tells user space that something about `dev` has changed (`KOBJ_CHANGE`). May sleep.
///
/// # Safety
///
/// The device must be registered, and not be deleted meanwhile: the event names its parents.
pub(crate) unsafe fn changed(dev: &Device) {
    // Without memory the event is lost. The caller could do nothing about it.
    //
    // SAFETY: By this function's safety requirements.
    let _ = unsafe {
        bindings::kobject_uevent(
            &raw mut (*dev.as_raw()).kobj,
            bindings::kobject_action_KOBJ_CHANGE,
        )
    };
}

/// A device whose driver does not go during `'a`.
///
/// This promises less than a [`Device<Bound>`]. The driver may be being unbound, and the managed
/// resources of the device may be being released. So it offers no way to add a managed resource,
/// which nobody would release.
///
/// # Invariants
///
/// The device has a driver, whose unbinding does not end during `'a`.
#[derive(Clone, Copy)]
pub(crate) struct HasDriver<'a>(&'a Device);

impl<'a> HasDriver<'a> {
    /// # Safety
    ///
    /// The device must have a driver, whose unbinding must not end during `'a`.
    #[inline]
    pub(crate) unsafe fn new(dev: &'a Device) -> Self {
        // INVARIANT: By this function's safety requirements.
        Self(dev)
    }

    /// The device.
    #[inline]
    pub(crate) fn get(self) -> &'a Device {
        self.0
    }

    /// Tells user space that something about the device has changed (`KOBJ_CHANGE`). May sleep.
    pub(crate) fn changed(self) {
        // SAFETY: The driver core unbinds a driver before it deletes the device. The code that
        // has registered the device deletes it before its parent, as the driver core asks.
        // `faux::Registration::new()` leaves that to its callers.
        unsafe { changed(self.0) }
    }

    /// The name of the driver.
    pub(crate) fn driver_name(self) -> &'a CStr {
        // SAFETY: The device is valid; by the type invariants the driver stays, as does its name.
        unsafe { CStr::from_char_ptr(bindings::dev_driver_string(self.0.as_raw())) }
    }
}

impl<'a> From<&'a Device<Bound>> for HasDriver<'a> {
    #[inline]
    fn from(dev: &'a Device<Bound>) -> Self {
        // INVARIANT: The type of `dev` says that it is bound during `'a`.
        Self(dev)
    }
}

impl Deref for HasDriver<'_> {
    type Target = Device;

    #[inline]
    fn deref(&self) -> &Device {
        self.0
    }
}

/// Looks at `dev` as a bound device if it has a driver.
///
/// # Safety
///
/// The caller must be called by somebody who keeps `dev` from being unbound as long as the result
/// is used.
pub(crate) unsafe fn as_bound(dev: &Device) -> Option<&Device<Bound>> {
    // SAFETY: The device is valid. A pointer is read in one piece.
    let driver = unsafe { (&raw const (*dev.as_raw()).driver).read_volatile() };

    // SAFETY: By this function's safety requirements.
    (!driver.is_null()).then(|| unsafe { dev.as_bound() })
}

/// A registered device, looked at while the set of all devices is locked.
pub(crate) struct Candidate<'a>(&'a Device);

impl<'a> Candidate<'a> {
    /// The class of the device, and the name of the class.
    pub(crate) fn class(&self) -> Option<(*const bindings::class, &'a CStr)> {
        // SAFETY: The device is valid, and keeps its class as long as it is registered.
        let class = unsafe { (*self.0.as_raw()).class };

        // SAFETY: As above.
        (!class.is_null()).then(|| (class, unsafe { CStr::from_char_ptr((*class).name) }))
    }

    /// The bus that the device is on.
    pub(crate) fn bus(&self) -> Option<NonNull<bindings::bus_type>> {
        // SAFETY: The device is valid.
        NonNull::new(unsafe { (*self.0.as_raw()).bus }.cast_mut())
    }

    /// Whether it has a directory in sysfs. It comes and goes while the device is a member of the set.
    pub(crate) fn has_directory(&self) -> bool {
        // SAFETY: The device is valid, and the pointer is only compared.
        !unsafe { (&raw const (*self.0.as_raw()).kobj.sd).read_volatile() }.is_null()
    }

    /// The name of the device.
    ///
    /// # Safety
    ///
    /// Devices of its class must never be renamed.
    pub(crate) unsafe fn name(&self) -> &'a CStr {
        // SAFETY: A registered device has a name, and this one is never renamed.
        unsafe { CStr::from_char_ptr((*self.0.as_raw()).kobj.name) }
    }
}

/// A member of the set of all devices.
#[repr(transparent)]
struct Member(Opaque<bindings::kobject>);

/// Returns the first device for which `f` returns true. See [`any`].
pub(crate) fn find(f: impl FnMut(Candidate<'_>) -> bool) -> Option<ARef<Device>> {
    search(f, |kobj, dev| {
        // SAFETY: The kobject is valid while it is in the set.
        let kobj = unsafe { bindings::kobject_get_unless_zero(kobj) };

        // SAFETY: The reference to the kobject is one to the device.
        (!kobj.is_null()).then(|| unsafe { ARef::from_raw(NonNull::new_unchecked(dev.cast())) })
    })
}

/// Returns whether `f` returns true for a device.
///
/// `f` sees a device from shortly before it is registered until shortly after it is deleted.
///
/// Classes and buses are private to their subsystems, but every device is a member of one public
/// set. The search takes time in proportion to the number of devices. `f` runs with a spinlock
/// held, so it must not sleep.
pub(crate) fn any(f: impl FnMut(Candidate<'_>) -> bool) -> bool {
    search(f, |_, _| Some(())).is_some()
}

fn search<T>(
    mut f: impl FnMut(Candidate<'_>) -> bool,
    found: impl Fn(*mut bindings::kobject, *mut bindings::device) -> Option<T>,
) -> Option<T> {
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

        // SAFETY: The device is valid as long as it is a member, which it is while we hold the lock;
        // the reference does not outlive this call.
        if !f(Candidate(unsafe { Device::from_raw(dev) })) {
            return None;
        }

        found(kobj, dev)
    })
}
