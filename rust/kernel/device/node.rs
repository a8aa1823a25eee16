// SPDX-License-Identifier: GPL-2.0

//! Device nodes whose drivers import buffers, and how they do that.
//!
//! C headers: [`include/drm/drm_drv.h`](srctree/include/drm/drm_drv.h),
//! [`include/media/v4l2-dev.h`](srctree/include/media/v4l2-dev.h),
//! [`include/media/videobuf2-core.h`](srctree/include/media/videobuf2-core.h)
//!
//! Most drivers import by one of a few helpers. The pointers in a `struct drm_driver` or a `struct
//! vb2_queue` tell which one. The helpers are in modules that may not be loaded, so their symbols
//! are looked up.

use crate::{
    bindings,
    kernel::{
        device::{
            class::{
                Added,
                Class, //
            },
            DeviceExt, //
        },
        dma_mapping::DmaDevice,
        module::others::SymbolRef, //
    }, //
};
use kernel::{
    device::Device,
    prelude::*, //
};

/// The classes whose devices may be nodes that import buffers.
///
/// Their devices are made by `drm_minor_register()` and `video_register_device()`; there are also
/// connectors, privacy screens and the control nodes of habanalabs. All are on no bus. Drivers register
/// them for the device that they are bound to, or for one of the same driver's that goes with it, and
/// unregister them when they are unbound. Only pvrusb2 moves them: to no parent, when its device is
/// unplugged. The drivers of 7.3 have been read for this. Nothing enforces it.
pub(crate) static CLASSES: [Class; 3] = [
    // SAFETY: As above. The symbol is of `drm.ko`, as is the class.
    //
    // TODO: In 7.2 a driver in Rust unregisters its nodes when the managed resources of its device are
    // released. What is added to these just then, as a watch begins, is not released with them. In
    // 7.3 it does so before.
    unsafe { Class::new(c"drm", Some(c"drm_class_device_register")) },
    // SAFETY: As above.
    unsafe { Class::new(c"accel", Some(c"drm_class_device_register")) },
    // SAFETY: As above. The symbol is of `videodev.ko`, as is the class.
    //
    // TODO: Nobody keeps pvrusb2 from moving a node just when a watch begins.
    unsafe { Class::new(c"video4linux", Some(c"v4l2_device_register")) },
];

/// The helper by which a driver imports buffers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Helper {
    /// GEM objects that are one piece in the device's address space.
    GemDma,
    /// GEM objects of any pieces.
    GemShmem,
    /// The same, for a driver that shows the buffer by the CPU: it attaches, and never maps.
    GemShmemNoMap,
    /// A queue of videobuf2 whose buffers are one piece in the device's address space.
    Vb2DmaContig,
    /// A queue whose buffers have any pieces.
    Vb2DmaSg,
    /// A queue whose buffers are for the CPU: it does not attach.
    Vb2Vmalloc,
    /// A way of its own, or a helper that is known to an open file only.
    Other,
}

/// The helpers of videobuf2: the module of each, and the symbol of its operations.
const VB2: [(Helper, &CStr, &CStr); 3] = [
    (
        Helper::Vb2DmaContig,
        c"videobuf2_dma_contig",
        c"vb2_dma_contig_memops",
    ),
    (Helper::Vb2DmaSg, c"videobuf2_dma_sg", c"vb2_dma_sg_memops"),
    (
        Helper::Vb2Vmalloc,
        c"videobuf2_vmalloc",
        c"vb2_vmalloc_memops",
    ),
];

/// A device node that imports buffers.
pub(crate) struct Node<'a> {
    /// The device that the driver attaches to a buffer.
    pub(crate) dev: DmaDevice<'a>,
    /// The name of the DRM driver, if it is one.
    pub(crate) drm_driver: Option<&'a CStr>,
    /// How it imports.
    pub(crate) helper: Helper,
}

impl<'a> Node<'a> {
    /// Looks at a device of class `drm`, `accel` or `video4linux`. None if it is no node that imports
    /// buffers, or its parent is not bound to a driver.
    pub(crate) fn of(added: &Added<'a>) -> Option<Self> {
        added.parent()?;
        match added.class().name().to_bytes() {
            // SAFETY: By the type invariants of `Added`, this is a device of such a class, and stays
            // registered meanwhile. That its parent is bound has just been seen.
            b"drm" | b"accel" => unsafe { Self::of_drm(added.device()) },
            // SAFETY: As above.
            b"video4linux" => unsafe { Self::of_video(added.device()) },
            _ => None,
        }
    }

