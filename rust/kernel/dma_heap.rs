// SPDX-License-Identifier: GPL-2.0

//! Abstractions for DMA heaps.
//!
//! C header: [`include/linux/dma-heap.h`](srctree/include/linux/dma-heap.h)
//!
//! A heap is for ever: nothing unregisters it, and user space may allocate from it before
//! `dma_heap_add()` has returned. So a module that registers one may neither fail nor be unloaded
//! afterwards. Heaps are registered by the [`Registrar`] of a module that stays: see
//! [`PermanentModule`](crate::kernel::module::PermanentModule).

use crate::{
    bindings,
    kernel::{
        device::{
            self,
            class::Class,
            Candidate, //
        },
        dma_buf::{
            DmaBuf,
            Exporter, //
        },
        module::{
            Forever,
            Registrar, //
        },
        sysfs::{
            self,
            FileOps, //
        }, //
    }, //
};
use core::marker::PhantomData;
use kernel::{
    device::Device,
    error::from_err_ptr,
    prelude::*,
    sync::aref::ARef, //
};

/// The class of all heaps.
//
// SAFETY: `drivers/dma-buf/dma-heap.c` is never part of a module. It makes the devices by
// `device_create()`, on no bus and without a parent, and nobody else gets at them.
pub(crate) static CLASS: Class = unsafe { Class::new(c"dma_heap", None) };

/// A DMA heap.
pub(crate) trait Heap: Sync + 'static {
    /// What the heap exports.
    type Buffer: Exporter;

    /// Allocates a buffer of `len` bytes, a positive multiple of the page size.
    ///
    /// `fd_flags` are the flags of the file descriptor that the core is about to make: access mode
    /// and `O_CLOEXEC`. The error reaches the caller of `DMA_HEAP_IOCTL_ALLOC` unchanged. May
    /// sleep. Called at once by any number of tasks, and from the moment of registration.
    fn allocate(
        &'static self,
        len: usize,
        fd_flags: u32,
        forever: Forever,
    ) -> Result<ARef<DmaBuf<Self::Buffer>>>;
}

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

/// Returns whether the administrator wants buffers charged to the allocating task's memory cgroup
/// (`dma_heap.mem_accounting`).
#[inline]
pub(crate) fn mem_accounting() -> bool {
    // SAFETY: Set when the kernel boots, and only read since.
    unsafe { bindings::mem_accounting }
}

/// The length of the longest name of a file, in bytes.
const NAME_MAX: usize = bindings::NAME_MAX as usize;

impl<'a> Registrar<'a> {
    /// Registers `heap` as `/dev/dma_heap/<name>`. It can be used before this returns.
    ///
    /// The core uses the name as a format and replaces `/` in it. So the name must have neither
    /// `%` nor `/`. It becomes the name of a file, which limits its length.
    ///
    /// Returns the heap's device, or logs the error. May sleep.
    pub(crate) fn add<T: Heap>(&mut self, name: &'a CStr, heap: &'a T) -> Option<HeapDevice> {
        self.try_add(name, heap)
            .inspect_err(|err| {
                pr_err!("cannot register heap {}: {:?}\n", name, err);
                self.failed(*err);
            })
            .ok()
    }

    fn try_add<T: Heap>(&mut self, name: &'a CStr, heap: &'a T) -> Result<HeapDevice> {
        let bytes = name.to_bytes();
        if matches!(bytes, b"" | b"." | b"..")
            || bytes.len() > NAME_MAX
            || bytes.iter().any(|byte| b"%/".contains(byte))
        {
            return Err(EINVAL);
        }
        // The core leaves it to sysfs to refuse a name that is taken, and sysfs dumps the stack.
        // It still does so if somebody else registers the name right now.
        if exists(name) {
            return Err(EEXIST);
        }

        let info = bindings::dma_heap_export_info {
            name: name.as_char_ptr(),
            ops: &VTable::<T>::OPS,
            priv_: core::ptr::from_ref(heap).cast_mut().cast(),
        };
        // A process that has a device node for the heap can open it before the last step that may
        // fail, and may still be allocating after that has failed.
        let forever = self.stay();
        // SAFETY: The module and its data stay, and so do the name, the callbacks and the heap,
        // whether this succeeds or not.
        from_err_ptr(unsafe { bindings::dma_heap_add(&info) })?;

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

/// The callbacks of heap `T`, as C sees them.
struct VTable<T: Heap>(PhantomData<T>);

impl<T: Heap> VTable<T> {
    const OPS: bindings::dma_heap_ops = bindings::dma_heap_ops {
        allocate: Some(Self::allocate_callback),
    };

    /// # Safety
    ///
    /// Only called by the DMA heap core, for a heap that [`Registrar::add`] has registered as `T`.
    unsafe extern "C" fn allocate_callback(
        heap: *mut bindings::dma_heap,
        len: c_ulong,
        fd_flags: u32,
        // None are defined; the core refuses any.
        _heap_flags: u64,
    ) -> *mut bindings::dma_buf {
        // SAFETY: `try_add()` has given a `&T`, and has had the module's data stay, which the heap is
        // part of.
        let heap: &'static T = unsafe { &*bindings::dma_heap_get_drvdata(heap).cast() };

        // SAFETY: `try_add()` has had the module stay.
        let forever = unsafe { Forever::new() };

        match heap.allocate(len, fd_flags, forever) {
            Ok(buf) => ARef::into_raw(buf).as_ptr().cast(),
            Err(err) => err.to_ptr(),
        }
    }
}
