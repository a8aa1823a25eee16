// SPDX-License-Identifier: GPL-2.0

//! Noticing that devices are bound to drivers, on any bus.
//!
//! C header: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h)

use crate::{
    bindings,
    kernel::{
        device,
        module::{
            others::Going,
            Forever, //
        }, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    new_mutex,
    prelude::*,
    sync::Mutex,
    types::Opaque, //
};

/// An observer of devices that are bound to drivers.
pub(crate) trait Observer: 'static {
    /// Called when `dev` has been bound, with the lock of `dev` held. May sleep.
    fn bound(dev: &Device<Bound>);
}

/// One bus that is listened to.
struct Listener {
    bus: NonNull<bindings::bus_type>,
    _block: KBox<Opaque<bindings::notifier_block>>,
}

// SAFETY: The pointer to the bus is only compared. The notifier block is C's while it is registered, and
// any task may free it afterwards.
unsafe impl Send for Listener {}

/// Listens to all buses for `T`.
///
/// # Invariants
///
/// Each listener's block is registered with its bus, or the bus is gone.
#[pin_data]
pub(crate) struct Buses<T: Observer> {
    #[pin]
    listeners: Mutex<KVec<Listener>>,
    _observer: PhantomData<fn() -> T>,
}

impl<T: Observer> Buses<T> {
    /// Creates a listener that listens to no bus yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            listeners <- new_mutex!(KVec::new()),
            _observer: PhantomData,
        })
    }

    /// Listens to each bus that has a device by now. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory to listen to a further one.
    pub(crate) fn listen(&'static self, _: Forever) -> Result {
        let mut listeners = self.listeners.lock();

        loop {
            let mut found = None;
            device::any(|candidate| {
                found = candidate
                    .bus()
                    .filter(|bus| !listeners.iter().any(|listener| listener.bus == *bus));
                found.is_some()
            });
            let Some(bus) = found else {
                return Ok(());
            };

            listeners.reserve(1, GFP_KERNEL)?;
            let block = KBox::new(
                Opaque::new(bindings::notifier_block {
                    notifier_call: Some(Self::callback),
                    ..pin_init::zeroed()
                }),
                GFP_KERNEL,
            )?;
            // SAFETY: The block is initialised, and stays until the bus is gone. The callback never
            // goes away: there is a `Forever`. The bus may be gone by now, but the driver core only
            // compares the pointer with those of the buses that there are.
            match to_result(unsafe { bindings::bus_register_notifier(bus.as_ptr(), block.get()) }) {
                // The bus is gone. If another has appeared, this is called again for that.
                Err(EINVAL) => return Ok(()),
                result => result?,
            }
            // INVARIANT: The block is registered with this bus.
            listeners.push(Listener { bus, _block: block }, GFP_KERNEL)?;
        }
    }

    /// Forgets the buses that were part of `module`.
    pub(crate) fn module_going(&'static self, module: &Going<'_>) {
        // INVARIANT: A module unregisters its buses before it goes, with whatever is registered
        // with them. Their blocks are reachable by nobody.
        self.listeners
            .lock()
            .retain(|listener| !module.contains(listener.bus.as_ptr().addr()));
    }

    /// # Safety
    ///
    /// Only called by the driver core, with a device as `data`.
    unsafe extern "C" fn callback(
        _block: *mut bindings::notifier_block,
        action: c_ulong,
        data: *mut c_void,
    ) -> c_int {
        if action == bindings::bus_notifier_event_BUS_NOTIFY_BOUND_DRIVER as c_ulong {
            // SAFETY: The device is valid and bound, and its lock is held.
            T::bound(unsafe { Device::from_raw(data.cast()) });
        }
        bindings::NOTIFY_OK as c_int
    }
}
