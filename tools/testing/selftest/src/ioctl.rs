// SPDX-License-Identifier: GPL-2.0

//! The ways in which tests call an ioctl: with an argument of the type that the kernel
//! expects, with a bare address that may be wrong, or to get a descriptor.

use rustix::fd::{AsFd, FromRawFd, OwnedFd};
use rustix::io::Result;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater};
use std::ffi::c_void;

/// Calls an ioctl that reads `value`, and may write it.
///
/// # Safety
///
/// `OPCODE` must be an ioctl whose argument is a `T`, and must write nothing
/// but that argument.
pub unsafe fn update<const OPCODE: Opcode, T>(fd: impl AsFd, value: &mut T) -> Result<()> {
    // SAFETY: By the contract of this function.
    unsafe { rustix::ioctl::ioctl(fd, Updater::<OPCODE, T>::new(value)) }
}

/// Calls an ioctl with `address` as its argument, whatever is there.
///
/// # Safety
///
/// If the kernel knows `opcode`, then what it writes at `address` must be
/// memory of this process that nothing else refers to, or no writable memory
/// at all.
pub unsafe fn at_address(fd: impl AsFd, opcode: Opcode, address: usize) -> Result<()> {
    // SAFETY: By the contract of this function.
    unsafe { rustix::ioctl::ioctl(fd, AtAddress { opcode, address }) }
}

struct AtAddress {
    opcode: Opcode,
    address: usize,
}

// SAFETY: The ioctl is said to mutate, nothing is read back from the argument,
// and `at_address()` passes the duty for the address on to its caller.
unsafe impl Ioctl for AtAddress {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::with_exposed_provenance_mut(self.address)
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<()> {
        Ok(())
    }
}

/// Calls an ioctl that takes no argument and returns a new descriptor.
///
/// # Safety
///
/// `opcode` must be such an ioctl.
pub unsafe fn descriptor(fd: impl AsFd, opcode: Opcode) -> Result<OwnedFd> {
    // SAFETY: By the contract of this function.
    unsafe { rustix::ioctl::ioctl(fd, Descriptor(opcode)) }
}

struct Descriptor(Opcode);

// SAFETY: There is no argument, and `descriptor()` passes the duty for the result on to its caller.
unsafe impl Ioctl for Descriptor {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        self.0
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(fd: IoctlOutput, _: *mut c_void) -> Result<OwnedFd> {
        // SAFETY: The ioctl has succeeded, so the descriptor is new and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
