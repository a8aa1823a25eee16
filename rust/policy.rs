// SPDX-License-Identifier: GPL-2.0

//! Which heaps there are, which of them suit a device, and in which order: plain data and plain
//! functions.
//!
//! Nothing here uses the kernel, so that all of it is tested on the host. Nothing allocates memory.

/// How a heap has the CPU and devices see the same bytes in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Cached, and only for devices that snoop the CPU caches.
    Strict,
    /// Cached. The exporter maintains the caches.
    Maintained,
    /// Not cached by the CPU.
    Uncached,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Strict, Self::Maintained, Self::Uncached];

    /// What follows the region in the name of a heap.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Strict => "-coherent",
            Self::Maintained => "-noncoherent",
            Self::Uncached => "-uncached",
        }
    }
}

/// How the CPU maps a heap's buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CpuMapping {
    /// Cached.
    WriteBack,
    /// Not cached; writes are gathered.
    WriteCombining,
}

impl CpuMapping {
    /// Its name in sysfs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WriteBack => "write-back",
            Self::WriteCombining => "write-combining",
        }
    }
}

/// The largest number of regions: as many as a [`RegionSet`] has bits.
pub(crate) const MAX_REGIONS: usize = u64::BITS as usize;

/// Where a heap's memory lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Region {
    /// Any memory, from the page allocator.
    System,
    /// Memory below 4 GiB, from the page allocator.
    Dma32,
    /// The contiguous memory area of this number, below `MAX_REGIONS - 2`. The default area has
    /// the number 0, if the kernel has one.
    Area(usize),
}

impl Region {
    /// Its number among all regions. Among heaps of one mode, the smallest number comes first,
    /// because contiguous memory is scarce.
    fn number(self) -> usize {
        match self {
            Self::System => 0,
            Self::Dma32 => 1,
            Self::Area(number) => 2 + number,
        }
    }

    /// Whether each buffer is one physical piece.
    pub(crate) fn is_contiguous(self) -> bool {
        matches!(self, Self::Area(_))
    }
}

/// A set of regions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct RegionSet(u64);

impl RegionSet {
    /// Adds a region.
    pub(crate) fn insert(&mut self, region: Region) {
        self.0 |= 1 << region.number();
    }

    fn contains(self, region: Region) -> bool {
        self.0 >> region.number() & 1 != 0
    }
}

/// A heap that the links may point at by themselves, without a rule or a choice of the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Heap {
    /// Where its memory lies.
    pub(crate) region: Region,
    /// How its buffers are kept coherent.
    pub(crate) mode: Mode,
    /// Whether it is the kernel's own.
    pub(crate) in_tree: bool,
}

/// All heaps of a region: ours, and then the kernel's own, if there is one.
pub(crate) fn heaps(region: Region) -> impl Iterator<Item = Heap> {
    let heap = move |mode, in_tree| Heap {
        region,
        mode,
        in_tree,
    };

    let ours = Mode::ALL.into_iter().map(move |mode| heap(mode, false));
    ours.chain((region != Region::Dma32).then(|| heap(Mode::Maintained, true)))
}

impl Heap {
    /// What follows the name of the region in its own.
    pub(crate) fn suffix(&self) -> &'static str {
        match self.in_tree {
            true => "",
            false => self.mode.suffix(),
        }
    }

    /// Whether only devices that snoop may use its buffers.
    pub(crate) fn is_dma_coherent(&self) -> bool {
        self.mode == Mode::Strict
    }

    /// How the CPU maps its buffers.
    pub(crate) fn cpu_mapping(&self) -> CpuMapping {
        match self.mode {
            Mode::Strict | Mode::Maintained => CpuMapping::WriteBack,
            Mode::Uncached => CpuMapping::WriteCombining,
        }
    }
}

/// Whether the kernel's own mapping of uncached memory stays cacheable: everywhere but on x86.
///
/// The CPU may fetch lines through such a mapping by speculation. A device that snoops would find
/// these old lines instead of what the CPU has written past the caches. Bounce buffers are filled
/// through the mapping as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CacheableAlias(pub(crate) bool);

