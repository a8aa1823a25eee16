// SPDX-License-Identifier: GPL-2.0

//! The heap `system-coherent`: cached memory for devices that snoop.

use crate::{
    coherency::{
        self,
        Refusal, //
    },
    dma_buf::{
        BufferVma,
        DmaBuf,
        Exporter,
        MapRequest,
        Ops,
        Reserved, //
    },
    dma_heap::{
        mem_accounting,
        Heap, //
    },
    dma_mapping::{
        Attrs,
        DmaDevice, //
    },
    page::{
        self,
        Effort,
        PageBlock,
        Pages, //
    },
    scatterlist::MappedTable,
    signal::fatal_signal_pending,
    trace,
    vmalloc::VMap, //
};
use kernel::{
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    sizes::SZ_4M,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};

/// The largest block that is asked for: the largest that the page allocator has on x86_64, and
/// enough for an image of 1920 by 1080 pixels in YUV 4:2:2.
const MAX_BLOCK_PAGES: usize = SZ_4M >> PAGE_SHIFT;

/// How many refused devices are remembered, so that each is logged once.
const MAX_LOGGED: usize = 1024;

/// A heap of memory from the page allocator.
#[pin_data]
pub(crate) struct SystemHeap {
    name: &'static CStr,
    /// Names, hashed, of the devices whose refusal has been logged.
    #[pin]
    logged: Mutex<KVec<u64>>,
}

/// A buffer of a [`SystemHeap`].
pub(crate) struct Buffer {
    heap: &'static SystemHeap,
    pages: Arc<Pages>,
}

impl SystemHeap {
    /// Creates the heap, to be registered under `name`.
    pub(crate) fn new(name: &'static CStr) -> impl PinInit<Self> {
        pin_init!(Self {
            name,
            logged <- new_mutex!(KVec::new()),
        })
    }

    /// The name of the heap.
    pub(crate) fn name(&self) -> &'static CStr {
        self.name
    }

    /// Decides whether `dev` may attach, and says so.
    fn accepts(&self, dev: DmaDevice<'_>) -> Result {
        coherency::accepts(dev).map_err(|refusal| self.refuse(dev, refusal))?;
        trace::attach(self.name, dev, Ok(()));
        Ok(())
    }

    /// Makes a refusal known: a trace event for each, and a line in the log for the first of a
    /// device.
    fn refuse(&self, dev: DmaDevice<'_>, refusal: Refusal) -> Error {
        if self.is_first_refusal(&dev) {
            dev_info!(
                *dev,
                "cannot use buffers of DMA heap {}: {}\n",
                self.name,
                refusal
            );
        }

        let err = Error::from(refusal);
        trace::attach(self.name, dev, Err(err));
        err
    }

    /// Returns whether no device of this name has been refused before. Says no, rather than forget
    /// or fail, when there are too many of them.
    fn is_first_refusal(&self, dev: &DmaDevice<'_>) -> bool {
        // FNV-1a. A collision costs a line in the log.
        let hash = dev
            .name()
            .to_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });

        let mut logged = self.logged.lock();
        logged.len() < MAX_LOGGED
            && !logged.contains(&hash)
            && logged.push(hash, GFP_KERNEL | __GFP_NOWARN).is_ok()
    }
}

/// Allocates `len` bytes in as few and as large blocks as memory allows.
///
/// # Errors
///
/// - [`ENOMEM`] if there is not enough memory, at once if that is plain beforehand.
/// - [`EINTR`] if the task is about to be killed.
fn allocate(len: usize, account: bool) -> Result<Pages> {
    if len > page::available() {
        return Err(ENOMEM);
    }

    let mut blocks = KVVec::new();
    let mut left = len >> PAGE_SHIFT;
    let mut limit = MAX_BLOCK_PAGES;

    while left > 0 {
        if fatal_signal_pending() {
            return Err(EINTR);
        }

        let nr_pages = left.min(limit);
        let effort = if nr_pages == 1 {
            Effort::Reclaim
        } else {
            Effort::AtHand
        };
        match PageBlock::alloc_zeroed(nr_pages, effort, account) {
            Ok(block) => {
                blocks.push(block, GFP_KERNEL | __GFP_NOWARN)?;
                left -= nr_pages;
            }
            Err(err) if nr_pages == 1 => return Err(err),
            // The next smaller power of two.
            Err(_) => limit = 1 << (nr_pages - 1).ilog2(),
        }
    }

    Ok(Pages::new(blocks))
}

impl Heap for SystemHeap {
    type Buffer = Buffer;

    fn allocate(&'static self, len: usize, fd_flags: u32) -> Result<ARef<DmaBuf<Buffer>>> {
        let pages = Arc::new(allocate(len, mem_accounting())?, GFP_KERNEL)?;

        DmaBuf::export(self.name, len, fd_flags, Ok(Buffer { heap: self, pages }))
    }
}

impl Buffer {
    /// Whether only devices that snoop may use the buffer.
    pub(crate) fn is_dma_coherent(&self) -> bool {
        true
    }
}

#[vtable]
impl Exporter for Buffer {
    type Attachment = ();

    fn ops() -> &'static Ops<Self> {
        static OPS: Ops<Buffer> = Ops::new();
        &OPS
    }

    fn attach(buf: &DmaBuf<Self>, dev: DmaDevice<'_>) -> impl PinInit<(), Error> {
        buf.heap.accepts(dev)
    }

    fn map<'a>(request: MapRequest<'a, Self>) -> Result<MappedTable<'a>> {
        let buf = request.buf();

        // Ask again: the driver may have changed its DMA mask since it attached, and the DMA API
        // warns of a device that would bounce against `REQUIRE_COHERENT`.
        let dev = request.attachment().device();
        coherency::accepts(dev).map_err(|refusal| buf.heap.refuse(dev, refusal))?;
        request.map(&buf.pages, Attrs::REQUIRE_COHERENT)
    }

    fn mmap<'a>(buf: &'a DmaBuf<Self>, vma: BufferVma<'a>) -> Result {
        // The pages of a private mapping would be copies, which no device sees.
        if !vma.is_shared() {
            return Err(EINVAL);
        }

        vma.map_pages(&buf.pages)
    }

    fn vmap(buf: Reserved<'_, Self>) -> Result<VMap> {
        VMap::new(buf.pages.clone())
    }
}
