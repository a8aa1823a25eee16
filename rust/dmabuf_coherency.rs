// SPDX-License-Identifier: GPL-2.0

//! DMA heaps that know which devices can use their buffers.
//!
//! # Rooms
//!
//! - What the module does, without `unsafe`: [`heap`] allocates and exports, [`coherency`] decides
//!   which devices may attach, [`links`] says so in sysfs, in the order of [`policy`], and
//!   [`query`] says what a buffer is. [`pool`] is where memory comes from, [`usage`] counts it.
//! - Safe abstractions over C, which know nothing of that: [`dma_buf`], [`dma_heap`],
//!   [`scatterlist`], [`dma_mapping`], [`page`], [`mm`], [`vmalloc`] and [`signal`] for the heaps;
//!   [`bus`], [`class`], [`device`], [`devres`], [`mod@module`], [`per_device`] and [`sysfs`] for
//!   the links. They are written as if for `rust/kernel`, and stay here until they are there.
//! - The C side: [`bindings`], [`exports`], [`trace`], `helpers.c`.
//!
//! # Start
//!
//! First everything that can fail, then the heaps: once one of them is registered, the module can
//! neither fail to load nor be unloaded. [`dma_heap::Permanent`] sees to it. The links come last,
//! as they point at the heaps and need no way back.

mod bindings;
mod bus;
mod cache;
mod class;
mod cma;
mod coherency;
mod device;
mod devres;
mod dma_buf;
mod dma_heap;
mod dma_mapping;
mod dmem;
mod exports;
mod heap;
mod kthread;
mod links;
mod maintained;
mod memcg;
mod mm;
mod module;
mod page;
mod per_device;
mod policy;
mod pool;
mod query;
mod scatterlist;
mod shrinker;
mod signal;
mod sysfs;
mod trace;
mod usage;
mod vmalloc;

use dma_heap::{
    Permanent,
    PermanentModule,
    Registrar, //
};
use heap::{
    Heap,
    Shared, //
};
use kernel::prelude::*;
use links::Links;
use module::Forever;

module! {
    type: Permanent<DmabufCoherency>,
    name: "dmabuf_coherency",
    authors: ["dmabuf-coherency maintainers"],
    description: "DMA heaps that know which devices can use their buffers",
    license: "GPL",
    imports_ns: ["DMA_BUF", "DMA_BUF_HEAP"],
    params: {
        accounting: bool {
            default: true,
            description: "Charge buffers to the control group of the process that allocates them",
        },
        pool_percent: u8 {
            default: 5,
            description: "How much of the memory may be kept for new buffers, in per cent; 0 is none",
        },
    },
}

/// What lives as long as the module does.
struct DmabufCoherency {
    shared: Shared,
    heaps: KVec<Pin<KBox<Heap>>>,
    links: Pin<KBox<Links>>,
}

impl PermanentModule for DmabufCoherency {
    fn prepare() -> Result<Self> {
        // No later step gives up a heap that is registered, so look for names that are taken first.
        for kind in policy::HEAPS.iter().filter(|kind| !kind.in_tree) {
            if dma_heap::find(kind.name).is_some() {
                pr_err!("there is a heap {} already\n", kind.name);
                return Err(EEXIST);
            }
        }

        let shared = Shared::new(
            module_parameters::accounting.value(),
            module_parameters::pool_percent.value(),
        )?;
        let mut heaps = KVec::new();

        for kind in policy::HEAPS.iter().filter(|kind| !kind.in_tree) {
            if let Some(heap) = Heap::new(*kind, &shared) {
                heaps.push(KBox::pin_init(heap, GFP_KERNEL)?, GFP_KERNEL)?;
            }
        }
        Ok(Self {
            shared,
            heaps,
            links: KBox::pin_init(Links::new()?, GFP_KERNEL)?,
        })
    }

    fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
        for heap in &self.heaps {
            let heap = heap.as_ref().get_ref();

            registrar.add(heap.kind().name, heap);
        }
    }

    fn start(&'static self, forever: Forever) {
        self.shared.start(forever);
        self.links.as_ref().get_ref().start(forever);
        if let Err(err) = query::start(forever) {
            pr_err!("there will be no /dev/dmabuf_coherency: {:?}\n", err);
        }
    }
}
