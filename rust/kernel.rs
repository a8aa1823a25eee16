// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over C, as they would be in the kernel crate.
//!
//! Each file abstracts one C header, and has the path that it would have in `rust/kernel`. All
//! `unsafe` code of the module is here, apart from the few functions at its boundary to C. The
//! files here do not use the rest of the module. `make layers` checks this: every path through the
//! crate root must lead to [`crate::kernel`] or to [`crate::bindings`].

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
