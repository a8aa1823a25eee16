// SPDX-License-Identifier: GPL-2.0

//! An exporter of single pages that is not a heap. Each `ioctl(fd, _IO(0xf6, 0))` on
//! `/dev/dmabuf_page` returns a file descriptor of a new dma-buf.
//!
//! Brackets around CPU access maintain the caches. So any device that does DMA may attach.

#[path = "../../../../rust"]
#[allow(
    dead_code,
    unused_imports,
    reason = "of the abstractions, only what the exporter needs is used"
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
    dma_mapping::{
        Attrs,
        DmaDevice, //
    },
    mm::{
        page::{
            Caching,
            Effort,
            PageBlock,
            Pages,
            Zone, //
        },
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
    dma::DataDirection,
    fs::{
        file::flags::{
            O_CLOEXEC,
            O_RDWR, //
        },
        File, //
    },
    ioctl::_IO,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        SetOnce, //
    }, //
};

permanent_module! {
    type: PageExporter,
    name: "dmabuf_page",
    authors: ["dmabuf-coherency maintainers"],
    description: "An exporter of single pages",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

const EXPORT: u32 = _IO(0xf6, 0);

/// Proof that the module stays. Nothing can be exported before it is set.
static FOREVER: SetOnce<Forever> = SetOnce::new();

struct PageExporter {
    _node: Pin<KBox<MiscDeviceRegistration<Node>>>,
}

impl PermanentModule for PageExporter {
    fn prepare() -> Result<Self> {
        let options = MiscDeviceOptions {
            name: c"dmabuf_page",
        };

        Ok(Self {
            _node: KBox::pin_init(MiscDeviceRegistration::register(options), GFP_KERNEL)?,
        })
    }

    fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
        registrar.stay();
    }

    fn start(&'static self, forever: Forever) {
        FOREVER.populate(forever);
    }
}

/// An open file of the device node. It has no state.
struct Node;

#[vtable]
impl MiscDevice for Node {
    type Ptr = ();

    fn open(_: &File, _: &MiscDeviceRegistration<Self>) -> Result {
        Ok(())
    }

    fn ioctl(_node: (), _: &File, request: u32, _: usize) -> Result<isize> {
        if request != EXPORT {
            return Err(ENOTTY);
        }
        let forever = FOREVER.copy().ok_or(ENODEV)?;
        let mut pages = Pages::new(Caching::WriteBack, None)?;
        pages.push(
            PageBlock::alloc_zeroed(1, Zone::All, Effort::Reclaim, true)?,
            1,
        )?;
        let pages = pages.into();

        let buf = DmaBuf::export(c"page", PAGE_SIZE, O_RDWR, Ok(Page { pages }), forever)?;
        // CAST: A file descriptor is a small number.
        DmaBuf::into_fd(buf, O_CLOEXEC).map(|fd| fd as isize)
    }
}

struct Page {
    pages: Arc<Pages>,
}

#[vtable]
impl Exporter for Page {
    fn ops() -> &'static Ops<Self> {
        static OPS: Ops<Page> = Ops::new();
        &OPS
    }

    fn attach(_: &DmaBuf<Self>, dev: DmaDevice<'_>) -> Result {
        if dev.has_dma_mask() {
            Ok(())
        } else {
            Err(eopnotsupp())
        }
    }

    fn map(buf: Reserved<'_, Self>, _: DmaDevice<'_>) -> Result<Mapping> {
        Ok(Mapping {
            pages: buf.pages.clone(),
            attrs: Attrs::NONE,
            maintained: true,
        })
    }

    fn begin_cpu_access(buf: &DmaBuf<Self>, dir: DataDirection) -> Result {
        buf.sync_for_cpu(dir, 0..PAGE_SIZE)
    }

    fn end_cpu_access(buf: &DmaBuf<Self>, _: DataDirection) -> Result {
        buf.sync_for_device(0..PAGE_SIZE);
        Ok(())
    }

    fn mmap<'a>(buf: &'a DmaBuf<Self>, vma: BufferVma<'a>) -> Result<MappedVma<'a>> {
        vma.map_pages(&buf.pages)
    }

    fn vmap(buf: Reserved<'_, Self>) -> Result<VMap> {
        VMap::new(buf.pages.clone())
    }
}
