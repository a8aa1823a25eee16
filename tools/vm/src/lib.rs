// SPDX-License-Identifier: GPL-2.0

//! Test kernels and guests for dmabuf-coherency.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let kernel = vm::kernel(vm::Arch::Arm64, vm::DEFAULT)?;
//! let image = vm::Image::new(&kernel)?;
//! let outcome = vm::Guest::new(&image).command(["uname", "-r"]).run()?;
//! assert_eq!(outcome.status, Some(0));
//! # Ok(())
//! # }
//! ```
//!
//! Each function sets up what it needs and does not find in the cache.

mod arch;
mod busybox;
mod cache;
mod client;
mod console;
mod coverage;
mod debian;
mod emulator;
mod guest;
mod image;
mod kernel;
mod kvm;
mod module;
mod program;
mod progress;
mod root;
mod run;
mod series;
mod setup;
mod source;
mod stock;
mod toolchain;
mod tree;

pub use crate::{
    arch::{Arch, Iommu},
    cache::{Lock, dir as cache_dir, lock as cache_lock},
    client::{libcamera, libcamera_source, patched_libcamera, v4l_utils},
    console::{Kind, Report, reports},
    coverage::{Line, blocks},
    debian::mirror as debian_mirror,
    emulator::no_plugins,
    guest::{Guest, Outcome},
    image::{Add, Image},
    kernel::{DEFAULT, Kernel, kernel, list},
    module::{Change, attacks, checkout, module, variant},
    program::{
        c_library, c_program, c_program_32, c_program_with_libdmaheap, qemu_plugin, rust_program,
        rust_program_32, selftests,
    },
    run::Stream,
    series::{older as older_series, table as series},
    setup::{kernel_source, setup},
    stock::DEBIAN,
    toolchain::kernel_make,
};