/// What the DMA of a device can do with some memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dma {
    /// It sees the CPU caches.
    pub(crate) snoops: bool,
    /// The device has a DMA mask: its driver may do DMA with it.
    pub(crate) has_mask: bool,
    /// It reaches all of the memory itself, without a bounce buffer.
    pub(crate) reaches: bool,
}

/// Why a device cannot use a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Its DMA does not see the CPU caches.
    NotSnooping,
    /// Its DMA sees the CPU caches, which may hold old lines of uncached memory.
    Snooping,
    /// It has no DMA mask: its driver does no DMA with it.
    NoDmaMask,
    /// The DMA API would let it work on a copy of the buffer.
    MayBounce,
    /// It needs buffers in one piece.
    OnePiece,
    /// Nobody has said that it takes buffers in more than one piece.
    PiecesUnknown,
}

impl Refusal {
    /// The reason, as the log says it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NotSnooping => "it does not snoop the CPU caches",
            Self::Snooping => "it snoops the CPU caches, which may hold old lines of this memory",
            Self::NoDmaMask => "it has no DMA mask",
            Self::MayBounce => "its DMA may go through a bounce buffer",
            Self::OnePiece => "it needs buffers in one piece",
            Self::PiecesUnknown => "it is not known to take buffers in more than one piece",
        }
    }
}

/// Returns whether a device may attach to memory of a heap of mode `mode`. This is the only place
/// that decides it.
pub(crate) fn accepts(mode: Mode, dma: Dma, alias: CacheableAlias) -> Result<(), Refusal> {
    match mode {
        Mode::Strict if !dma.snoops => Err(Refusal::NotSnooping),
        Mode::Strict if !dma.has_mask => Err(Refusal::NoDmaMask),
        Mode::Strict if !dma.reaches => Err(Refusal::MayBounce),
        Mode::Uncached if alias.0 && dma.snoops => Err(Refusal::Snooping),
        // A device without a mask cannot map, so nothing bounces.
        Mode::Uncached if alias.0 && dma.has_mask && !dma.reaches => Err(Refusal::MayBounce),
        Mode::Strict | Mode::Maintained | Mode::Uncached => Ok(()),
    }
}

/// In how many physical pieces a device takes a buffer, where no IOMMU makes one of many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Pieces {
    /// In any number.
    Any,
    /// Nobody has said.
    Unknown,
    /// In one.
    One,
}

impl Pieces {
    /// Its name in sysfs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Unknown => "unknown",
            Self::One => "one",
        }
    }
}

/// What a driver does with a buffer that it imports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Import {
    /// It does not attach: only the CPU works on the buffer.
    ByCpu,
    /// It attaches and never maps: only the CPU works on the buffer.
    AttachOnly,
    /// It attaches and maps, for DMA.
    ByDma,
}

/// What one node of a device asks of a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Constraints {
    /// What its driver does with a buffer.
    pub(crate) import: Import,
    /// Its DMA sees the CPU caches.
    pub(crate) snoops: bool,
    /// How many address bits its DMA has; 0 without a DMA mask.
    pub(crate) address_bits: u32,
    /// An IOMMU translates its DMA.
    pub(crate) iommu: bool,
    /// In how many pieces it takes a buffer.
    pub(crate) pieces: Pieces,
    /// The regions that it reaches all of, without a bounce buffer.
    pub(crate) reached: RegionSet,
    /// The contiguous memory area that has been set apart for it.
    pub(crate) own: Option<Region>,
}

impl Constraints {
    fn dma(&self, region: Region) -> Dma {
        Dma {
            snoops: self.snoops,
            has_mask: self.address_bits > 0,
            reaches: self.reached.contains(region),
        }
    }

    /// Returns whether the device may attach to any buffer of `heap`.
    pub(crate) fn admit(&self, heap: Heap, alias: CacheableAlias) -> Result<(), Refusal> {
        match self.import {
            Import::ByCpu => Ok(()),
            Import::AttachOnly | Import::ByDma => accepts(heap.mode, self.dma(heap.region), alias),
        }
    }

    /// Returns whether `heap` is known not to work: it would refuse the device, or has buffers in
    /// more pieces than the device takes.
    pub(crate) fn exclude(&self, heap: Heap, alias: CacheableAlias) -> Result<(), Refusal> {
        self.admit(heap, alias)?;
        match self.import {
            Import::ByDma if self.pieces == Pieces::One && !self.is_one_piece(heap) => {
                Err(Refusal::OnePiece)
            }
            Import::ByCpu | Import::AttachOnly | Import::ByDma => Ok(()),
        }
    }

