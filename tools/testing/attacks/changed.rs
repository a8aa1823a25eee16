// SPDX-License-Identifier: GPL-2.0

// An event of a device that may be being deleted, which names its parents.

use crate::kernel::device;
use kernel::{
    device::Device,
    sync::aref::ARef, //
};

fn changed(dev: &ARef<Device>) {
    device::changed(dev);
}
