// SPDX-License-Identifier: GPL-2.0

//! The devices of heaps. The core does not return the device of a heap, so it is searched for among
//! all devices.

use crate::kernel::{
    device::{
        self,
        class::Class,
        Candidate, //
    },
    dma_heap::Heap,
    module::{
        Forever,
        Registrar, //
    },
    sysfs::{
        self,
        FileOps, //
    }, //
};
use kernel::{
    device::Device,
    prelude::*,
    sync::aref::ARef, //
};

/// The class of all heaps.
//
// SAFETY: `drivers/dma-buf/dma-heap.c` is never part of a module. It makes the devices by
// `device_create()`, on no bus and without a parent, and nobody else gets at them.
pub(crate) static CLASS: Class = unsafe { Class::new(c"dma_heap", None) };

/// The device of a registered heap, which is never deleted.
pub(crate) struct HeapDevice(ARef<Device>, Forever);

impl HeapDevice {
    /// Tells user space that something about the heap has changed (`KOBJ_CHANGE`). May sleep.
    pub(crate) fn changed(&self) {
        // SAFETY: The device is registered and never deleted.
        unsafe { device::changed(&self.0) };
    }

    /// Adds a file to the heap's directory in sysfs, for everybody to read. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] if there is something of that name.
    /// - [`EINVAL`] if the name is empty or has a `/`.
    /// - [`ENOMEM`] if there is no memory for it.
    pub(crate) fn add_file<T: Sync>(
        &self,
        name: &'static CStr,
        data: &'static T,
        ops: &'static FileOps<T>,
    ) -> Result {
        // SAFETY: The device is registered and never deleted, and the module is never unloaded.
        unsafe { sysfs::add_file(&self.0, name, data, ops) }
    }
}

impl<'a> Registrar<'a> {
    /// Registers `heap` as [`Self::try_add`] does. Refuses a name that another heap has.
    ///
    /// Returns the heap's device, or logs the error. May sleep.
    pub(crate) fn add<T: Heap>(&mut self, name: &'a CStr, heap: &'a T) -> Option<HeapDevice> {
        self.add_and_find(name, heap)
            .inspect_err(|err| {
                pr_err!("cannot register heap {}: {:?}\n", name, err);
                self.failed(*err);
            })
            .ok()
    }

    fn add_and_find<T: Heap>(&mut self, name: &'a CStr, heap: &'a T) -> Result<HeapDevice> {
        // The core leaves it to sysfs to refuse a name that is taken, and sysfs dumps the stack.
        // It still does so if somebody else registers the name right now.
        if exists(name) {
            return Err(EEXIST);
        }
        let forever = self.try_add(name, heap)?;

        // Several devices of a class may have the same name, but only one of them has a directory.
        let dev = device::find(|candidate| is_heap(&candidate, name) && candidate.has_directory());
        Ok(HeapDevice(dev.ok_or(ENODEV)?, forever))
    }
}

/// Whether there is a heap `name`, or is about to be.
pub(crate) fn exists(name: &CStr) -> bool {
    device::any(|candidate| is_heap(&candidate, name))
}

fn is_heap(candidate: &Candidate<'_>, name: &CStr) -> bool {
    candidate.class().is_some_and(|(_, class)| class == CLASS.name())
        // SAFETY: Heaps are never renamed.
        && unsafe { candidate.name() } == name
}
