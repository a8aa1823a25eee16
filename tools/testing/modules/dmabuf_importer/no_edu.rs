// SPDX-License-Identifier: GPL-2.0

//! What stands for `edu.rs` where the kernel lacks abstractions that it needs: there is no such device.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};

/// A device that nobody has.
pub(crate) enum Claim {}

impl Claim {
    /// Fails with [`ENODEV`].
    pub(crate) fn new() -> Result<Self> {
        Err(ENODEV)
    }

    pub(crate) fn device(&self) -> &Device<Bound> {
        match *self {}
    }

    /// # Safety
    ///
    /// None.
    pub(crate) unsafe fn read(&self, _addr: u64, _to: &mut [u8]) -> Result {
        match *self {}
    }

    /// # Safety
    ///
    /// None.
    pub(crate) unsafe fn write(&self, _addr: u64, _from: &[u8]) -> Result {
        match *self {}
    }
}

/// Nothing that is registered.
pub(crate) struct Registration;

/// Registers nothing.
pub(crate) fn register(_module: &'static ThisModule) -> impl PinInit<Registration, Error> {
    Ok(Registration)
}

/// Has nothing to initialise.
///
/// # Safety
///
/// None.
pub(crate) unsafe fn init() {}
