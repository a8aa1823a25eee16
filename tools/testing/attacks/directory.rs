// SPDX-License-Identifier: GPL-2.0

// A directory that somebody reads when the module has gone.

use crate::kernel::{
    device::HasDriver,
    sysfs::{
        Directory,
        TextFile, //
    }, //
};
use kernel::prelude::*;

static FILES: [TextFile; 0] = [];

fn create(dev: HasDriver<'_>) -> Result<Directory> {
    Directory::create(dev, c"directory", &FILES, KVec::new())
}
