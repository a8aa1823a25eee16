// SPDX-License-Identifier: GPL-2.0

//! The module's heaps. Each combines a region of memory with a mode: a way to keep the CPU's and
//! the devices' view of a buffer coherent.

use crate::{
    coherency,
    kernel::{
        dma_buf::{
            DmaBuf,
            Exporter,
            Mapping,
            Ops,
            Reserved, //
        },
        dma_heap::{
            self,
            device::HeapDevice, //
        },
        dma_mapping::{
            attrs::{
                DMA_ATTR_REQUIRE_COHERENT,
                DMA_ATTR_SKIP_CPU_SYNC, //
            },
            Attrs,
            DmaDevice, //
        },
        dmem,
        mm::{
            page::{
                self,
                Caching,
                Kind,
                Pages, //
            },
            vmalloc::VMap,
            BufferVma,
            MappedVma, //
        },
        module::Forever,
        sysfs::FileOps, //
    },
    policy::{
        self,
        CpuMapping,
        Mode,
        Refusal, //
    },
    pool::Pool,
    region::{
        Entry,
        Region,
        Source, //
    },
    trace,
    usage::{
        Counted,
        Usage, //
    }, //
};
use core::ops::Range;
use kernel::{
    dma::DataDirection,
    fmt::Write,
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    str::CString,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SetOnce, //
    }, //
};

/// How many refused devices a heap remembers, to log each of them once.
const MAX_LOGGED: usize = 1024;

/// One of the module's heaps: a region and a mode.
#[pin_data]
pub(crate) struct Heap {
    kind: policy::Heap,
    name: CString,
    /// The size of the largest possible buffer, in bytes. `None` if only the size of the machine's
    /// memory limits it.
    capacity: Option<u64>,
    source: Source,
    pool: Arc<Pool>,
    /// Hashes of the names of the devices whose refusal has been logged.
    #[pin]
    logged: Mutex<KVec<u64>>,
    /// The number of refused attachments and mappings.
    refused: Atomic<usize>,
    /// The number and size of its live buffers.
    usage: Usage,
    /// The device of the heap, once it has been registered.
    device: SetOnce<HeapDevice>,
}

/// A buffer of a [`Heap`].
pub(crate) struct Buffer {
    heap: &'static Heap,
    // This must be dropped before the fields below: memory stays counted and charged until it has
    // been freed.
    pages: Arc<Pages>,
    _counted: Counted,
    _charge: Option<dmem::Charge>,
}

impl Heap {
    /// Creates a heap. Unless its memory is a contiguous area, it allocates from `pool`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is not enough memory.
    pub(crate) fn new(
        entry: &Entry,
        region: &Region,
        pool: &Arc<Pool>,
    ) -> Result<impl PinInit<Self>> {
        let kind = entry.kind;
        let name = CString::try_from_fmt(fmt!("{}", &*entry.name))?;
        let capacity = region.capacity();
        let source = region.source().clone();
        let pool = pool.clone();

        Ok(pin_init!(Self {
            kind,
            name,
            capacity,
            source,
            pool,
            logged <- new_mutex!(KVec::new()),
            refused: Atomic::new(0),
            usage: Usage::new(),
            device: SetOnce::new(),
        }))
    }

    /// Returns the name of the heap, as under `/dev/dma_heap`.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// Stores the device that the heap got when it was registered.
    pub(crate) fn registered(&self, dev: HeapDevice) {
        self.device.populate(dev);
    }

    /// Adds the heap's files to sysfs, if it has been registered. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`HeapDevice::add_file`].
    pub(crate) fn publish(&'static self) -> Result {
        let Some(dev) = self.device.as_ref() else {
            return Ok(());
        };

        for (name, ops) in &FILES {
            dev.add_file(name, self, ops)?;
        }
        // The uevent for the new heap was sent before the files existed. So send another one.
        dev.changed();
        Ok(())
    }

    /// Returns how the CPU maps the heap's buffers.
    fn caching(&self) -> Caching {
        match self.kind.cpu_mapping() {
            CpuMapping::WriteBack => Caching::WriteBack,
            CpuMapping::WriteCombining => Caching::WriteCombining,
        }
    }

    /// Returns the size of the largest possible buffer, in bytes.
    fn capacity(&self) -> u64 {
        // CAST: To a type of the same size.
        self.capacity
            .unwrap_or_else(|| (page::total() << PAGE_SHIFT) as u64)
    }

