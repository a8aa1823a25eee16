// SPDX-License-Identifier: GPL-2.0

// What the compiler cannot forbid gets an error, and the kernel has nothing to report.

use crate::kernel::{
    device::{
        per_device::{
            Data,
            PerDevice, //
        },
        HasDriver, //
    },
    dma_buf::{
        DmaBuf,
        Exporter,
        Mapping,
        Ops,
        Reserved, //
    },
    dma_heap::{
        self,
        device::{
            exists,
            HeapDevice, //
        }, //
    },
    dma_mapping::{
        Attrs,
        DmaDevice, //
    },
    dmem,
    mm::{
        cache::Cleaner,
        page::{
            Caching,
            Effort,
            PageBlock,
            Pages,
            Zone, //
        },
        reserve_mem::ReservedMem,
        shrinker::{
            Reclaim,
            Shrinker, //
        }, //
    },
    module::{
        Forever,
        PermanentModule,
        Registrar, //
    },
    sysfs::{
        Directory,
        FileOps,
        Link,
        TextFile, //
    }, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    faux,
    fmt::Write,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SetOnce, //
    }, //
};

/// Files on the heap that live for ever. Somebody has to know of them, or kmemleak takes them for lost.
static TWICE: SetOnce<&[TextFile; 2]> = SetOnce::new();

/// Names that the core of heaps would take for something else, or finds by another.
const BAD_NAMES: [&CStr; 7] = [c"%s%s%s%s", c"100%", c"of/two", c"", c".", c"..", LONG_NAME];

/// One byte longer than the name of a file can be.
const LONG_NAME: &CStr = {
    const BYTES: [u8; 257] = {
        let mut bytes = [b'x'; 257];
        bytes[256] = 0;
        bytes
    };
    match CStr::from_bytes_with_nul(&BYTES) {
        Ok(name) => name,
        Err(_) => c"",
    }
};

/// One that it takes, so that the selftest knows the heap: it takes any device.
const NAME: &CStr = c"system-noncoherent";

static FILES: [TextFile; 1] = [TextFile::new(c"text")];

static HEAP_FILES: [(&CStr, FileOps<Heap>); 3] = [
    (
        c"refused",
        FileOps::read_only(|heap, f| write!(f, "{}", heap.maps.load(Relaxed))),
    ),
    // A new line follows, and is the last byte that there is room for.
    (
        c"full",
        FileOps::read_only(|_, f| (0..PAGE_SIZE - 2).try_for_each(|_| f.write_str("x"))),
    ),
    (
        c"overfull",
        FileOps::read_only(|_, f| (0..PAGE_SIZE - 1).try_for_each(|_| f.write_str("x"))),
    ),
];

struct Heap {
    device: SetOnce<HeapDevice>,
    /// How often an importer has asked for a mapping.
    maps: Atomic<usize>,
}

struct Buffer {
    heap: &'static Heap,
    pages: Arc<Pages>,
}

impl Heap {
    const fn new() -> Self {
        Self {
            device: SetOnce::new(),
            maps: Atomic::new(0),
        }
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
        let mut pages = Pages::new(Caching::WriteBack, None)?;
        let nr_pages = len >> PAGE_SHIFT;

        pages.push(
            PageBlock::alloc_zeroed(nr_pages, Zone::All, Effort::Reclaim, false)?,
            1,
        )?;
        let buffer = Buffer {
            heap: self,
            pages: pages.into(),
        };
        DmaBuf::export(NAME, len, fd_flags, Ok(buffer), forever)
    }
}

#[vtable]
impl Exporter for Buffer {
    fn ops() -> &'static Ops<Self> {
        static OPS: Ops<Buffer> = Ops::new();
        &OPS
    }

    fn attach(_: &DmaBuf<Self>, _: DmaDevice<'_>) -> Result {
        Ok(())
    }

    /// Maps for whatever device, and is its own bracket meanwhile.
    fn map(buf: Reserved<'_, Self>, _: DmaDevice<'_>) -> Result<Mapping> {
        buf.heap.maps.add(1, Relaxed);
        let mapping = Mapping {
            pages: buf.pages.clone(),
            attrs: Attrs::NONE,
            maintained: true,
        };
        // Also a part that is not there.
        buf.sync_for_cpu(DataDirection::Bidirectional, 1..usize::MAX)?;
        buf.sync_for_device(buf.size()..0);
        Ok(mapping)
    }
}

/// How many devices have been unbound, of those that there was data about.
static UNBOUND: Atomic<usize> = Atomic::new(0);

struct Kept;

