// SPDX-License-Identifier: GPL-2.0

//! DMA heaps that know which devices can use their buffers.
//!
//! # Source files
//!
//! - The logic of the module, without `unsafe`. [`policy`] decides which heaps exist, which devices
//!   may attach to their buffers, and in which order heaps suit a device. [`region`] finds the
//!   memory for heaps. [`heap`] allocates and exports buffers. [`coherency`] reads the properties
//!   of devices for the policy. [`links`] publishes in sysfs which heaps suit a device.
//!   [`requests`] serves the ioctls about a buffer. [`pool`] provides memory, and [`usage`] counts
//!   it.
//! - [`mod@kernel`]: safe abstractions over C, independent of this module. They are written as if
//!   for `rust/kernel`, and stay here until they are merged there.
//! - The interface to C: [`bindings`], [`exports`], [`parameters`], [`trace`], and `module.c`.
//!
//! # Start
//!
//! The module first prepares everything that can fail, and then registers the heaps. Once a heap
//! is registered, the module can neither fail to load nor be unloaded: see [`PermanentModule`].
//! The links start after the heaps, because they point at them. Nothing has to undo them.

mod bindings;
mod coherency;
mod exports;
mod heap;
mod kernel;
mod links;
mod parameters;
mod policy;
mod pool;
mod region;
mod requests;
mod trace;
mod usage;

use crate::kernel::{
    dma_heap,
    mm::cache::Cleaner,
    module::{
        permanent_module,
        Forever,
        PermanentModule,
        Registrar, //
    }, //
};
use ::kernel::{
    prelude::*,
    sync::Arc, //
};
use heap::Heap;
use links::Links;
use pool::Pool;
use region::Catalogue;

permanent_module! {
    type: DmabufCoherency,
    name: "dmabuf_coherency",
    authors: ["dmabuf-coherency maintainers"],
    description: "DMA heaps that know which devices can use their buffers",
    license: "GPL",
    imports_ns: ["DMA_BUF", "DMA_BUF_HEAP"],
}

/// The data of the module.
struct DmabufCoherency {
    pool: Arc<Pool>,
    heaps: KVec<Pin<KBox<Heap>>>,
    links: Pin<KBox<Links>>,
}

impl PermanentModule for DmabufCoherency {
    fn prepare() -> Result<Self> {
        // The parameter `dma_heap.mem_accounting` asks all heaps of the kernel for accounting.
        let account = parameters::accounting() || dma_heap::mem_accounting();
        let cleaner = Cleaner::new(c"dmabuf_coherency")
            .inspect_err(|err| pr_err!("there will be no uncached heaps: {:?}\n", err))
            .ok()
            .map(|cleaner| Arc::new(cleaner, GFP_KERNEL))
            .transpose()?;
        let pool = Pool::new(account, parameters::pool_percent(), cleaner)?;
        let catalogue = Catalogue::new(account, pool.has_write_combining())?;
        let mut heaps = KVec::new();

        for (entry, region) in catalogue.ours() {
            let heap = Heap::new(entry, region, &pool)?;

            heaps.push(KBox::pin_init(heap, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(Self {
            pool,
            heaps,
            links: KBox::pin_init(Links::new(catalogue)?, GFP_KERNEL)?,
        })
    }

    fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
        for heap in &self.heaps {
            let heap = heap.as_ref().get_ref();

            if let Some(dev) = registrar.add(heap.name(), heap) {
                heap.registered(dev);
                self.links.catalogue().registered(heap.name());
            }
        }
    }

    fn start(&'static self, forever: Forever) {
        for heap in &self.heaps {
            let heap = heap.as_ref().get_ref();

            if let Err(err) = heap.publish() {
                pr_err!("heap {} lacks files in sysfs: {:?}\n", heap.name(), err);
            }
        }
        if let Err(err) = self.pool.survive_hibernation(forever) {
            pr_err!(
                "uncached buffers may be wrong after hibernation: {:?}\n",
                err
            );
        }
        // Heaps work without the thread of the pool.
        if let Err(err) = self.pool.start(forever) {
            pr_err!("memory will not be kept for reuse: {:?}\n", err);
        }
        self.links.as_ref().get_ref().start(forever);
        exports::apply_links();
        if let Err(err) = requests::start(forever) {
            pr_err!("there will be no /dev/dmabuf_coherency: {:?}\n", err);
        }
    }
}
