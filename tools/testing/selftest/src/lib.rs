// SPDX-License-Identifier: GPL-2.0

//! DMA heaps, their buffers and the test importer, as user space sees them:
//! what the tests and the benchmark have in common.

pub mod expect;
pub mod heap;
pub mod ioctl;
pub mod mapping;
pub mod memory;
pub mod query;
pub mod test_importer;
