// SPDX-License-Identifier: GPL-2.0

//! DMA heaps that know which devices can use their buffers.
//!
//! # Rooms
//!
//! - What the module does, without `unsafe`: [`heap`] allocates and exports, [`coherency`] decides
//!   which devices may attach.
//! - Safe abstractions over C, which know nothing of that: [`dma_buf`], [`dma_heap`],
//!   [`scatterlist`], [`dma_mapping`], [`page`], [`vmalloc`], [`device`], [`signal`]. They are
//!   written as if for `rust/kernel`, and stay here until they are there.
//! - The C side: [`bindings`], [`exports`], [`trace`], `helpers.c`.
//!
//! # Start
//!
//! First everything that can fail, then the heaps: once one of them is registered, the module can
//! neither fail to load nor be unloaded. [`dma_heap::Permanent`] sees to it.

mod bindings;
mod coherency;
mod device;
mod dma_buf;
mod dma_heap;
mod dma_mapping;
mod exports;
mod heap;
mod page;
mod scatterlist;
mod signal;
mod trace;
mod vmalloc;

use dma_heap::{
    Permanent,
    PermanentModule,
    Registrar, //
};
use heap::SystemHeap;
use kernel::prelude::*;

module! {
    type: Permanent<DmabufCoherency>,
    name: "dmabuf_coherency",
    authors: ["dmabuf-coherency maintainers"],
    description: "DMA heaps that know which devices can use their buffers",
    license: "GPL",
    imports_ns: ["DMA_BUF", "DMA_BUF_HEAP"],
}

/// What lives as long as the module does.
struct DmabufCoherency {
    system_coherent: Pin<KBox<SystemHeap>>,
}

impl PermanentModule for DmabufCoherency {
    fn prepare() -> Result<Self> {
        Ok(Self {
            system_coherent: KBox::pin_init(SystemHeap::new(c"system-coherent"), GFP_KERNEL)?,
        })
    }

    fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
        let heap = self.system_coherent.as_ref().get_ref();

        registrar.add(heap.name(), heap);
    }
}
