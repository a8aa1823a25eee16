// SPDX-License-Identifier: GPL-2.0

// An action that is taken away although others rely on it, and one that is done when it is not due.

use crate::kernel::{
    device::per_device::{
        Data,
        PerDevice, //
    },
    devres::{
        Action,
        Release, //
    }, //
};
use kernel::device::Device;

fn release<T: Data>(dev: &Device, table: &'static PerDevice<T>) {
    Action::remove(dev, table);
    table.release(dev);
}
