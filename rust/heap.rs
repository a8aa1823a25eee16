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
    dmem,
    mm::BufferVma,
    module::Forever,
    page::{
        Caching,
        Pages, //
    },
    policy::{
        self,
        CpuMapping,
        Mode,
        Region, //
    },
    pool::Pool,
    sysfs::FileOps,
    trace,
    usage::{
        Counted,
        Usage, //
    },
    vmalloc::VMap, //
};
use kernel::{
    dma::DataDirection,
    fmt::Write,
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
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

/// How many refused devices are remembered, so that each is logged once.
const MAX_LOGGED: usize = 1024;

/// One of the module's heaps: a region and a mode.
#[pin_data]
pub(crate) struct Heap {
    kind: policy::Heap,
    memory: Memory,
    pool: Arc<Pool>,
    /// Names, hashed, of the devices whose refusal has been logged.
    #[pin]
    logged: Mutex<KVec<u64>>,
    /// How many attachments and mappings have been refused.
    refused: Atomic<usize>,
    /// What its live buffers use.
    usage: Usage,
}

/// Where memory comes from.
enum Memory {
    PageAllocator,
    Cma {
        area: Cma,
        /// What charges it to control groups; none if nothing does.
        dmem: Option<Arc<dmem::Region>>,
    },
}

/// What the heaps have in common.
pub(crate) struct Shared {
    pool: Arc<Pool>,
    /// The default contiguous memory area, if the kernel has it.
    cma: Option<Cma>,
    dmem: Option<Arc<dmem::Region>>,
}

impl Shared {
    /// Prepares it. Buffers are charged to control groups if `account` is set, or if the
    /// administrator wants that of all heaps. `pool_percent` of the memory may be kept for reuse.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(crate) fn new(account: bool, pool_percent: u8) -> Result<Self> {
        let account = account || mem_accounting();
        let cleaner = Cleaner::new(c"dmabuf_coherency")
            .inspect_err(|err| pr_err!("there will be no uncached heaps: {:?}\n", err))
            .ok()
            .map(|cleaner| Arc::new(cleaner, GFP_KERNEL))
            .transpose()?;
        let cma = Cma::default_area();
        let dmem = match cma {
            Some(_) if account => {
                dmem::Region::register(Cma::total_size(), c"cma/default_cma_region")?
            }
            _ => None,
        };

        Ok(Self {
            pool: Pool::new(account, pool_percent, cleaner)?,
            cma,
            dmem: dmem.map(|dmem| Arc::new(dmem, GFP_KERNEL)).transpose()?,
        })
    }

    /// Starts to keep memory for reuse. Heaps work without it, so failure is logged.
    pub(crate) fn start(&self, forever: Forever) {
        if let Err(err) = self.pool.start(forever) {
            pr_err!("memory will not be kept for reuse: {:?}\n", err);
        }
    }
}

/// A buffer of a [`Heap`].
pub(crate) struct Buffer {
    heap: &'static Heap,
    // Freed before they are no longer counted and charged.
    pages: Arc<Pages>,
    _counted: Counted,
    _charge: Option<dmem::Charge>,
}

impl Heap {
    /// Creates a heap of this kind, unless the kernel lacks what it needs.
    pub(crate) fn new(kind: policy::Heap, shared: &Shared) -> Option<impl PinInit<Self>> {
        if kind.mode == Mode::Uncached && !shared.pool.has_write_combining() {
            return None;
        }
        let memory = match kind.region {
            Region::System => Memory::PageAllocator,
            Region::DefaultCma => Memory::Cma {
                area: shared.cma?,
                dmem: shared.dmem.clone(),
            },
        };

        let pool = shared.pool.clone();

        Some(pin_init!(Self {
            kind,
            memory,
            pool,
            logged <- new_mutex!(KVec::new()),
            refused: Atomic::new(0),
            usage: Usage::new(),
        }))
    }

    /// How the CPU maps its buffers.
    fn caching(&self) -> Caching {
        match self.kind.cpu_mapping() {
            CpuMapping::WriteBack => Caching::WriteBack,
            CpuMapping::WriteCombining => Caching::WriteCombining,
        }
    }

