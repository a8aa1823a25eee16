// SPDX-License-Identifier: GPL-2.0

//! The module's heaps: a region of memory and a way to keep it coherent, in any combination.

use crate::{
    cache::Cleaner,
    cma::Cma,
    coherency::{
        self,
        Refusal, //
    },
    dma_buf::{
        BufferVma,
        DmaBuf,
        Exporter,
        MapRequest,
        Mapping,
        Ops,
        Reserved, //
    },
    dma_heap::{
        self,
        mem_accounting,
        HeapDevice, //
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
    policy::{
        self,
        Mode,
        Region, //
    },
    signal::fatal_signal_pending,
    trace,
    vmalloc::VMap, //
};
use kernel::{
    dma::DataDirection,
    fmt::Write,
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    sizes::SZ_4M,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// The largest block that is asked for: the largest that the page allocator has on x86_64, and
/// enough for an image of 1920 by 1080 pixels in YUV 4:2:2.
const MAX_BLOCK_PAGES: usize = SZ_4M >> PAGE_SHIFT;

/// How many refused devices are remembered, so that each is logged once.
const MAX_LOGGED: usize = 1024;

/// One of the module's heaps: a region and a mode.
#[pin_data]
pub(crate) struct Heap {
    kind: policy::Heap,
    memory: Memory,
    /// What cleans the caches of uncached memory before anybody sees it; none if it is cached.
    cleaner: Option<Arc<Cleaner>>,
    /// Names, hashed, of the devices whose refusal has been logged.
    #[pin]
    logged: Mutex<KVec<u64>>,
    /// How many attachments and mappings have been refused.
    refused: Atomic<usize>,
}

/// Where memory comes from.
enum Memory {
    PageAllocator,
    Cma(Cma),
}

/// A buffer of a [`Heap`].
pub(crate) struct Buffer {
    heap: &'static Heap,
    pages: Arc<Pages>,
}

impl Heap {
    /// Creates a heap of this kind, unless the kernel does not have the region.
    /// Uncached heaps need a `cleaner`.
    pub(crate) fn new(
        kind: policy::Heap,
        cleaner: Option<&Arc<Cleaner>>,
    ) -> Option<impl PinInit<Self>> {
        let cleaner = match kind.mode {
            Mode::Uncached => Some(cleaner?.clone()),
            Mode::Strict | Mode::Maintained => None,
        };
        let memory = match kind.region {
            Region::System => Memory::PageAllocator,
            Region::DefaultCma => Memory::Cma(Cma::default_area()?),
        };

        Some(pin_init!(Self {
            kind,
            memory,
            cleaner,
            logged <- new_mutex!(KVec::new()),
            refused: Atomic::new(0),
        }))
    }

    /// What kind of heap it is.
    pub(crate) fn kind(&self) -> &policy::Heap {
        &self.kind
    }

    /// Decides whether `dev` may attach, and says so.
    fn accepts(&self, dev: DmaDevice<'_>) -> Result {
        coherency::accepts(self.kind.mode, dev).map_err(|refusal| self.refuse(dev, refusal))?;
        trace::attach(self.kind.name, dev, Ok(()));
        Ok(())
    }

    /// Makes a refusal known: each is counted and traced, the first of a device is logged.
    fn refuse(&self, dev: DmaDevice<'_>, refusal: Refusal) -> Error {
        self.refused.add(1, Relaxed);
        if self.is_first_refusal(&dev) {
            dev_info!(
                *dev,
                "cannot use buffers of DMA heap {}: {}\n",
                self.kind.name,
                refusal
            );
        }

        let err = Error::from(refusal);
        trace::attach(self.kind.name, dev, Err(err));
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

impl dma_heap::Heap for Heap {
    type Buffer = Buffer;

    fn allocate(&'static self, len: usize, fd_flags: u32) -> Result<ARef<DmaBuf<Buffer>>> {
        let mut pages = match self.memory {
            Memory::PageAllocator => allocate(len, mem_accounting())?,
            Memory::Cma(cma) => {
                let mut blocks = KVVec::with_capacity(1, GFP_KERNEL)?;
                blocks.push(cma.alloc_zeroed(len >> PAGE_SHIFT)?, GFP_KERNEL)?;
                Pages::new(blocks)
            }
        };
        if self.cleaner.is_some() {
            pages = pages.into_write_combining()?;
        }
        let pages = Arc::new(pages, GFP_KERNEL)?;
        if let Some(cleaner) = &self.cleaner {
            cleaner.clean(&pages)?;
        }

        DmaBuf::export(
            self.kind.name,
            len,
            fd_flags,
            Ok(Buffer { heap: self, pages }),
        )
    }

    fn registered(&'static self, dev: &HeapDevice) -> Result {
        dev.add_file(c"dma_coherent", self, |heap, f| {
            write!(f, "{}", u8::from(heap.kind.is_dma_coherent()))
        })?;
        dev.add_file(c"cpu_mapping", self, |heap, f| {
            f.write_str(heap.kind.cpu_mapping().name())
        })?;
        dev.add_file(c"contiguous", self, |heap, f| {
            write!(f, "{}", u8::from(heap.kind.is_contiguous()))
        })?;
        dev.add_file(c"refused", self, |heap, f| {
            write!(f, "{}", heap.refused.load(Relaxed))
        })
    }
}

impl Buffer {
    /// What kind of heap it comes from.
    pub(crate) fn heap(&self) -> &'static policy::Heap {
        self.heap.kind()
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

    fn map<'a>(request: MapRequest<'a, Self>) -> Result<Mapping<'a>> {
        let buf = request.buf();
        let dev = request.attachment().device();
        let mode = buf.heap.kind.mode;

        // Ask again: the driver may have changed its DMA mask since it attached, and the DMA API
        // warns of a device that would bounce against `REQUIRE_COHERENT`.
        coherency::accepts(mode, dev).map_err(|refusal| buf.heap.refuse(dev, refusal))?;

        // A bounce buffer stands between CPU and device just as caches do, in any mode.
        let bounces = dev.may_bounce();
        let (attrs, maintained) = match mode {
            Mode::Strict => (Attrs::REQUIRE_COHERENT, false),
            Mode::Maintained => (Attrs::NONE, bounces || !dev.is_dma_coherent()),
            Mode::Uncached if bounces => (Attrs::NONE, true),
            Mode::Uncached => (Attrs::SKIP_CPU_SYNC, false),
        };
        request.map(&buf.pages, attrs, maintained)
    }

    /// Takes in what devices wrote, also before the CPU only writes: what it leaves alone, be it in
    /// a cache line or in a bounce buffer, must not go back to the device as it was before.
    fn begin_cpu_access(buf: &DmaBuf<Self>, dir: DataDirection) -> Result {
        buf.sync_for_cpu(dir)
    }

    fn end_cpu_access(buf: &DmaBuf<Self>, dir: DataDirection) -> Result {
        if dir != DataDirection::FromDevice {
            buf.sync_for_device();
        }
        Ok(())
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
