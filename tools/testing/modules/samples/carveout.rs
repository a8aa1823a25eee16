// SPDX-License-Identifier: GPL-2.0

//! A DMA heap over a carve-out: memory that is reserved when the kernel boots.
//!
//! The kernel parameter `reserve_mem=8M:2M:dmabuf_carveout` reserves the memory. The buffers are
//! cached, and nobody maintains the caches. So the heap accepts only devices that snoop.

#[path = "../../../../rust"]
#[allow(
    dead_code,
    unused_imports,
    reason = "of the abstractions, only what the heap needs is used"
)]
mod ours {
    pub(crate) mod bindings;
    pub(crate) mod kernel;
}
use ours::{
    bindings,
    kernel, //
};

use crate::kernel::{
    compat::eopnotsupp,
    dma_buf::{
        DmaBuf,
        Exporter,
        Mapping,
        Ops,
        Reserved, //
    },
    dma_heap::Heap,
    dma_mapping::{
        attrs::DMA_ATTR_REQUIRE_COHERENT,
        DmaDevice, //
    },
    mm::{
        page::Pages,
        reserve_mem::ReservedMem,
        vmalloc::VMap,
        BufferVma,
        MappedVma, //
    },
    module::{
        permanent_module,
        Forever,
        PermanentModule,
        Registrar, //
    }, //
};
use ::kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

permanent_module! {
    type: Carveout,
    name: "dmabuf_carveout",
    authors: ["dmabuf-coherency maintainers"],
    description: "A DMA heap over reserved memory",
    license: "GPL",
    imports_ns: ["DMA_BUF", "DMA_BUF_HEAP"],
}

const NAME: &CStr = c"carveout";

/// The heap.
struct Carveout(Arc<ReservedMem>);

impl PermanentModule for Carveout {
    fn prepare() -> Result<Self> {
        ReservedMem::take().map(Self)
    }

    fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
        registrar.add(NAME, self);
    }

    fn start(&'static self, _: Forever) {}
}

impl Heap for Carveout {
    type Buffer = Buffer;

    fn allocate(
        &'static self,
        len: usize,
        fd_flags: u32,
        forever: Forever,
    ) -> Result<ARef<DmaBuf<Buffer>>> {
        let pages = self.0.alloc_zeroed(len >> PAGE_SHIFT)?.into();

        DmaBuf::export(NAME, len, fd_flags, Ok(Buffer { pages }), forever)
    }
}

struct Buffer {
    pages: Arc<Pages>,
}

#[vtable]
impl Exporter for Buffer {
    fn ops() -> &'static Ops<Self> {
        static OPS: Ops<Buffer> = Ops::new();
        &OPS
    }

    fn attach(_: &DmaBuf<Self>, dev: DmaDevice<'_>) -> Result {
        if dev.is_dma_coherent() {
            Ok(())
        } else {
            Err(eopnotsupp())
        }
    }

    fn map(buf: Reserved<'_, Self>, _: DmaDevice<'_>) -> Result<Mapping> {
        Ok(Mapping {
            pages: buf.pages.clone(),
            attrs: DMA_ATTR_REQUIRE_COHERENT,
            maintained: false,
        })
    }

    fn mmap<'a>(buf: &'a DmaBuf<Self>, vma: BufferVma<'a>) -> Result<MappedVma<'a>> {
        vma.map_pages(&buf.pages)
    }

    fn vmap(buf: Reserved<'_, Self>) -> Result<VMap> {
        VMap::new(buf.pages.clone())
    }
}