impl Data for Kept {
    fn unbound(&mut self, _: HasDriver<'_>) {
        UNBOUND.add(1, Relaxed);
    }
}

pub(crate) struct Guest {
    heap: Heap,
    bad_heaps: [Heap; BAD_NAMES.len()],
    tables: [Pin<KBox<PerDevice<Kept>>>; 2],
    dev: faux::Registration,
    other: faux::Registration,
}

impl PermanentModule for Guest {
    fn prepare() -> Result<Self> {
        let table = || KBox::pin_init(PerDevice::new(), GFP_KERNEL);

        Ok(Self {
            heap: Heap::new(),
            bad_heaps: [const { Heap::new() }; BAD_NAMES.len()],
            tables: [table()?, table()?],
            dev: faux::Registration::new(c"attacked", None)?,
            other: faux::Registration::new(c"attacked_too", None)?,
        })
    }

    fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
        for (name, heap) in BAD_NAMES.into_iter().zip(&self.bad_heaps) {
            registrar
                .add(name, heap)
                .map(|dev| heap.device.populate(dev));
        }
        registrar
            .add(NAME, &self.heap)
            .map(|dev| self.heap.device.populate(dev));
    }

    fn start(&'static self, forever: Forever) {
        report(1, "names", self.names());
        report(2, "tables", self.tables(forever));
        report(3, "texts", self.texts(forever));
        report(4, "links", self.links());
        report(5, "shrinkers", shrinkers(forever));
        report(6, "files", self.files());
        report(7, "charges", charges());
        report(8, "blocks", blocks());
        report(9, "reserved", reserved());
    }
}

impl Guest {
    /// Whether bad names are refused before anything happens.
    fn names(&self) -> Result {
        ensure(self.heap.device.as_ref().is_some())?;
        for (name, heap) in BAD_NAMES.into_iter().zip(&self.bad_heaps) {
            ensure(heap.device.as_ref().is_none() && !exists(name))?;
        }
        Ok(())
    }

    /// Whether a heap gets files, which the selftest reads.
    fn files(&'static self) -> Result {
        let dev = self.heap.device.as_ref().ok_or(ENODEV)?;

        for (name, ops) in &HEAP_FILES {
            dev.add_file(name, &self.heap, ops)?;
            ensure(dev.add_file(name, &self.heap, ops) == Err(EEXIST))?;
        }
        let (_, ops) = &HEAP_FILES[0];
        for (name, error) in [(c"uevent", EEXIST), (c"", EINVAL), (c"of/two", EINVAL)] {
            ensure(dev.add_file(name, &self.heap, ops) == Err(error))?;
        }
        Ok(())
    }

    /// Whether each of two tables of the same type forgets a device that is unbound.
    fn tables(&'static self, forever: Forever) -> Result {
        let registration = faux::Registration::new(c"unbound", None)?;
        let dev: ARef<Device> = (&**device(&registration)).into();

        for table in &self.tables {
            let table = table.as_ref().get_ref();
            table
                .lock()
                .get_or_insert(device(&registration), Kept, forever)?;
        }
        // One of them twice, and in the meantime not.
        let table = self.tables[1].as_ref().get_ref();
        table.lock().remove(&dev);
        table
            .lock()
            .get_or_insert(device(&registration), Kept, forever)?;
        drop(registration);

        ensure(UNBOUND.load(Relaxed) == self.tables.len())?;
        for table in &self.tables {
            ensure(table.as_ref().get_ref().lock().get_mut(&dev).is_none())?;
        }
        Ok(())
    }

    /// Whether no text is longer than what sysfs shows. The longest stays to be read.
    fn texts(&self, forever: Forever) -> Result {
        let dev = device(&self.dev).into();
        let named = |name, texts| Directory::create(dev, name, &FILES, texts, forever);
        let create = |texts| named(c"directory", texts);

        ensure(create(text(PAGE_SIZE)?).is_err_and(|err| err == EINVAL))?;
        ensure(create(KVec::new()).is_err_and(|err| err == EINVAL))?;
        for (name, error) in [(c"", EINVAL), (c"of/two", EINVAL), (c"uevent", EEXIST)] {
            ensure(named(name, text(1)?).is_err_and(|err| err == error))?;
        }
        // Not a `static`, and one name twice.
        let files = KBox::new([TextFile::new(c"one"), TextFile::new(c"one")], GFP_KERNEL)?;
        let files: &'static [TextFile; 2] = KBox::leak(files);
        TWICE.populate(files);
        let twice = Directory::create(dev, c"twice", files, two()?, forever);
        ensure(twice.is_err_and(|err| err == EEXIST))?;
        let directory = create(text(PAGE_SIZE - 1)?)?;
        ensure(directory.set_texts(text(PAGE_SIZE)?) == Err(EINVAL))?;
        // It is not a link.
        directory.remove_link(c"text");
        core::mem::forget(directory);
        Ok(())
    }

