// SPDX-License-Identifier: GPL-2.0

//! Data about devices. It is kept while the device is bound to a driver.

use crate::kernel::{
    device::HasDriver,
    devres::{
        Action,
        Release, //
    },
    module::Forever, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Mutex, //
    }, //
};

/// What is kept about a device.
pub(crate) trait Data: Send + Unpin + 'static {
    /// The device's driver is being unbound; the data is dropped next. The table is locked.
    fn unbound(&mut self, dev: HasDriver<'_>);
}

struct Slot<T> {
    dev: ARef<Device>,
    data: T,
}

/// Data of type `T` about any number of devices, under one lock.
///
/// # Invariants
///
/// Every device that has a slot was bound, or being bound, to a driver when it got the slot, and with
/// it an [`Action`] that takes the lock and the slot when it is unbound. So a function that holds the lock
/// and sees a slot sees a device whose unbinding cannot complete before the lock is released.
#[pin_data]
pub(crate) struct PerDevice<T: Data> {
    /// By the address of the device, which the slot keeps from being used again.
    #[pin]
    slots: Mutex<RBTree<usize, Slot<T>>>,
}

impl<T: Data> PerDevice<T> {
    /// Creates it, empty.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            slots <- new_mutex!(RBTree::new()),
        })
    }

    /// Takes the lock. Its holder must wait neither for the lock of a device nor for a driver.
    pub(crate) fn lock(&'static self) -> Locked<T> {
        Locked {
            owner: self,
            slots: self.slots.lock(),
        }
    }
}

impl<T: Data> Release for PerDevice<T> {
    unsafe fn release(&'static self, dev: &Device) {
        let mut slots = self.slots.lock();

        if let Some(mut slot) = slots.remove(&key(dev)) {
            // SAFETY: By this function's safety requirements. The driver core releases managed
            // resources before it clears what makes a device bound, such as what the DMA API knows
            // of it.
            slot.data.unbound(unsafe { HasDriver::new(dev) });
        }
    }
}

fn key(dev: &Device) -> usize {
    core::ptr::from_ref(dev).addr()
}

/// Access to all data of a [`PerDevice`], while its lock is held.
pub(crate) struct Locked<T: Data> {
    owner: &'static PerDevice<T>,
    slots: Guard<'static, RBTree<usize, Slot<T>>, MutexBackend>,
}

impl<T: Data> Locked<T> {
    /// The data about `dev`, which is `new` if there is none yet. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(crate) fn get_or_insert(
        &mut self,
        dev: &Device<Bound>,
        new: T,
        _: Forever,
    ) -> Result<&mut T> {
        let key = key(dev);

        if self.slots.get(&key).is_none() {
            let action = Action::new(self.owner)?;
            let slot = Slot {
                dev: (&**dev).into(),
                data: new,
            };
            let node = RBTreeNode::new(key, slot, GFP_KERNEL)?;

            // INVARIANT: The device is bound, and gets the action. One on this table that it may
            // have is as good.
            //
            // SAFETY: The module is never unloaded: there is a `Forever`. The device is bound.
            unsafe { action.add(dev) };
            self.slots.insert(node);
        }
        self.slots
            .get_mut(&key)
            .map(|slot| &mut slot.data)
            .ok_or(ENOMEM)
    }

    /// The data about `dev`, if there is any, and the device, which then has a driver.
    pub(crate) fn get_mut(&mut self, dev: &Device) -> Option<(HasDriver<'_>, &mut T)> {
        self.slots.get_mut(&key(dev)).map(Slot::split)
    }

    /// All devices that there is data about.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (HasDriver<'_>, &mut T)> {
        self.slots.values_mut().map(Slot::split)
    }

    /// Forgets `dev`.
    pub(crate) fn remove(&mut self, dev: &Device) {
        if self.slots.remove(&key(dev)).is_some() {
            // SAFETY: The action was for the slot, and a new slot gets a new action.
            unsafe { Action::remove(dev, self.owner) };
        }
    }
}

impl<T> Slot<T> {
    fn split(&mut self) -> (HasDriver<'_>, &mut T) {
        // SAFETY: A slot is only seen while the lock is held, and by the invariants of `PerDevice`
        // the unbinding of its device does not end for so long.
        (unsafe { HasDriver::new(&self.dev) }, &mut self.data)
    }
}
