// SPDX-License-Identifier: GPL-2.0

// A shrinker that the kernel asks for memory when the module has gone.

use crate::kernel::mm::shrinker::{
    Reclaim,
    Shrinker, //
};
use kernel::sync::Arc;

fn register<T: Reclaim>(shrinker: Arc<Shrinker<T>>) {
    shrinker.register();
    core::mem::forget(shrinker);
}
