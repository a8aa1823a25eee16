// SPDX-License-Identifier: GPL-2.0

//! Noticing all devices of a class, as long as the class exists.
//!
//! C header: [`include/linux/device/class.h`](srctree/include/linux/device/class.h)
//!
//! A class interface is told of the devices of a class. It must be unregistered before the class
//! is, or its reference to the class leaks. But a class may be part of a module, which can be
//! unloaded as soon as the last device of the class has been deleted. So a [`Watch`] adds an
//! [`Action`] to each device, and unregisters its interface while the last of them is being
//! deleted. At that time the class still exists, because deleting a device needs its class.
//!
//! A class is found by one of its devices. It must not be unregistered meanwhile, so the search
//! takes a reference to a symbol of its module.

use crate::{
    bindings,
    kernel::{
        device::{
            self,
            DeviceExt, //
        },
        devres::{
            Action,
            Release, //
        },
        module::{
            others::SymbolRef,
            Forever, //
        }, //
    }, //
};
use core::marker::PhantomData;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    },
    types::Opaque, //
};

/// An observer of the devices of some classes.
pub(crate) trait Observer: Sized + 'static {
    /// The watches of this observer.
    fn watches() -> &'static [Pin<KBox<Watch<Self>>>];

    /// A device of one of the classes exists. The class's lock is held. May sleep. Called again
    /// for a known device if the class had to be found anew.
    fn added(added: Added<'_>);

    /// `dev` is being deleted. Its parent's directory in sysfs still exists. May sleep.
    fn removed(dev: &Device);
}

/// A class that can be watched.
///
/// # Invariants
///
/// As the safety requirements of [`Class::new`].
pub(crate) struct Class {
    name: &'static CStr,
    symbol: Option<&'static CStr>,
}

impl Class {
    /// Describes the class `name`, which is part of the module that exports `symbol` for modules
    /// under the GPL, or never part of one.
    ///
    /// # Safety
    ///
    /// - The class must be part of that module, or of none.
    /// - Its devices must be on no bus.
    /// - A parent of such a device that has a driver must stay bound to it as long as the device is
    ///   registered, unless the device is moved to another parent before.
    /// - A device must not be moved while it is made known: when it is registered, or when the class
    ///   gets an interface.
    pub(crate) const unsafe fn new(name: &'static CStr, symbol: Option<&'static CStr>) -> Self {
        // INVARIANT: By this function's safety requirements.
        Self { name, symbol }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static CStr {
        self.name
    }
}

/// A device of a class, as an [`Observer`] gets to know it.
///
/// # Invariants
///
/// The device is one of the class, and stays registered during `'a`. The parent is that of the device.
pub(crate) struct Added<'a> {
    class: &'static Class,
    dev: &'a Device,
    parent: Option<&'a Device<Bound>>,
}

impl<'a> Added<'a> {
    /// The class.
    pub(crate) fn class(&self) -> &'static Class {
        self.class
    }

    /// The device.
    pub(crate) fn device(&self) -> &'a Device {
        self.dev
    }

    /// Its parent, if that has a driver.
    pub(crate) fn parent(&self) -> Option<&'a Device<Bound>> {
        self.parent
    }
}

/// Watches a class.
#[pin_data]
pub(crate) struct Watch<T: Observer> {
    class: &'static Class,
    /// The address of the class while the interface is registered with it, else 0.
    addr: Atomic<usize>,
    /// The devices that have an [`Action`]. While the lock is held, the deletion of none of them
    /// ends. No other lock of this module is taken while it is held.
    #[pin]
    devices: Mutex<KVec<ARef<Device>>>,
    /// The class interface. Changed only with `registered` locked.
    #[pin]
    interface: Opaque<bindings::class_interface>,
    /// Whether the interface is registered. This lock comes before that of the class; it is not
    /// taken when a device is added.
    #[pin]
    registered: Mutex<bool>,
    _observer: PhantomData<fn() -> T>,
}

// SAFETY: A class interface belongs to no task.
unsafe impl<T: Observer> Send for Watch<T> {}

// SAFETY: What changes is atomic or has a lock.
unsafe impl<T: Observer> Sync for Watch<T> {}

impl<T: Observer> Watch<T> {
    /// Creates a watch of `class`.
    pub(crate) fn new(class: &'static Class) -> impl PinInit<Self> {
        pin_init!(Self {
            class,
            addr: Atomic::new(0),
            devices <- new_mutex!(KVec::new()),
            interface <- Opaque::zeroed(),
            registered <- new_mutex!(false),
            _observer: PhantomData,
        })
    }

    /// Begins to watch, if the class has a device by now. May sleep.
    pub(crate) fn start(&'static self, _: Forever) -> Result {
        // Mostly the search finds nothing, and the class's module need not be held.
        if self.addr.load(Relaxed) != 0 || self.find().is_none() {
            return Ok(());
        }
        let _pin = match self.class.symbol.map(SymbolRef::get) {
            Some(None) => return Ok(()),
            pin => pin,
        };
        let Some(class) = self.find() else {
            return Ok(());
        };

        let mut registered = self.registered.lock();
        if !*registered {
            // SAFETY: The class is not unregistered meanwhile: by the invariants of `Class`, what it
            // is part of is kept by `_pin`, or never unloaded.
            unsafe { self.register(&mut registered, class) }?;
            // SAFETY: As above.
            unsafe { self.settle(&mut registered, class) };
        }
        Ok(())
    }

