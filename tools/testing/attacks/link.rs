// SPDX-License-Identifier: GPL-2.0

// A link that somebody else has made.

use crate::kernel::{
    device::HasDriver,
    sysfs::Link, //
};

fn remove(dev: HasDriver<'_>) {
    let link = Link {
        dev: (&*dev).into(),
        name: c"driver",
    };
    let _ = link.remove(dev);
}
