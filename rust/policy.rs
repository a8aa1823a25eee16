// SPDX-License-Identifier: GPL-2.0

//! Decides which heaps exist, which of them suit a device, and in which order.
//!
//! This file uses nothing of the kernel and allocates no memory. So all of it can be tested on the
//! host.

/// How a heap makes the CPU and devices see the same data in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Buffers are cached. Only devices that snoop the CPU caches may use them.
    Strict,
    /// Buffers are cached, and the exporter maintains the caches.
    Maintained,
    /// The CPU maps buffers write-combining.
    Uncached,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Strict, Self::Maintained, Self::Uncached];

    /// Returns the suffix of a heap's name, after the name of the region.
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
    /// Not cached. The CPU combines writes.
    WriteCombining,
}

impl CpuMapping {
    /// Returns the name that sysfs shows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WriteBack => "write-back",
            Self::WriteCombining => "write-combining",
        }
    }
}

/// The largest possible number of regions, which is the number of bits in a [`RegionSet`].
pub(crate) const MAX_REGIONS: usize = u64::BITS as usize;

/// Where a heap's memory lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Region {
    /// Any memory, from the page allocator.
    System,
    /// Memory below 4 GiB, from the page allocator.
    Dma32,
    /// The contiguous memory area of this number, which is below `MAX_REGIONS - 2`. If the kernel
    /// has a default area, that is number 0.
    Area(usize),
}

impl Region {
    /// Returns the number of the region among all regions. Of heaps with the same mode, the one
    /// with the smallest number is preferred, because contiguous memory is scarce.
    fn number(self) -> usize {
        match self {
            Self::System => 0,
            Self::Dma32 => 1,
            Self::Area(number) => 2 + number,
        }
    }

    /// Returns whether each buffer in this region is one physical piece.
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

/// A heap whose properties are known. A device is linked to such a heap by default, if the heap
/// suits it. Other heaps need a rule, or a choice of the device's driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Heap {
    /// Where its memory lies.
    pub(crate) region: Region,
    /// How its buffers are kept coherent.
    pub(crate) mode: Mode,
    /// Whether it is a heap of the kernel, not of this module.
    pub(crate) in_tree: bool,
}

/// Returns all possible heaps of a region: first ours, then that of the kernel, if it can have one.
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
    /// Returns the suffix of the heap's name, after the name of the region.
    pub(crate) fn suffix(&self) -> &'static str {
        match self.in_tree {
            true => "",
            false => self.mode.suffix(),
        }
    }

    /// Returns whether only devices that snoop may use the heap's buffers.
    pub(crate) fn is_dma_coherent(&self) -> bool {
        self.mode == Mode::Strict
    }

    /// Returns how the CPU maps the heap's buffers.
    pub(crate) fn cpu_mapping(&self) -> CpuMapping {
        match self.mode {
            Mode::Strict | Mode::Maintained => CpuMapping::WriteBack,
            Mode::Uncached => CpuMapping::WriteCombining,
        }
    }
}

/// Whether the kernel's direct mapping of uncached memory stays cacheable. It does on all
/// architectures but x86.
///
/// The CPU may speculatively fetch cache lines through such an alias. A device that snoops would
/// then read these stale lines instead of what the CPU has written past the caches. Bounce buffers
/// are filled through the alias, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CacheableAlias(pub(crate) bool);

/// What the DMA of a device can do with a piece of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dma {
    /// The DMA snoops the CPU caches.
    pub(crate) snoops: bool,
    /// The device has a DMA mask. Without one, its driver must not do DMA with it.
    pub(crate) has_mask: bool,
    /// The DMA reaches all of the memory directly, without a bounce buffer.
    pub(crate) reaches: bool,
}

/// Why a device cannot use a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Its DMA does not snoop the CPU caches.
    NotSnooping,
    /// Its DMA snoops the CPU caches, and they may hold stale lines of uncached memory.
    Snooping,
    /// It has no DMA mask: its driver does no DMA with it.
    NoDmaMask,
    /// The DMA API would use bounce buffers: the device would work on a copy of the buffer.
    MayBounce,
    /// It needs buffers in one piece.
    OnePiece,
    /// It is not known to accept buffers in more than one piece.
    PiecesUnknown,
}

impl Refusal {
    /// Returns the reason as text for the log. "It" is the device.
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

/// Decides whether a device may attach to a buffer in this memory, from a heap of mode `mode`.
/// Nothing else makes this decision.
pub(crate) fn accepts(mode: Mode, dma: Dma, alias: CacheableAlias) -> Result<(), Refusal> {
    match mode {
        Mode::Strict if !dma.snoops => Err(Refusal::NotSnooping),
        Mode::Strict if !dma.has_mask => Err(Refusal::NoDmaMask),
        Mode::Strict if !dma.reaches => Err(Refusal::MayBounce),
        Mode::Uncached if alias.0 && dma.snoops => Err(Refusal::Snooping),
        // A device without a mask cannot map the buffer, so nothing can bounce.
        Mode::Uncached if alias.0 && dma.has_mask && !dma.reaches => Err(Refusal::MayBounce),
        Mode::Strict | Mode::Maintained | Mode::Uncached => Ok(()),
    }
}

/// In how many physical pieces a device accepts a buffer. If an IOMMU translates the device's DMA,
/// the device sees one piece in any case.
///
/// A later variant is at least as strict as an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Pieces {
    /// The device accepts any number of pieces.
    Any,
    /// Nothing is known.
    Unknown,
    /// The device accepts only one piece.
    One,
}