    /// Tells user space that something about `dev` has changed (`KOBJ_CHANGE`), if it is a device of
    /// the class that is not being deleted. May sleep.
    pub(crate) fn changed(&self, dev: &Device) {
        let devices = self.devices.lock();

        if is_one_of(&devices, dev) {
            // SAFETY: It is in the table, which is locked.
            unsafe { device::changed(dev) };
        }
    }

    /// Finds the class by one of its devices. It may be gone at any time.
    fn find(&self) -> Option<*const bindings::class> {
        let mut class = None;
        device::any(|candidate| {
            class = candidate
                .class()
                .and_then(|(class, name)| (name == self.class.name).then_some(class));
            class.is_some()
        });
        class
    }

    /// Registers the interface.
    ///
    /// # Safety
    ///
    /// `class` must be a class that is not unregistered during the call. The interface must not be
    /// registered, as `registered` has to say.
    unsafe fn register(
        &'static self,
        registered: &mut bool,
        class: *const bindings::class,
    ) -> Result {
        let raw = self.interface.get();

        // SAFETY: Nobody else uses an interface that is not registered.
        unsafe {
            raw.write(bindings::class_interface {
                class,
                add_dev: Some(Self::add_callback),
                ..pin_init::zeroed()
            })
        };
        // From here on, `add_callback()` finds this watch.
        self.addr.store(class.addr(), Relaxed);
        // SAFETY: The interface is initialised and pinned; `settle()` unregisters it in time.
        let result = to_result(unsafe { bindings::class_interface_register(raw) });

        *registered = result.is_ok();
        if result.is_err() {
            self.addr.store(0, Relaxed);
        }
        result
    }

    /// Unregisters the interface if the class has no more devices.
    ///
    /// # Safety
    ///
    /// `class` must be the class that the interface is registered with, if it is, and not be
    /// unregistered during the call.
    unsafe fn settle(&'static self, registered: &mut bool, class: *const bindings::class) {
        while *registered && self.devices.lock().is_empty() {
            // SAFETY: The interface is registered, and its class exists.
            unsafe { bindings::class_interface_unregister(self.interface.get()) };
            *registered = false;
            self.addr.store(0, Relaxed);

            // A device may have been added just before the interface was unregistered. It may even
            // be being deleted already, and wait for our lock.
            if !self.devices.lock().is_empty() {
                // SAFETY: The class exists.
                if let Err(err) = unsafe { self.register(registered, class) } {
                    pr_err!(
                        "lost sight of devices of class {}: {:?}\n",
                        self.class.name,
                        err
                    );
                }
            }
        }
    }

    /// Adds an action to `dev`, to notice that it is deleted. May sleep.
    ///
    /// # Safety
    ///
    /// As for [`Action::add`].
    unsafe fn follow(&'static self, dev: &Device) -> Result {
        let action = Action::new(self)?;
        let mut devices = self.devices.lock();

        if !is_one_of(&devices, dev) {
            devices.push(dev.into(), GFP_KERNEL)?;
            // It has no action yet: an earlier one would be in the table still.
            //
            // SAFETY: By this function's safety requirements.
            unsafe { action.add(dev) };
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Only called by the driver core, with the class's lock held and a registered device.
    unsafe extern "C" fn add_callback(dev: *mut bindings::device) -> c_int {
        // SAFETY: The device is valid during the call.
        let dev: &Device = unsafe { Device::from_raw(dev) };
        // SAFETY: A device that is reported by its class has one.
        let class = unsafe { (*dev.as_raw()).class }.addr();

        let Some(this) = T::watches()
            .iter()
            .find(|watch| watch.addr.load(Relaxed) == class)
        else {
            return 0;
        };
        let this = this.as_ref().get_ref();

        // SAFETY: The module is never unloaded: `start()` was given a `Forever`. By the invariants of
        // `Class` the device is on no bus.
        if unsafe { this.follow(dev) }.is_err() {
            // The device is not watched, as we could not notice that the class goes.
            return 0;
        }

        // SAFETY: The device is valid and, by the invariants of `Class`, not being moved.
        let parent = unsafe { (*dev.as_raw()).parent };
        // SAFETY: As above. A device holds a reference to its parent.
        let parent = (!parent.is_null()).then(|| unsafe { Device::from_raw(parent) });
        // SAFETY: The class's lock is held, so the device is not deleted meanwhile. By the invariants
        // of `Class` its parent is not unbound for so long.
        let parent = parent.and_then(|parent| unsafe { device::as_bound(parent) });
        // INVARIANT: As above.
        T::added(Added {
            class: this.class,
            dev,
            parent,
        });
        0
    }
}

impl<T: Observer> Release for Watch<T> {
    unsafe fn release(&'static self, dev: &Device) {
        T::removed(dev);

        let is_last = {
            let mut devices = self.devices.lock();
            devices.retain(|known| !core::ptr::eq(&**known, dev));
            devices.is_empty()
        };
        if is_last {
            let mut registered = self.registered.lock();
            // SAFETY: By this function's safety requirements `dev` is a device of the class, and being
            // deleted: the class exists. If the interface is registered, then with that class.
            unsafe { self.settle(&mut registered, (*dev.as_raw()).class) };
        }
    }
}

fn is_one_of(devices: &[ARef<Device>], dev: &Device) -> bool {
    devices.iter().any(|known| core::ptr::eq(&**known, dev))
}
