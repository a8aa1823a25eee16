// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over C, as they would be in the kernel crate.
//!
//! Each file is about one C header, and lies where `rust/kernel` would have it. All `unsafe` of
//! the module is here, and in the few functions that C calls. Nothing here names anything of the
//! module. A test checks that: each path through the crate root leads to [`crate::kernel`] or to
//! [`crate::bindings`].

pub(crate) mod compat;
pub(crate) mod device;
pub(crate) mod devres;
pub(crate) mod dma_buf;
pub(crate) mod dma_heap;
pub(crate) mod dma_mapping;
pub(crate) mod dmem;
pub(crate) mod kthread;
pub(crate) mod mm;
pub(crate) mod module;
pub(crate) mod scatterlist;
pub(crate) mod signal;
pub(crate) mod syscore;
pub(crate) mod sysfs;