    /// Whether a link is removed from no other device, nor another thing than a link.
    fn links(&self) -> Result {
        let (dev, other) = (device(&self.dev).into(), device(&self.other));
        let link = || Link::create(dev, other, c"link");

        ensure(Link::create(dev, other, c"uevent").is_err_and(|err| err == EEXIST))?;
        for name in [c"", c"of/two"] {
            ensure(Link::create(dev, other, name).is_err_and(|err| err == EINVAL))?;
        }
        let first = link()?;
        ensure(link().is_err_and(|err| err == EEXIST))?;
        ensure(first.remove(other.into()) == Err(EINVAL))?;
        // It has stayed.
        ensure(link().is_err_and(|err| err == EEXIST))
    }
}

struct Nothing;

impl Reclaim for Nothing {
    fn reclaimable(&self) -> usize {
        0
    }

    fn reclaim(&self, _: usize) -> usize {
        0
    }
}

/// Whether there can be several, one registered twice and one never.
fn shrinkers(forever: Forever) -> Result {
    let first = Shrinker::<Nothing>::new()?;
    let _second = Shrinker::<Nothing>::new()?;

    first.register(forever);
    first.register(forever);
    Ok(())
}

/// Whether the sum of charges overflows.
fn charges() -> Result {
    for size in [1 << 62, u64::MAX] {
        ensure(dmem::Region::register(size, c"attacked").is_err_and(|err| err == EINVAL))?;
    }
    let region = dmem::Region::register(1 << 20, c"attacked")?.ok_or(ENODEV)?;
    let region = Arc::new(region, GFP_KERNEL)?;
    let charge = region.charge(4096)?;

    for size in [
        (1 << 20) + 1,
        i64::MAX as u64,
        1 << 63,
        u64::MAX - 4095,
        u64::MAX,
    ] {
        ensure(region.charge(size).is_err_and(|err| err == ENOMEM))?;
    }
    drop(charge);
    region.charge(1 << 20).map(drop)
}

/// Whether write-combining memory is used only if the zeroes in it are not only in the caches.
fn blocks() -> Result {
    let alloc = || PageBlock::alloc_zeroed(1, Zone::All, Effort::Reclaim, false);
    let push = |block| -> Result {
        let mut pages = Pages::new(Caching::WriteCombining, None)?;

        pages.push(block, 1)
    };
    let cleaner = Cleaner::new(c"attacked_cleaner")?;
    ensure(Cleaner::new(c"attacked_cleaner").is_err_and(|err| err == EBUSY))?;

    ensure(push(alloc()?) == Err(EINVAL))?;
    let mut block = cleaner.make_write_combining(alloc()?)?;
    ensure(block.zero(0..1) == Err(EINVAL))?;
    cleaner.zero(&mut block, 0..1)?;
    push(block)?;

    let mut block = cleaner.make_write_combining(alloc()?)?;
    ensure(cleaner.zero(&mut block, 0..2) == Err(EINVAL))?;
    ensure(push(block) == Err(EINVAL))
}

/// Whether reserved memory is taken once at most, and not where there is none.
fn reserved() -> Result {
    ensure(ReservedMem::take().is_err_and(|err| err == ENODEV))?;
    ensure(ReservedMem::take().is_err_and(|err| err == EBUSY))
}

fn device(registration: &faux::Registration) -> &Device<Bound> {
    registration.as_ref().as_ref()
}

fn text(len: usize) -> Result<KVec<KVec<u8>>> {
    let mut texts = KVec::new();

    texts.push(KVec::from_elem(b'x', len, GFP_KERNEL)?, GFP_KERNEL)?;
    Ok(texts)
}

fn two() -> Result<KVec<KVec<u8>>> {
    let mut texts = text(1)?;

    texts.push(KVec::new(), GFP_KERNEL)?;
    Ok(texts)
}

fn ensure(is_right: bool) -> Result {
    if is_right {
        Ok(())
    } else {
        Err(EPROTO)
    }
}

/// Tells the log, in the words of KTAP.
fn report(number: usize, name: &str, result: Result) {
    match result {
        Ok(()) => pr_info!("ok {} attacks.{}\n", number, name),
        Err(err) => pr_info!("not ok {} attacks.{} {:?}\n", number, name, err),
    }
}
