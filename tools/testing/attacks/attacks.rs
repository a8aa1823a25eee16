// SPDX-License-Identifier: GPL-2.0

//! Attacks on the abstractions of the module, by code without `unsafe`.
//!
//! Built instead of `rust/dmabuf_coherency.rs`, with all else that is there, if `ATTACK` names one of
//! the files beside this one. `guest` has to build, and tries in a guest what the compiler cannot
//! forbid. Each of the others is something that it does forbid: it must say what the `.stderr` beside
//! it says. The group `attacks` of the runner does both.

#![allow(
    dead_code,
    reason = "of the module, only what an attack is about is used"
)]

#[path = "../../../rust/bindings.rs"]
mod bindings;
#[path = "../../../rust/bus.rs"]
mod bus;
#[path = "../../../rust/cache.rs"]
mod cache;
#[path = "../../../rust/class.rs"]
mod class;
#[path = "../../../rust/cma.rs"]
mod cma;
#[path = "../../../rust/coherency.rs"]
mod coherency;
#[path = "../../../rust/compat.rs"]
mod compat;
#[path = "../../../rust/device.rs"]
mod device;
#[path = "../../../rust/devres.rs"]
mod devres;
#[path = "../../../rust/dma_buf.rs"]
mod dma_buf;
#[path = "../../../rust/dma_heap.rs"]
mod dma_heap;
#[path = "../../../rust/dma_mapping.rs"]
mod dma_mapping;
#[path = "../../../rust/dmem.rs"]
mod dmem;
#[path = "../../../rust/exports.rs"]
mod exports;
#[path = "../../../rust/heap.rs"]
mod heap;
#[path = "../../../rust/kthread.rs"]
mod kthread;
#[path = "../../../rust/links.rs"]
mod links;
#[path = "../../../rust/maintained.rs"]
mod maintained;
#[path = "../../../rust/memcg.rs"]
mod memcg;
#[path = "../../../rust/mm.rs"]
mod mm;
#[path = "../../../rust/module.rs"]
mod module;
#[path = "../../../rust/node.rs"]
mod node;
#[path = "../../../rust/page.rs"]
mod page;
#[path = "../../../rust/per_device.rs"]
mod per_device;
#[path = "../../../rust/policy.rs"]
mod policy;
#[path = "../../../rust/pool.rs"]
mod pool;
#[path = "../../../rust/region.rs"]
mod region;
#[path = "../../../rust/requests.rs"]
mod requests;
#[path = "../../../rust/scatterlist.rs"]
mod scatterlist;
#[path = "../../../rust/shrinker.rs"]
mod shrinker;
#[path = "../../../rust/signal.rs"]
mod signal;
#[path = "../../../rust/sysfs.rs"]
mod sysfs;
#[path = "../../../rust/trace.rs"]
mod trace;
#[path = "../../../rust/usage.rs"]
mod usage;
#[path = "../../../rust/vmalloc.rs"]
mod vmalloc;

#[forbid(unsafe_code)]
mod attack {
    include!(env!("DMABUF_COHERENCY_ATTACK"));
}

use kernel::prelude::*;

module! {
    type: Module,
    name: "dmabuf_coherency",
    authors: ["dmabuf-coherency maintainers"],
    description: "Attacks on the abstractions of the module",
    license: "GPL",
    imports_ns: ["DMA_BUF", "DMA_BUF_HEAP"],
}

#[cfg(attack = "guest")]
type Module = dma_heap::Permanent<attack::Guest>;

// SAFETY: `module!` above gets it, and nobody else calls its initialisation.
#[cfg(attack = "guest")]
unsafe impl dma_heap::PermanentModule for attack::Guest {
    fn prepare() -> Result<Self> {
        Self::prepare()
    }

    fn register<'a>(&'a self, registrar: &mut dma_heap::Registrar<'a>) {
        self.register(registrar);
    }

    fn start(&'static self, forever: module::Forever) {
        self.start(forever);
    }
}

#[cfg(not(attack = "guest"))]
struct Module;

#[cfg(not(attack = "guest"))]
impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
