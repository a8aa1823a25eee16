// SPDX-License-Identifier: GPL-2.0

//! Replaces `edu.rs` if the kernel lacks the abstractions that it needs. There is then no such
//! device.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};

/// As in `edu.rs`. No value of this type exists.
pub(crate) enum Claim {}

impl Claim {
    /// Always fails with [`ENODEV`].
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

/// As in `edu.rs`, but without a driver.
pub(crate) struct Registration;

/// Registers nothing.
pub(crate) fn register(_module: &'static ThisModule) -> impl PinInit<Registration, Error> {
    Ok(Registration)
}

/// Does nothing.
///
/// # Safety
///
/// None.
pub(crate) unsafe fn init() {}
