// SPDX-License-Identifier: GPL-2.0

//! The differences between the series of kernels that the module can be built for. No other file in
//! Rust depends on the series. In C, `helpers/dmem.c` does, and `helpers/mm.c` reads a flag of which the
//! kernel crate of 7.2 has the wrong value.
//!
//! `series.mk` sets `linux_7_3` for Linux 7.3 and later. The rest is removed together with the
//! support for 7.2.

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

/// The `struct module` of this module.
#[inline]
pub(crate) fn this_module() -> *mut kernel::bindings::module {
    #[cfg(linux_7_3)]
    return kernel::module::this_module::<crate::LocalModule>().as_ptr();
    #[cfg(not(linux_7_3))]
    return crate::THIS_MODULE.as_ptr();
}

/// The device of a registration. It is bound as long as the registration exists.
#[inline]
pub(crate) fn faux_device(registration: &faux::Registration) -> &Device<Bound> {
    #[cfg(linux_7_3)]
    return registration.as_ref().as_ref();
    #[cfg(not(linux_7_3))]
    // SAFETY: A faux device is bound from its registration on until that is dropped.
    return unsafe { registration.as_ref().as_bound() };
}
