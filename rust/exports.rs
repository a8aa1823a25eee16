// SPDX-License-Identifier: GPL-2.0

//! Functions that C calls: those for other kernel modules, and the setter of the module parameter
//! `links`.
//!
//! C headers: `include/linux/dmabuf_coherency.h`, `helpers/helpers.h`
//!
//! `module.c` exports the functions for other modules. The compiler checks each function here
//! against its C prototype.

use crate::{
    bindings,
    heap::Buffer,
    kernel::{
        device,
        dma_buf::DmaBuf, //
    },
    links,
    policy::Pieces, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    devres,
    error::from_result,
    prelude::*,
    sync::aref::ARef, //
};

/// Fails to compile unless each function has the same signature as its C prototype.
macro_rules! check_prototype {
    ($($name:ident),* $(,)?) => {
        $(const _: () = {
            if true {
                bindings::$name
            } else {
                $name
            };
        };)*
    };
}

check_prototype!(
    devm_dma_heap_create_device_link,
    dma_heap_create_device_link,
    dma_heap_remove_device_link,
    dma_heap_set_device_pieces,
    dmabuf_is_dma_coherent,
    dmacoh_set_links,
);

/// Returns whether only devices that snoop the CPU caches may use the buffer.
///
/// # Safety
///
/// The caller must hold a reference to `dma_buf`.
#[no_mangle]
unsafe extern "C" fn dmabuf_is_dma_coherent(dma_buf: *const bindings::dma_buf) -> bool {
    // SAFETY: By this function's safety requirements.
    unsafe { DmaBuf::<Buffer>::try_from_raw(dma_buf) }
        .is_some_and(|buf| buf.heap().kind().is_dma_coherent())
}

/// Makes a heap the first choice of a device. Returns [`ENODEV`] if the device is not bound.
///
/// # Safety
///
/// As for [`dma_heap_create_device_link`].
unsafe fn create_link<'a>(
    dev: *mut bindings::device,
    heap: *const c_char,
) -> Result<&'a Device<Bound>> {
    // SAFETY: By this function's safety requirements.
    let (dev, heap) = unsafe { (Device::from_raw(dev), CStr::from_char_ptr(heap)) };
    // SAFETY: As above.
    let dev = unsafe { device::as_bound(dev) }.ok_or(ENODEV)?;

    links::create_device_link(dev, heap)?;
    Ok(dev)
}

/// Makes a heap the first choice of a device, for its driver.
///
/// # Safety
///
/// The caller must be the driver that `dev` is bound to or being bound to, or keep it bound
/// otherwise. `heap` must be a C string.
#[no_mangle]
unsafe extern "C" fn dma_heap_create_device_link(
    dev: *mut bindings::device,
    heap: *const c_char,
) -> c_int {
    // SAFETY: By this function's safety requirements.
    from_result(|| unsafe { create_link(dev, heap) }.map(|_| 0))
}

/// Undoes the choice that the driver of a device made with [`dma_heap_create_device_link`].
///
/// # Safety
///
/// The caller must hold a reference to `dev`.
#[no_mangle]
unsafe extern "C" fn dma_heap_remove_device_link(dev: *mut bindings::device) {
    // SAFETY: By this function's safety requirements.
    links::remove_device_link(unsafe { Device::from_raw(dev) });
}

/// Tells the module in how many physical pieces a device accepts a buffer.
///
/// # Safety
///
/// The caller must be the driver that `dev` is bound to or being bound to, or keep it bound
/// otherwise.
#[no_mangle]
unsafe extern "C" fn dma_heap_set_device_pieces(
    dev: *mut bindings::device,
    pieces: bindings::dma_heap_pieces,
) -> c_int {
    from_result(|| {
        let pieces = match pieces {
            bindings::dma_heap_pieces_DMA_HEAP_PIECES_ANY => Pieces::Any,
            bindings::dma_heap_pieces_DMA_HEAP_PIECES_ONE => Pieces::One,
            _ => return Err(EINVAL),
        };
        // SAFETY: By this function's safety requirements.
        let dev = unsafe { Device::from_raw(dev) };
        // SAFETY: As above.
        let dev = unsafe { device::as_bound(dev) }.ok_or(ENODEV)?;

        links::set_device_pieces(dev, pieces).map(|()| 0)
    })
}

/// A driver's choice of a heap. The drop undoes it, when the device is unbound.
struct ManagedLink(ARef<Device>);

impl Drop for ManagedLink {
    fn drop(&mut self) {
        links::remove_device_link(&self.0);
    }
}

/// Makes a heap the first choice of a device until it is unbound from its driver.
///
/// # Safety
///
/// As for [`dma_heap_create_device_link`].
#[no_mangle]
unsafe extern "C" fn devm_dma_heap_create_device_link(
    dev: *mut bindings::device,
    heap: *const c_char,
) -> c_int {
    from_result(|| {
        // SAFETY: By this function's safety requirements.
        let dev = unsafe { create_link(dev, heap) }?;

        // On failure this drops the `ManagedLink`, which removes the link.
        devres::register::<ManagedLink, Error>(dev, Ok(ManagedLink((&**dev).into())), GFP_KERNEL)?;
        Ok(0)
    })
}

/// Sets the module parameter `links`.
///
/// # Safety
///
/// `text` must be a C string.
#[no_mangle]
unsafe extern "C" fn dmacoh_set_links(text: *const c_char) -> c_int {
    // SAFETY: By this function's safety requirements.
    let text = unsafe { CStr::from_char_ptr(text) };

    from_result(|| links::set_rules(text.to_str()?).map(|()| 0))
}

/// Applies the value that the module parameter `links` got when the module was loaded. May sleep.
pub(crate) fn apply_links() {
    // SAFETY: The module is loaded; the callee takes the parameter's lock.
    unsafe { bindings::dmacoh_apply_links() };
}