    /// Returns the name of the cgroup controller that charges the heap's buffers.
    fn controller(&self) -> &'static str {
        match self.source {
            Source::Pages(_) if self.pool.is_accounted() => "memory",
            Source::Area { dmem: Some(_), .. } => "dmem",
            Source::Pages(_) | Source::Area { .. } => "none",
        }
    }

    /// Returns how many bytes the pool keeps that this heap can allocate.
    fn pool_size(&self) -> usize {
        match self.source {
            Source::Pages(zone) => self.pool.size(Kind {
                zone,
                caching: self.caching(),
            }),
            Source::Area { .. } => 0,
        }
    }

    /// Returns the region and the mode of the heap.
    pub(crate) fn kind(&self) -> &policy::Heap {
        &self.kind
    }

    /// Decides whether `dev` may attach to a buffer that consists of `pages`, and traces the
    /// decision.
    fn accepts(&self, dev: DmaDevice<'_>, pages: &Pages) -> Result {
        coherency::accepts(self.kind.mode, dev, pages)
            .map_err(|refusal| self.refuse(dev, refusal))?;
        trace::attach(&self.name, dev, Ok(()));
        Ok(())
    }

    /// Counts and traces a refusal, and logs the first refusal of each device. Returns the error
    /// for the importer.
    fn refuse(&self, dev: DmaDevice<'_>, refusal: Refusal) -> Error {
        self.refused.add(1, Relaxed);
        if self.is_first_refusal(&dev) {
            dev_info!(
                *dev,
                "cannot use buffers of DMA heap {}: {}\n",
                &*self.name,
                refusal.reason()
            );
        }

        trace::attach(&self.name, dev, Err(coherency::refused()));
        coherency::refused()
    }

    /// Returns whether this is the first refusal of a device of this name, and remembers the name.
    ///
    /// Also returns false if it cannot remember the name: there are [`MAX_LOGGED`] names already,
    /// or there is not enough memory.
    fn is_first_refusal(&self, dev: &DmaDevice<'_>) -> bool {
        // The hash is FNV-1a. If two names have the same hash, only the first one is logged.
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

    fn allocate(
        &'static self,
        len: usize,
        fd_flags: u32,
        forever: Forever,
    ) -> Result<ARef<DmaBuf<Buffer>>> {
        // CAST: To a type of the same size.
        if len as u64 > self.capacity() {
            return Err(ENOMEM);
        }
        let counted = self.usage.count(len)?;
        let caching = self.caching();
        let (pages, charge) = match &self.source {
            Source::Pages(zone) => {
                let zone = *zone;
                (self.pool.allocate(len, Kind { zone, caching })?, None)
            }
            Source::Area { area, dmem } => {
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
            &self.name,
            len,
            fd_flags,
            Ok(Buffer {
                heap: self,
                pages: pages.into(),
                _counted: counted,
                _charge: charge,
            }),
            forever,
        )
    }
}

/// The sysfs files of a heap.
static FILES: [(&CStr, FileOps<Heap>); 10] = [
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
        FileOps::read_only(|heap, f| write!(f, "{}", u8::from(heap.kind.region.is_contiguous()))),
    ),
    (
        c"capacity",
        FileOps::read_only(|heap, f| write!(f, "{}", heap.capacity())),
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
    /// Returns the heap that the buffer comes from.
    pub(crate) fn heap(&self) -> &'static Heap {
        self.heap
    }

    /// Begins a CPU access to `part` of the buffer, in bytes: makes visible to the CPU what devices
    /// have written there. May sleep.
    ///
    /// This is necessary even if the CPU only writes. The CPU may write to a part of a cache line
    /// or of a bounce buffer. When the line or the bounce buffer is written back, all of it goes to
    /// memory. So the rest of it must hold what devices have written.
    ///
    /// # Errors
    ///
    /// Those of [`DmaBuf::sync_for_cpu`].
    #[inline]
    pub(crate) fn begin_access(
        buf: &DmaBuf<Self>,
        dir: DataDirection,
        part: Range<usize>,
    ) -> Result {
        buf.sync_for_cpu(dir, part)
    }

    /// Ends a CPU access to `part` of the buffer, in bytes: makes visible to devices what the CPU
    /// has written there. May sleep.
    #[inline]
    pub(crate) fn end_access(buf: &DmaBuf<Self>, dir: DataDirection, part: Range<usize>) {
        if dir != DataDirection::FromDevice {
            buf.sync_for_device(part);
        }
    }
}

#[vtable]
impl Exporter for Buffer {
    fn ops() -> &'static Ops<Self> {
        #[link_section = ".data..ro_after_init"]
        static OPS: Ops<Buffer> = Ops::new();
        &OPS
    }

    fn attach(buf: &DmaBuf<Self>, dev: DmaDevice<'_>) -> Result {
        buf.heap.accepts(dev, &buf.pages)
    }

    fn map(buf: Reserved<'_, Self>, dev: DmaDevice<'_>) -> Result<Mapping> {
        let mode = buf.heap.kind.mode;

        // Check again, because the driver may have changed its DMA mask since it attached. The DMA
        // API warns if a mapping with `DMA_ATTR_REQUIRE_COHERENT` would bounce.
        coherency::may_map(mode, dev, &buf.pages)
            .map_err(|refusal| buf.heap.refuse(dev, refusal))?;

        // Bounce buffers need maintenance just as caches do. If a mapping involves neither,
        // `DMA_ATTR_REQUIRE_COHERENT` tells the DMA API that it need not check each segment again
        // at unmap.
        let (attrs, maintained) = match mode {
            Mode::Strict => (DMA_ATTR_REQUIRE_COHERENT, false),
            _ if !dev.reaches_pages(&buf.pages) => (Attrs::NONE, true),
            // The device itself needs no maintenance. But the buffer must know that a device that
            // snoops may write: the data may be in the caches only, and an invalidation for
            // another device must not discard it.
            Mode::Maintained if dev.is_dma_coherent() => (DMA_ATTR_REQUIRE_COHERENT, true),
            Mode::Uncached if dev.is_dma_coherent() => (DMA_ATTR_REQUIRE_COHERENT, false),
            Mode::Maintained => (Attrs::NONE, true),
            Mode::Uncached => (DMA_ATTR_SKIP_CPU_SYNC, false),
        };
        Ok(Mapping {
            pages: buf.pages.clone(),
            attrs,
            maintained,
        })
    }

    #[inline]
    fn begin_cpu_access(buf: &DmaBuf<Self>, dir: DataDirection) -> Result {
        Self::begin_access(buf, dir, 0..buf.size())
    }

    #[inline]
    fn end_cpu_access(buf: &DmaBuf<Self>, dir: DataDirection) -> Result {
        Self::end_access(buf, dir, 0..buf.size());
        Ok(())
    }

    fn mmap<'a>(buf: &'a DmaBuf<Self>, vma: BufferVma<'a>) -> Result<MappedVma<'a>> {
        vma.map_pages(&buf.pages)
    }

    fn vmap(buf: Reserved<'_, Self>) -> Result<VMap> {
        VMap::new(buf.pages.clone())
    }
}