    /// Returns whether `heap` works for the device each time, whatever the size of the buffer and
    /// however fragmented the memory.
    pub(crate) fn suits(&self, heap: Heap, alias: CacheableAlias) -> Result<(), Refusal> {
        self.exclude(heap, alias)?;
        if self.import != Import::ByDma {
            return Ok(());
        }
        if self.pieces == Pieces::Unknown && !self.is_one_piece(heap) {
            return Err(Refusal::PiecesUnknown);
        }
        let dma = self.dma(heap.region);
        if !dma.has_mask {
            return Err(Refusal::NoDmaMask);
        }
        // There may not be enough bounce buffers at the time.
        if !dma.reaches {
            return Err(Refusal::MayBounce);
        }
        Ok(())
    }

    /// Whether the device sees each buffer of `heap` in one piece.
    fn is_one_piece(&self, heap: Heap) -> bool {
        heap.region.is_contiguous() || self.iommu
    }

    /// The constraints that hold for two nodes of one device.
    fn and(self, other: Self) -> Self {
        match (self.import, other.import) {
            (_, Import::ByCpu) => self,
            (Import::ByCpu, _) => other,
            _ => Self {
                import: if self.import == Import::ByDma {
                    self.import
                } else {
                    other.import
                },
                snoops: self.snoops && other.snoops,
                address_bits: self.address_bits.min(other.address_bits),
                iommu: self.iommu && other.iommu,
                pieces: self.pieces.max(other.pieces),
                reached: RegionSet(self.reached.0 & other.reached.0),
                own: [self.own, other.own]
                    .into_iter()
                    .flatten()
                    .min_by_key(|region| region.number()),
            },
        }
    }

    /// What is published about a device with these nodes.
    ///
    /// If only the CPU works on the buffers of all nodes, it is what holds for the CPU.
    pub(crate) fn of_all(nodes: impl Iterator<Item = Self>) -> Self {
        const CPU: Constraints = Constraints {
            import: Import::ByCpu,
            snoops: true,
            address_bits: u64::BITS,
            iommu: false,
            pieces: Pieces::Any,
            reached: RegionSet(u64::MAX),
            own: None,
        };

        nodes.fold(CPU, Self::and)
    }

    /// The place of `heap` in the order for a device with these constraints, if it suits: the
    /// smallest comes first.
    ///
    /// For a device that does not snoop, and for one whose work the CPU does, a maintained heap is
    /// better than an uncached one, which the CPU reads slowly. It is better than a strict one as
    /// well, because the device that gets the buffer next may not snoop.
    pub(crate) fn place(&self, heap: Heap) -> (usize, usize) {
        let by_dma = self.import != Import::ByCpu;
        let mode = match (heap.mode, heap.in_tree) {
            (Mode::Strict, _) if self.snoops && by_dma => 0,
            (Mode::Maintained, false) => 1,
            (Mode::Maintained, true) => 2,
            (Mode::Uncached, _) => 3,
            (Mode::Strict, _) => 4,
        };
        let region = if self.own == Some(heap.region) {
            0
        } else {
            1 + heap.region.number()
        };

        (mode, region)
    }
}

/// Drivers of GPUs that import buffers in ways of their own, and whose page tables make one piece
/// of many. From the source of Linux 7.3.
const GPUS: [&str; 10] = [
    "amdgpu",
    "etnaviv",
    "i915",
    "nouveau",
    "panfrost",
    "panthor",
    "radeon",
    "v3d",
    "virtio_gpu",
    "xe",
];

/// In how many pieces a DRM driver takes a buffer that it imports in a way of its own.
pub(crate) fn pieces_of_drm_driver(name: &str) -> Pieces {
    if GPUS.contains(&name) {
        Pieces::Any
    } else {
        Pieces::Unknown
    }
}