    /// # Safety
    ///
    /// `dev` must be a device of class `drm` or `accel` that stays registered during `'a`.
    unsafe fn of_drm(dev: &'a Device) -> Option<Self> {
        let mut raw = pin_init::zeroed();
        // SAFETY: The device is registered, so what it belongs to is initialised.
        if !unsafe { bindings::dmacoh_drm_node(dev.as_raw(), &mut raw) } {
            return None;
        }

        let helper = if is_symbol(raw.import, c"drm_gem_shmem_prime_import_no_map") {
            Helper::GemShmemNoMap
        } else if !raw.import.is_null() {
            Helper::Other
        } else if is_symbol(raw.import_table, c"drm_gem_dma_prime_import_sg_table")
            || is_function(raw.import_table, c"drm_gem_dma_prime_import_sg_table_vmap")
        {
            Helper::GemDma
        } else if is_symbol(raw.import_table, c"drm_gem_shmem_prime_import_sg_table") {
            Helper::GemShmem
        } else {
            Helper::Other
        };
        // That helper attaches the parent of the DRM device, whichever device does the DMA.
        let attached = if helper == Helper::GemShmemNoMap {
            raw.dev
        } else {
            raw.dma_dev
        };

        Some(Self {
            // SAFETY: As long as the node is registered a buffer may be imported, so its driver keeps
            // the device that it attaches then able to do DMA.
            dev: unsafe { DmaDevice::from_raw(attached) },
            // SAFETY: A driver has a name, which stays as long as the driver.
            drm_driver: Some(unsafe { CStr::from_char_ptr(raw.driver) }),
            helper,
        })
    }

    /// # Safety
    ///
    /// `dev` must be a device of class `video4linux` that stays registered during `'a`, and its parent
    /// must be bound to a driver.
    unsafe fn of_video(dev: &'a Device) -> Option<Self> {
        let mut raw = pin_init::zeroed();
        // SAFETY: The device is registered, so what it belongs to is initialised.
        if !unsafe { bindings::dmacoh_video_node(dev.as_raw(), &mut raw) } {
            return None;
        }

        let helper = if raw.mem_ops.is_null() {
            Self::only_helper(raw.owner)
        } else {
            VB2.into_iter()
                .find(|(_, _, symbol)| is_symbol(raw.mem_ops, symbol))
                .map(|(helper, ..)| helper)
        };
        Some(Self {
            // SAFETY: As above. If nothing else is named, it is the parent, which is bound.
            dev: unsafe { DmaDevice::from_raw(raw.dma_dev) },
            drm_driver: None,
            helper: helper.unwrap_or(Helper::Other),
        })
    }

    /// The helper of a driver whose queues belong to open files. That is the only helper that its
    /// module can use, or the helper for one piece if the module uses several and that among them.
    fn only_helper(module: *const bindings::module) -> Option<Helper> {
        if module.is_null() {
            return None;
        }
        let uses = |name: &CStr, symbol| {
            // As long as there is a reference to its symbol, the module that is asked for stays.
            let Some(_symbol) = SymbolRef::get(symbol) else {
                return false;
            };
            // SAFETY: The module of a registered device is loaded; the name is a C string.
            unsafe { bindings::dmacoh_module_uses(module, name.as_char_ptr()) }
        };
        let mut used = VB2
            .into_iter()
            .filter(|(_, name, symbol)| uses(name, symbol));
        let (first, ..) = used.next()?;

        // The kernel does not tell who uses a helper that is built in.
        let mut is_certain = || {
            used.next().is_none()
                && !VB2
                    .into_iter()
                    .any(|(_, name, symbol)| !is_module(name) && SymbolRef::get(symbol).is_some())
        };
        (first == Helper::Vb2DmaContig || is_certain()).then_some(first)
    }
}

/// Whether `ptr` is what is exported as `symbol`, for modules under the GPL.
fn is_symbol(ptr: *const c_void, symbol: &'static CStr) -> bool {
    !ptr.is_null() && SymbolRef::get(symbol).is_some_and(|symbol| symbol.as_ptr() == ptr)
}

/// Whether `ptr` is the function of this name, by the kernel's table of symbols. A symbol that is
/// exported to any module, and not only under the GPL, cannot be looked up.
fn is_function(ptr: *const c_void, name: &CStr) -> bool {
    // SAFETY: Callable in any context; any pointer will do.
    !ptr.is_null() && unsafe { bindings::dmacoh_is_function(ptr, name.as_char_ptr()) }
}

/// Whether there is a loaded module of this name.
fn is_module(name: &CStr) -> bool {
    // SAFETY: `name` is a C string.
    unsafe { bindings::dmacoh_module_exists(name.as_char_ptr()) }
}
