// SPDX-License-Identifier: MIT OR GPL-2.0

//! Finds the DMA heap that suits a set of devices, and allocates from it.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use dmaheap::{Request, System};
//!
//! let system = System::new();
//! let camera = system.device("/dev/video0")?;
//! let display = system.device("/dev/dri/card0")?;
//! let choice = system.choose(&[camera, display])?;
//! for objection in choice.objections() {
//!     println!("{objection}"); // system-coherent: vivid.0 does not snoop the CPU caches
//! }
//! let mut frame = choice.best()?.open()?.alloc(&Request::new(8 << 20).name("frame"))?.map()?;
//!
//! // Brackets around each access of the CPU.
//! let mut access = frame.write()?;
//! access.copy_from(0, b"pixels")?;
//! access.end()?;
//! # Ok(())
//! # }
//! ```
//!
//! [`System`] finds heaps and devices with their [`Constraints`], [`choose()`] chooses by those and by
//! a [`Requirement`], [`Allocator`] allocates a [`Buffer`], which [`Mapped`] gives the CPU access to.
//! [`query()`] tells what the kernel knows of any dma-buf, [`Holders`] who holds which,
//! [`Uevents`] when links change, and [`try_import()`] whether a device takes a buffer for real.
//!
//! The links are those of the kernel module dmabuf_coherency. Without it there are still the heaps
//! of the kernel itself, and nothing is known of devices: [`Choice::best()`] says so. Reading takes
//! no privilege. To allocate, a program must be allowed to open the heap.

mod buffer;
mod bufinfo;
#[cfg(feature = "capi")]
mod capi;
mod choice;
mod constraints;
mod device;
mod error;
mod find;
mod heap;
mod holders;
mod import;
mod ioctl;
mod map;
mod query;
mod snooping;
mod system;
mod uevent;
mod words;

pub use buffer::{Allocator, Buffer, Request};
pub use choice::{Choice, DeniedHeap, Fit, Objection, Reason, Requirement, Unfit, choose};
pub use constraints::{Constraints, Pieces};
pub use device::Device;
pub use error::{Error, Result};
pub use heap::{Access, CpuMapping, Exporter, Heap, Limit};
pub use holders::{Debugfs, Held, Holder, Holders, Total, Totals};
pub use import::{Call, Refusal, Trial, takes_pieces, time_import, try_import};
pub use map::{CpuAccess, Mapped, Read, ReadWrite, Readable, Writable, Write};
pub use query::{Answer, query};
pub use snooping::Snooping;
pub use system::System;
pub use uevent::{Uevent, Uevents};
