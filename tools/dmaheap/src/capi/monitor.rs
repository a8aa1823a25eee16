// SPDX-License-Identifier: MIT OR GPL-2.0

//! Waiting for links.

use super::{Freed, Out, make, number};
use crate::uevent::Uevents;
use rustix::fd::{AsFd as _, AsRawFd as _};
use std::ffi::c_int;

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_monitor_new(out: Out<'_, Uevents>) -> c_int {
    make(out, || Ok(Uevents::listen()?))
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_monitor_free(_: Freed<Uevents>) {}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_monitor_fd(monitor: &Uevents) -> c_int {
    monitor.as_fd().as_raw_fd()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_monitor_read(monitor: &Uevents) -> c_int {
    number(|| Ok(monitor.drain()?.into()))
}
