// SPDX-License-Identifier: GPL-2.0

//! Functions that other kernel modules call.
//!
//! C header: `include/linux/dmabuf_coherency.h`
//!
//! `helpers.c` exports them; here each is checked against the prototype in the header.

use crate::{
    bindings,
    dma_buf::DmaBuf,
    heap::Buffer, //
};

const _: () = {
    if true {
        bindings::dmabuf_is_dma_coherent
    } else {
        dmabuf_is_dma_coherent
    };
};

/// Returns whether only devices that snoop the CPU caches may use this buffer.
///
/// # Safety
///
/// The caller must hold a reference to `dma_buf`.
#[no_mangle]
unsafe extern "C" fn dmabuf_is_dma_coherent(dma_buf: *const bindings::dma_buf) -> bool {
    // SAFETY: By this function's safety requirements.
    unsafe { DmaBuf::<Buffer>::try_from_raw(dma_buf) }.is_some_and(|buf| buf.is_dma_coherent())
}
