// SPDX-License-Identifier: GPL-2.0

//! DMA heaps, their buffers, their links and the test importer, as user space sees them.
//! The tests and the benchmark share this code.

pub mod background;
pub mod cgroup;
pub mod device;
pub mod expect;
pub mod heap;
pub mod ioctl;
pub mod kernel_module;
pub mod links;
pub mod mapping;
pub mod memory;
pub mod query;
pub mod references;
pub mod rules;
pub mod test_importer;
