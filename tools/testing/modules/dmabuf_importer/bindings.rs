// SPDX-License-Identifier: GPL-2.0

//! The C declarations that the abstractions call.
//!
//! The kernel crate's own bindings, and what they lack: `dmabuf_importer.h`, `helpers.h` and
//! `linux/dmabuf_coherency.h`, from the bindgen run in `Kbuild`.

pub(crate) use kernel::bindings::*;

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    improper_ctypes,
    non_camel_case_types,
    unreachable_pub,
    reason = "generated; what applies depends on the kernel's configuration"
)]
mod generated {
    use super::*;
    use kernel::ffi;
    use pin_init::MaybeZeroable;

    include!(concat!(
        env!("DMABUF_COHERENCY_OBJ"),
        "/dmabuf_importer/bindings_generated.rs"
    ));
}

pub(crate) use generated::*;
