// SPDX-License-Identifier: GPL-2.0

//! Abstractions for DMA heaps.
//!
//! C header: [`include/linux/dma-heap.h`](srctree/include/linux/dma-heap.h)
//!
//! A heap is for ever: nothing takes a registered heap back, and user space may allocate from it
//! before `dma_heap_add()` has returned. So whoever registers one may neither fail nor go away
//! afterwards. [`Permanent`] turns that into a module whose initialisation has two parts: a first
//! one that may fail, and a second that registers and cannot.

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
        module::Forever,
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
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    },
    ModuleMetadata, //
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

/// Registers heaps, at a time when nothing else can make their module fail to load or be unloaded.
///
/// The lifetime is that of the data of a [`PermanentModule`]: for ever if the core has got any heap,
/// else until [`PermanentModule::register`] returns. It is invariant, so that no reference to the
/// data can be kept anywhere but in a heap.
pub(crate) struct Registrar<'a> {
    /// Whether the core has got a heap, be it that it has refused it.
    is_used: bool,
    error: Option<Error>,
    _invariant: PhantomData<fn(&'a ()) -> &'a ()>,
}

/// No name of a file is longer, in bytes.
const NAME_MAX: usize = bindings::NAME_MAX as usize;

impl<'a> Registrar<'a> {
    /// Registers `heap` as `/dev/dma_heap/<name>`. It is live when this returns, or before.
    ///
    /// The core takes the name for a format, and replaces `/`, so it must have neither that nor `%`. It
    /// is the name of a file, so it is no longer than that can be.
    ///
    /// Returns its device if that has worked. Failure is logged, and remembered in case that no heap at
    /// all can be registered. May sleep.
    pub(crate) fn add<T: Heap>(&mut self, name: &'a CStr, heap: &'a T) -> Option<HeapDevice> {
        self.try_add(name, heap)
            .inspect_err(|err| {
                pr_err!("cannot register heap {}: {:?}\n", name, err);
                self.error = Some(*err);
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
        // The core notices a name that is taken only when sysfs does, which dumps the stack. So it
        // still does if somebody else registers the name right now.
        if exists(name) {
            return Err(EEXIST);
        }

        let info = bindings::dma_heap_export_info {
            name: name.as_char_ptr(),
            ops: &VTable::<T>::OPS,
            priv_: core::ptr::from_ref(heap).cast_mut().cast(),
        };
        // A heap can be opened before the last step that may fail. Whoever has a device node for it
        // then may still be allocating after it has failed.
        self.is_used = true;
        // SAFETY: From here on `Permanent` lets the module and its data live for ever, and so do the
        // name, the callbacks and the heap, whether this succeeds or not.
        from_err_ptr(unsafe { bindings::dma_heap_add(&info) })?;

        // Of the devices of a class that have the same name, only one at a time has a directory.
        let dev = device::find(|candidate| is_heap(&candidate, name) && candidate.has_directory());
        // SAFETY: The core has got a heap, so `Permanent` keeps the module.
        let forever = unsafe { Forever::new() };
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
        // SAFETY: `try_add()` has given a `&T`. From then on `Permanent` lets the module's data live
        // for ever, which the heap is part of.
        let heap: &'static T = unsafe { &*bindings::dma_heap_get_drvdata(heap).cast() };

        // SAFETY: The core has got a heap, so `Permanent` keeps the module.
        let forever = unsafe { Forever::new() };

        match heap.allocate(len, fd_flags, forever) {
            Ok(buf) => ARef::into_raw(buf).as_ptr().cast(),
            Err(err) => err.to_ptr(),
        }
    }
}

/// A module that stays loaded from the moment that its first heap is registered.
///
/// # Safety
///
/// [`Permanent<Self>`] must be the `type` that `module!` gets, and nobody but that macro may call its
/// [`kernel::Module::init`]: a caller could fail later, and the module would be freed with its heaps.
pub(crate) unsafe trait PermanentModule: Sized + Send + Sync + 'static {
    /// Prepares everything that the heaps need. The module is unloaded if this fails.
    fn prepare() -> Result<Self>;

    /// Registers the heaps.
    ///
    /// If the core gets none, the module is unloaded with the error of the last attempt.
    fn register<'a>(&'a self, registrar: &mut Registrar<'a>);

    /// Does what else there is to do, after the core has got a heap.
    fn start(&'static self, forever: Forever);
}

/// Makes a [`kernel::Module`] of a [`PermanentModule`]: the `type` to name in `module!`.
///
/// Once the core has got a heap, loading succeeds and `delete_module()` fails with `EWOULDBLOCK`.
pub(crate) struct Permanent<M: PermanentModule>(PhantomData<M>);

impl<M: PermanentModule> kernel::Module for Permanent<M>
where
    Self: ModuleMetadata,
{
    fn init(module: &'static ThisModule) -> Result<Self> {
        static IS_STARTED: Atomic<bool> = Atomic::new(false);

        // Another call, from within the first one, would not be the one that the module lives by.
        if IS_STARTED.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        let data = KBox::into_raw(KBox::new(M::prepare()?, GFP_KERNEL)?);
        let mut registrar = Registrar {
            is_used: false,
            error: None,
            _invariant: PhantomData,
        };

        // From here on a heap's callbacks may run at any time, so the module has to stay.
        //
        // SAFETY: The module is being initialised, so it is valid.
        unsafe { bindings::__module_get(module.as_ptr()) };
        // SAFETY: `data` is valid, and only taken back below, when no heap holds a reference to it.
        M::register(unsafe { &*data }, &mut registrar);

        if registrar.is_used {
            // SAFETY: The reference taken above is never given back. This returns success, and so
            // does whoever calls it, as `M` promises. So `data` is never freed either.
            let (data, forever) = unsafe { (&*data, Forever::new()) };

            // Only parts of it may be pointed at from now on, but it is not lost.
            //
            // SAFETY: `data` is the start of an allocation.
            unsafe { bindings::dmacoh_kmemleak_not_leak(core::ptr::from_ref(data).cast()) };
            data.start(forever);
            return Ok(Self(PhantomData));
        }

        // SAFETY: This gives back the reference taken above: the core has got no heap.
        unsafe { bindings::module_put(module.as_ptr()) };
        // SAFETY: `data` came from a `KBox`. The core has got no heap, and nobody else can have kept a
        // reference, by the lifetime of `Registrar`.
        drop(unsafe { KBox::from_raw(data) });
        Err(registrar.error.unwrap_or(ENODEV))
    }
}
