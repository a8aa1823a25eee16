// SPDX-License-Identifier: GPL-2.0

//! The C declarations that the abstractions call.
//!
//! The kernel crate's own bindings, and what they lack: `linux/dma-heap.h`, `linux/syscore_ops.h`,
//! `helpers/helpers.h` and both `linux/dmabuf_coherency.h`, from the bindgen run in `bindings/bindgen.mk`. The test modules have
//! what is theirs besides.

use kernel::transmute::{
    AsBytes,
    FromBytes, //
};

pub(crate) use kernel::bindings::*;

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    reason = "generated; what applies depends on the kernel's configuration"
)]
mod generated {
    use super::*;
    use kernel::ffi;
    use pin_init::MaybeZeroable;

    include!(env!("DMABUF_COHERENCY_BINDINGS"));
}

pub(crate) use generated::*;

/// Only kernels that have areas of contiguous memory declare it. Others have no pointer to one.
#[cfg(not(CONFIG_DMA_CMA))]
#[allow(non_camel_case_types)]
#[repr(C)]
pub(crate) struct cma {
    _opaque: [u8; 0],
}

// SAFETY: It has no padding, and nothing in it changes by itself.
unsafe impl AsBytes for dmabuf_coherency_query {}

// SAFETY: It consists of integers.
unsafe impl FromBytes for dmabuf_coherency_query {}

// SAFETY: As above.
unsafe impl FromBytes for dmabuf_coherency_sync {}