impl Pieces {
    /// Returns the name that sysfs shows.
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
    /// It does not attach. Only the CPU accesses the buffer.
    ByCpu,
    /// It attaches, but never maps. Only the CPU accesses the buffer.
    AttachOnly,
    /// It attaches, and maps the buffer for DMA.
    ByDma,
}

/// What a device node requires of a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Constraints {
    /// What its driver does with a buffer.
    pub(crate) import: Import,
    /// Its DMA snoops the CPU caches.
    pub(crate) snoops: bool,
    /// The number of address bits of its DMA; 0 without a DMA mask.
    pub(crate) address_bits: u32,
    /// An IOMMU translates its DMA.
    pub(crate) iommu: bool,
    /// In how many pieces it accepts a buffer.
    pub(crate) pieces: Pieces,
    /// The regions that its DMA reaches completely, without a bounce buffer.
    pub(crate) reached: RegionSet,
    /// The contiguous memory area that is reserved for it.
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

    /// Returns an error if `heap` is known not to work for the device: it would refuse the device,
    /// or its buffers may have more pieces than the device accepts.
    pub(crate) fn exclude(&self, heap: Heap, alias: CacheableAlias) -> Result<(), Refusal> {
        self.admit(heap, alias)?;
        match self.import {
            Import::ByDma if self.pieces == Pieces::One && !self.is_one_piece(heap) => {
                Err(Refusal::OnePiece)
            }
            Import::ByCpu | Import::AttachOnly | Import::ByDma => Ok(()),
        }
    }

    /// Returns whether `heap` always works for the device, whatever the size of the buffer is and
    /// however fragmented memory is.
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
        // There may be too few free bounce buffers when the device maps the buffer.
        if !dma.reaches {
            return Err(Refusal::MayBounce);
        }
        Ok(())
    }

    /// Returns whether the device sees every buffer of `heap` as one piece.
    fn is_one_piece(&self, heap: Heap) -> bool {
        heap.region.is_contiguous() || self.iommu
    }

    /// Combines the constraints of two nodes of one device.
    ///
    /// A node that does not attach its device adds no constraints.
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

    /// Combines the constraints of all nodes of a device. The result is published in sysfs.
    ///
    /// If no node attaches its device, the result is what holds for the CPU.
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

    /// Returns the sort key of a suitable `heap` for a device with these constraints. The best heap
    /// has the smallest key.
    ///
    /// A strict heap is the best one for a device that snoops and is attached. For all others a
    /// maintained heap is the best one. It is better than an uncached heap, because the CPU reads
    /// uncached memory slowly. It is better than a strict heap, because the next device that gets
    /// the buffer may not snoop.
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

/// GPU drivers that import buffers with code of their own, not with the usual DRM helpers. The page
/// tables of these GPUs map many pieces as one. The list is from the source of Linux 7.3.
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

/// Returns in how many pieces a device accepts a buffer if its DRM driver imports buffers with code
/// of its own.
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
    /// This rule has no `=` or several, or nothing on one side of it.
    NotARule(&'a str),
    /// This rule has an empty name in its list of heaps.
    EmptyName(&'a str),
    /// There are two rules for this driver.
    Repeated(&'a str),
    /// This heap stands twice in one rule.
    RepeatedHeap(&'a str),
    /// This word has a `/`, which no name of a heap has. It is also not `pieces/one` or
    /// `pieces/any` at the beginning of a rule.
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

/// Rules of an administrator for the devices of some drivers:
/// `driver=[pieces/one:|pieces/any:]heap[:heap...][,driver=...]`.
///
/// A number of pieces replaces what the module knows of the devices. A list of heaps replaces the
/// default order. After a number of pieces, the list may be left out. An empty text contains no
/// rules.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a>(&'a str);

/// The rule for one driver.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'a> {
    /// The name of the driver.
    pub(crate) driver: &'a str,
    /// In how many pieces its devices accept a buffer, if the rule says so.
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

    /// Returns the names of the heaps, best first. Returns `None` if the rule does not replace the
    /// default order.
    pub(crate) fn heaps(&self) -> Option<impl Iterator<Item = &'a str>> {
        Some(self.heaps?.split(':'))
    }
}

impl<'a> Rules<'a> {
    /// Checks the grammar of `text`. The time it takes is proportional to the square of the length.
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

    /// Takes rules whose grammar has been checked before, without a second check. So a search for a
    /// driver takes time proportional to the length only. A text with mistakes is harmless: wrong
    /// rules are skipped.
    pub(crate) fn checked(text: &'a str) -> Self {
        Self(text)
    }

    /// Returns the text of the rules.
    pub(crate) fn text(&self) -> &'a str {
        self.0
    }

    /// Iterates over all rules.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Rule<'a>> {
        self.0.split(',').filter_map(|part| Rule::parse(part).ok())
    }

    /// Returns the rule for `driver`, if there is one.
    pub(crate) fn for_driver(&self, driver: &str) -> Option<Rule<'a>> {
        self.iter().find(|rule| rule.driver == driver)
    }
}
