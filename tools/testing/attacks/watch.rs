// SPDX-License-Identifier: GPL-2.0

// A class of which nobody has promised that the parents of its devices are bound.

use crate::kernel::device::class::{
    Class,
    Observer,
    Watch, //
};
use kernel::prelude::*;

static WAKEUP: Class = Class::new(c"wakeup", None);

fn watch<T: Observer>() -> impl PinInit<Watch<T>> {
    Watch::new(&WAKEUP)
}
