// SPDX-License-Identifier: GPL-2.0

//! The module's trace events.
//!
//! C header: `include/trace/events/dmabuf_coherency.h`

use crate::{
    bindings,
    kernel::{
        device::DeviceExt,
        dma_mapping::DmaDevice, //
    }, //
};
use kernel::prelude::*;

/// Traces that `dev` asked to attach to a buffer of the heap `heap`, or to map one. `result` is the
/// answer.
pub(crate) fn attach(heap: &CStr, dev: DmaDevice<'_>, result: Result) {
    let error = result.map_or_else(Error::to_errno, |()| 0);

    // SAFETY: The name and the device are valid for the call.
    unsafe {
        bindings::dmacoh_trace_attach(
            heap.as_char_ptr(),
            dev.as_raw(),
            dev.is_dma_coherent(),
            error,
        )
    };
}
