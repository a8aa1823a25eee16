// SPDX-License-Identifier: GPL-2.0

// The parent of a device that may have been deleted.

use crate::device::DeviceExt;
use kernel::{
    device::Device,
    sync::aref::ARef, //
};

fn parent(dev: &ARef<Device>) {
    dev.changed();
    dev.parent();
}