    /// The controller that its buffers are charged to.
    fn controller(&self) -> &'static str {
        match self.memory {
            Memory::PageAllocator if self.pool.is_accounted() => "memory",
            Memory::Cma { dmem: Some(_), .. } => "dmem",
            Memory::PageAllocator | Memory::Cma { .. } => "none",
        }
    }

    /// How many bytes of the memory that it allocates from are kept for reuse.
    fn pool_size(&self) -> usize {
        match self.memory {
            Memory::PageAllocator => self.pool.size(self.caching()),
            Memory::Cma { .. } => 0,
        }
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

impl dma_heap::Heap for Heap {
    type Buffer = Buffer;

    fn allocate(&'static self, len: usize, fd_flags: u32) -> Result<ARef<DmaBuf<Buffer>>> {
        let counted = self.usage.count(len)?;
        let caching = self.caching();
        let (pages, charge) = match &self.memory {
            Memory::PageAllocator => (self.pool.allocate(len, caching)?, None),
            Memory::Cma { area, dmem } => {
                // CAST: To a type of the same size.
                let charge = dmem
                    .as_ref()
                    .map(|dmem| dmem.charge(len as u64))
                    .transpose()?;
                let block = area.alloc_zeroed(len >> PAGE_SHIFT)?;
                let mut pages = Pages::new(caching, None)?;

                pages.push(self.pool.prepare(block, caching)?, 1)?;
                (pages, charge)
            }
        };

        DmaBuf::export(
            self.kind.name,
            len,
            fd_flags,
            Ok(Buffer {
                heap: self,
                pages: pages.into(),
                _counted: counted,
                _charge: charge,
            }),
        )
    }

    fn registered(&'static self, dev: &HeapDevice) -> Result {
        FILES
            .iter()
            .try_for_each(|(name, ops)| dev.add_file(name, self, ops))
    }
}

/// What there is to see of a heap in sysfs.
static FILES: [(&CStr, FileOps<Heap>); 9] = [
    (
        c"dma_coherent",
        FileOps::read_only(|heap, f| write!(f, "{}", u8::from(heap.kind.is_dma_coherent()))),
    ),
    (
        c"cpu_mapping",
        FileOps::read_only(|heap, f| f.write_str(heap.kind.cpu_mapping().name())),
    ),
    (
        c"contiguous",
        FileOps::read_only(|heap, f| write!(f, "{}", u8::from(heap.kind.is_contiguous()))),
    ),
    (
        c"accounting",
        FileOps::read_only(|heap, f| f.write_str(heap.controller())),
    ),
    (
        c"refused",
        FileOps::read_only(|heap, f| write!(f, "{}", heap.refused.load(Relaxed))),
    ),
    (
        c"pool",
        FileOps::read_only(|heap, f| write!(f, "{}", heap.pool_size())),
    ),
    (
        c"buffers",
        FileOps::read_only(|heap, f| write!(f, "{}", heap.usage.buffers())),
    ),
    (
        c"bytes",
        FileOps::read_only(|heap, f| write!(f, "{}", heap.usage.bytes())),
    ),
    (
        c"limit",
        FileOps {
            show: |heap, f| write!(f, "{}", heap.usage.limit()),
            store: Some(|heap, text| {
                heap.usage.set_limit(text.parse().map_err(|_| EINVAL)?);
                Ok(())
            }),
        },
    ),
];

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
        coherency::may_map(mode, dev).map_err(|refusal| buf.heap.refuse(dev, refusal))?;

        // A bounce buffer stands between CPU and device just as caches do. Where nothing does, the
        // DMA API need not look at each segment again to unmap it.
        let (attrs, maintained) = match mode {
            Mode::Strict => (Attrs::REQUIRE_COHERENT, false),
            _ if dev.may_bounce() => (Attrs::NONE, true),
            _ if dev.is_dma_coherent() => (Attrs::REQUIRE_COHERENT, false),
            Mode::Maintained => (Attrs::NONE, true),
            Mode::Uncached => (Attrs::SKIP_CPU_SYNC, false),
        };
        request.map(&buf.pages, attrs, maintained)
    }

    /// Takes in what devices wrote, also before the CPU only writes: what it leaves alone, be it in
    /// a cache line or in a bounce buffer, must not go back to the device as it was before.
    #[inline]
    fn begin_cpu_access(buf: &DmaBuf<Self>, dir: DataDirection) -> Result {
        buf.sync_for_cpu(dir)
    }

    #[inline]
    fn end_cpu_access(buf: &DmaBuf<Self>, dir: DataDirection) -> Result {
        if dir != DataDirection::FromDevice {
            buf.sync_for_device();
        }
        Ok(())
    }

    fn mmap<'a>(buf: &'a DmaBuf<Self>, vma: BufferVma<'a>) -> Result {
        vma.map_pages(&buf.pages)
    }

    fn vmap(buf: Reserved<'_, Self>) -> Result<VMap> {
        VMap::new(buf.pages.clone())
    }
}
