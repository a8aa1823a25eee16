// SPDX-License-Identifier: GPL-2.0

//! What differs between the series of kernels that the module can be built for. No other file of
//! Rust tells them apart; `helpers/dmem.c` does so for C.
//!
//! `series.mk` sets `linux_7_3` for Linux 7.3 and later. What is for 7.2 goes when that does.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    faux,
    prelude::*, //
};

/// A full memory barrier.
#[inline]
pub(crate) fn smp_mb() {
    #[cfg(linux_7_3)]
    kernel::sync::barrier::smp_mb(kernel::sync::barrier::Full);
    #[cfg(not(linux_7_3))]
    kernel::sync::barrier::smp_mb();
}

/// `EOPNOTSUPP`, for which 7.2 has no constant.
#[inline]
pub(crate) fn eopnotsupp() -> Error {
    // CAST: It is a small number.
    Error::from_errno(-(kernel::bindings::EOPNOTSUPP as c_int))
}

/// This module, as C refers to it.
#[inline]
pub(crate) fn this_module() -> *mut kernel::bindings::module {
    #[cfg(linux_7_3)]
    return kernel::module::this_module::<crate::LocalModule>().as_ptr();
    #[cfg(not(linux_7_3))]
    return crate::THIS_MODULE.as_ptr();
}

/// The device of a registration, bound as long as that is there.
#[inline]
pub(crate) fn faux_device(registration: &faux::Registration) -> &Device<Bound> {
    #[cfg(linux_7_3)]
    return registration.as_ref().as_ref();
    #[cfg(not(linux_7_3))]
    // SAFETY: A faux device is bound from its registration on until that is dropped.
    return unsafe { registration.as_ref().as_bound() };
}