/// What is wrong with a list of rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mistake<'a> {
    /// A rule without `=`, or with nothing on one side of it.
    NotARule(&'a str),
    /// An empty name in a list of heaps.
    EmptyName(&'a str),
    /// Two rules for one driver.
    Repeated(&'a str),
    /// One heap twice in a rule.
    RepeatedHeap(&'a str),
    /// A word with a `/`. No name of a heap has one, and the word is not a number of pieces that
    /// comes first.
    BadPieces(&'a str),
}

impl core::fmt::Display for Mistake<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotARule(rule) => {
                write!(
                    f,
                    "\"{rule}\" is not driver=[pieces/one:|pieces/any:]heap[:heap...]"
                )
            }
            Self::EmptyName(rule) => write!(f, "\"{rule}\" has an empty name of a heap"),
            Self::Repeated(driver) => write!(f, "there are two rules for driver {driver}"),
            Self::RepeatedHeap(heap) => write!(f, "heap {heap} stands twice in one rule"),
            Self::BadPieces(word) => write!(
                f,
                "\"{word}\" is no name of a heap, and neither pieces/one nor pieces/any before them"
            ),
        }
    }
}

/// Rules for the devices of some drivers:
/// `driver=[pieces/one:|pieces/any:]heap[:heap...][,driver=...]`.
///
/// A number of pieces replaces what is known of the devices, and heaps replace the default order.
/// The heaps may be left out behind a number of pieces. An empty text has no rules.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a>(&'a str);

/// The rule for one driver.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'a> {
    /// The name of the driver.
    pub(crate) driver: &'a str,
    /// In how many pieces its devices take a buffer, if the rule says so.
    pub(crate) pieces: Option<Pieces>,
    /// The names of the heaps, if the rule has any.
    heaps: Option<&'a str>,
}

impl<'a> Rule<'a> {
    fn parse(text: &'a str) -> Result<Self, Mistake<'a>> {
        let (driver, heaps) = text.split_once('=').ok_or(Mistake::NotARule(text))?;

        if driver.is_empty() || heaps.is_empty() || heaps.contains('=') {
            return Err(Mistake::NotARule(text));
        }

        let (first, others) = match heaps.split_once(':') {
            Some((first, others)) => (first, Some(others)),
            None => (heaps, None),
        };
        let pieces = match first {
            "pieces/one" => Some(Pieces::One),
            "pieces/any" => Some(Pieces::Any),
            _ => None,
        };
        Ok(Self {
            driver,
            pieces,
            heaps: if pieces.is_some() {
                others
            } else {
                Some(heaps)
            },
        })
    }

    /// The names of the heaps, best first. None if the rule does not replace the order.
    pub(crate) fn heaps(&self) -> Option<impl Iterator<Item = &'a str>> {
        Some(self.heaps?.split(':'))
    }
}

impl<'a> Rules<'a> {
    /// Checks the grammar of `text`.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Mistake<'a>> {
        let parts = || text.split(',').filter(move |_| !text.is_empty());

        for (i, part) in parts().enumerate() {
            let rule = Rule::parse(part)?;

            let heaps = || rule.heaps().into_iter().flatten();
            for (j, heap) in heaps().enumerate() {
                if heap.is_empty() {
                    return Err(Mistake::EmptyName(part));
                }
                if heap.contains('/') {
                    return Err(Mistake::BadPieces(heap));
                }
                if heaps().take(j).any(|other| other == heap) {
                    return Err(Mistake::RepeatedHeap(heap));
                }
            }
            let earlier = parts().take(i).filter_map(|part| Rule::parse(part).ok());
            if earlier.into_iter().any(|other| other.driver == rule.driver) {
                return Err(Mistake::Repeated(rule.driver));
            }
        }
        Ok(Self(text))
    }

    /// Rules whose grammar has been checked before, which takes time in proportion to the square
    /// of the length of the text. To look for one driver takes time in proportion to the length. A
    /// text with mistakes is harmless: what is wrong in it is passed over.
    pub(crate) fn checked(text: &'a str) -> Self {
        Self(text)
    }

    /// The text that the rules came from.
    pub(crate) fn text(&self) -> &'a str {
        self.0
    }

    /// All rules.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Rule<'a>> {
        self.0.split(',').filter_map(|part| Rule::parse(part).ok())
    }

    /// The rule for `driver`, if there is one.
    pub(crate) fn for_driver(&self, driver: &str) -> Option<Rule<'a>> {
        self.iter().find(|rule| rule.driver == driver)
    }
}
