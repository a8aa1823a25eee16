// SPDX-License-Identifier: GPL-2.0

// Managed resources for a device that is being unbound, which nobody would release.

use crate::kernel::{
    device::{
        per_device::{
            Data,
            PerDevice, //
        },
        HasDriver, //
    },
    module::Forever, //
};

struct First(&'static PerDevice<Second>, Forever);

struct Second;

impl Data for First {
    fn unbound(&mut self, dev: HasDriver<'_>) {
        let _ = self.0.lock().get_or_insert(&dev, Second, self.1);
    }
}

impl Data for Second {
    fn unbound(&mut self, _: HasDriver<'_>) {}
}
