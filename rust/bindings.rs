// SPDX-License-Identifier: GPL-2.0

//! Bindings to C.
//!
//! This re-exports the bindings of the kernel crate, and adds those for headers that it lacks:
//! `linux/dma-heap.h`, `linux/syscore_ops.h`, `helpers/helpers.h`, and `linux/dmabuf_coherency.h`
//! of the kernel and of user space. `bindings/bindgen.mk` generates the latter. The test modules
//! add headers of their own.

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

/// A contiguous memory area. Without `CONFIG_DMA_CMA` the kernel does not declare the type, and
/// nothing has a pointer to one.
#[cfg(not(CONFIG_DMA_CMA))]
#[allow(non_camel_case_types)]
#[repr(C)]
pub(crate) struct cma {
    _opaque: [u8; 0],
}

// SAFETY: It has no padding and no interior mutability.
unsafe impl AsBytes for dmabuf_coherency_query {}

// SAFETY: It consists of integers.
unsafe impl FromBytes for dmabuf_coherency_query {}

// SAFETY: As above.
unsafe impl FromBytes for dmabuf_coherency_sync {}
