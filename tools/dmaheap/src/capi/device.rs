// SPDX-License-Identifier: MIT OR GPL-2.0

//! Devices and what they need.

use super::{Freed, Out, UNKNOWN, answer, borrow_fd, c_string, make, os_str, pointer};
use crate::constraints::Pieces;
use crate::device::Device;
use crate::system::System;
use std::ffi::{CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;

/// A device, with its strings as C wants them.
pub struct CDevice {
    pub(super) device: Device,
    name: CString,
    path: CString,
    bus: Option<CString>,
    driver: Option<CString>,
    nodes: Vec<CString>,
    heaps: Vec<CString>,
}

impl CDevice {
    fn new(device: Device) -> Self {
        let nodes = device.nodes.iter();
        let heaps = device.order.iter().flatten();
        Self {
            name: c_string(device.name.as_str()),
            path: c_string(device.path.as_os_str().as_bytes()),
            bus: device.bus.as_deref().map(c_string),
            driver: device.driver.as_deref().map(c_string),
            nodes: nodes
                .map(|node| c_string(node.as_os_str().as_bytes()))
                .collect(),
            heaps: heaps.map(|heap| c_string(heap.as_str())).collect(),
            device,
        }
    }
}

/// Some devices.
pub struct CDevices(Vec<CDevice>);

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_devices_new(system: &System, out: Out<'_, CDevices>) -> c_int {
    make(out, || {
        let devices = system.devices()?.into_iter();
        Ok(CDevices(devices.map(CDevice::new).collect()))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_devices_free(_: Freed<CDevices>) {}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_devices_get(devices: &CDevices, index: usize) -> Option<&CDevice> {
    devices.0.get(index)
}

/// # Safety
///
/// As [`os_str`] for `handle`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dmaheap_device_new(
    system: &System,
    handle: *const c_char,
    out: Out<'_, CDevice>,
) -> c_int {
    make(out, || {
        // SAFETY: By the contract of this function.
        Ok(CDevice::new(system.device(unsafe { os_str(handle) })?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_new_from_fd(
    system: &System,
    fd: c_int,
    out: Out<'_, CDevice>,
) -> c_int {
    make(out, || {
        Ok(CDevice::new(system.device_of_fd(borrow_fd(&fd)?)?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_free(_: Freed<CDevice>) {}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_name(device: &CDevice) -> *const c_char {
    device.name.as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_path(device: &CDevice) -> *const c_char {
    device.path.as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_bus(device: &CDevice) -> *const c_char {
    pointer(device.bus.as_ref())
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_driver(device: &CDevice) -> *const c_char {
    pointer(device.driver.as_ref())
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_node(device: &CDevice, index: usize) -> *const c_char {
    pointer(device.nodes.get(index))
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_is_known(device: &CDevice) -> c_int {
    device.device.order.is_some().into()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_heap(device: &CDevice, index: usize) -> *const c_char {
    pointer(device.heaps.get(index))
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_snoops(device: &CDevice) -> c_int {
    answer(device.device.snooping.snoops)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_address_bits(device: &CDevice) -> c_int {
    let constraints = device.device.constraints.as_ref();
    let bits = constraints.and_then(|constraints| constraints.address_bits.try_into().ok());
    bits.unwrap_or(UNKNOWN)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_iommu(device: &CDevice) -> c_int {
    let constraints = device.device.constraints.as_ref();
    answer(constraints.map(|constraints| constraints.iommu))
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_device_pieces(device: &CDevice) -> c_int {
    match device.device.constraints.map(|needs| needs.pieces) {
        Some(Pieces::Any) => 0,
        Some(Pieces::One) => 1,
        Some(Pieces::Unknown) | None => UNKNOWN,
    }
}
