// SPDX-License-Identifier: GPL-2.0

// A file for a heap that somebody is about to register, or fails to.

use crate::kernel::{
    dma_heap::device::HeapDevice,
    module::Forever, //
};

fn find(forever: Forever) -> Option<HeapDevice> {
    HeapDevice::find(c"another", forever)
}
