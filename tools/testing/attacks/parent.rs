// SPDX-License-Identifier: GPL-2.0

// The parent of a device that may have been deleted.

use kernel::{
    device::Device,
    sync::aref::ARef, //
};

fn parent(dev: &ARef<Device>) {
    dev.parent();
}
