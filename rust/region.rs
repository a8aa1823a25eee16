// SPDX-License-Identifier: GPL-2.0

//! The regions of memory that this machine has, and the heaps that they may have.

use crate::{
    kernel::{
        dma_heap,
        dma_mapping::DmaDevice,
        dmem,
        mm::{
            cma::Cma,
            page::{
                Extent,
                Zone, //
            }, //
        }, //
    },
    policy::{
        self,
        Mode,
        RegionSet, //
    }, //
};
use core::ops::RangeInclusive;
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// Where the memory of a region comes from.
#[derive(Clone)]
pub(crate) enum Source {
    /// The page allocator.
    Pages(Zone),
    /// A contiguous memory area.
    Area {
        area: Cma,
        /// What buffers are charged to; none if they are charged to nobody.
        dmem: Option<Arc<dmem::Region>>,
    },
}

/// A region of memory.
pub(crate) struct Region {
    kind: policy::Region,
    name: &'static CStr,
    /// The addresses that it lies between; none if it is all memory.
    bounds: Option<RangeInclusive<u64>>,
    /// The upper limit of its size in bytes; none if it is all memory, which may become more.
    capacity: Option<u64>,
    source: Source,
}

impl Region {
    /// The upper limit of its size in bytes; none if it is all memory, which may become more.
    pub(crate) fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    /// Where its memory comes from.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// All memory.
    fn system() -> Self {
        Self {
            kind: policy::Region::System,
            name: c"system",
            bounds: None,
            capacity: None,
            source: Source::Pages(Zone::All),
        }
    }

    /// The memory that devices with 32 address bits reach, if that is not all memory.
    fn dma32() -> Option<Self> {
        let extent = Extent::dma32()?;

        Some(Self {
            kind: policy::Region::Dma32,
            name: c"system-dma32",
            bounds: Some(extent.bounds),
            capacity: Some(extent.size),
            source: Source::Pages(Zone::Dma32),
        })
    }

    /// A contiguous memory area with this extent.
    fn area(number: usize, area: Cma, extent: Extent, account: bool) -> Result<Self> {
        let name = area.name();
        let dmem = if account {
            let name = CString::try_from_fmt(fmt!("cma/{}", name))?;
            dmem::Region::register(extent.size, &name)?
        } else {
            None
        };

        Ok(Self {
            kind: policy::Region::Area(number),
            name,
            bounds: Some(extent.bounds),
            capacity: Some(extent.size),
            source: Source::Area {
                area,
                dmem: dmem.map(|dmem| Arc::new(dmem, GFP_KERNEL)).transpose()?,
            },
        })
    }

    /// Whether `dev` reaches all of it without a bounce buffer.
    fn is_reached_by(&self, dev: DmaDevice<'_>) -> bool {
        match &self.bounds {
            Some(bounds) => dev.reaches_all() || dev.reaches(bounds),
            None => dev.reaches_all(),
        }
    }
}

/// A possible heap: one of ours, or the kernel's own.
pub(crate) struct Entry {
    pub(crate) kind: policy::Heap,
    pub(crate) name: CString,
    /// Whether a heap of this name, if there is one, is this one and not another driver's.
    is_there: Atomic<bool>,
}

/// The one table of regions and heaps.
pub(crate) struct Catalogue {
    regions: KVec<Region>,
    heaps: KVec<Entry>,
}

impl Catalogue {
    /// Looks for regions. Buffers in contiguous memory are charged to control groups if `account` is
    /// set; there are heaps of uncached memory if `uncached` is.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(crate) fn new(account: bool, uncached: bool) -> Result<Self> {
        let mut regions = KVec::new();

        regions.push(Region::system(), GFP_KERNEL)?;
        if let Some(region) = Region::dma32() {
            regions.push(region, GFP_KERNEL)?;
        }
        for (number, area) in Cma::all().enumerate().take(policy::MAX_REGIONS - 2) {
            let Some(extent) = area.extent() else {
                pr_warn!(
                    "there are no heaps of contiguous area {}, which has not a page to give\n",
                    area.name()
                );
                continue;
            };
            regions.push(Region::area(number, area, extent, account)?, GFP_KERNEL)?;
        }

        let mut heaps = KVec::new();
        for region in &regions {
            for kind in policy::heaps(region.kind) {
                if kind.mode == Mode::Uncached && !uncached {
                    continue;
                }
                let name = CString::try_from_fmt(fmt!("{}{}", region.name, kind.suffix()))?;

                // A heap that is registered stays, so names that are taken are left out before.
                if !kind.in_tree && dma_heap::device::exists(&name) {
                    pr_warn!(
                        "another driver has a heap {}, so ours is left out\n",
                        &*name
                    );
                    continue;
                }
                let is_there = Atomic::new(kind.in_tree);
                heaps.push(
                    Entry {
                        kind,
                        name,
                        is_there,
                    },
                    GFP_KERNEL,
                )?;
            }
        }
        Ok(Self { regions, heaps })
    }

    /// The heaps that are ours to make, and the region of each.
    pub(crate) fn ours(&self) -> impl Iterator<Item = (&Entry, &Region)> {
        let ours = self.heaps.iter().filter(|entry| !entry.kind.in_tree);

        ours.filter_map(|entry| {
            let region = self
                .regions
                .iter()
                .find(|region| region.kind == entry.kind.region)?;
            Some((entry, region))
        })
    }

    /// What is known about the heap `name`. Nothing is known about another driver's.
    pub(crate) fn find(&self, name: &[u8]) -> Option<policy::Heap> {
        self.entry(name)
            .filter(|entry| entry.is_there.load(Relaxed))
            .map(|entry| entry.kind)
    }

    /// Our heap `name` has been registered.
    pub(crate) fn registered(&self, name: &CStr) {
        if let Some(entry) = self.entry(name.to_bytes()) {
            entry.is_there.store(true, Relaxed);
        }
    }

    fn entry(&self, name: &[u8]) -> Option<&Entry> {
        self.heaps
            .iter()
            .find(|entry| entry.name.to_bytes() == name)
    }

    /// The regions that `dev` reaches all of.
    pub(crate) fn reached_by(&self, dev: DmaDevice<'_>) -> RegionSet {
        let mut reached = RegionSet::default();

        for region in &self.regions {
            if region.is_reached_by(dev) {
                reached.insert(region.kind);
            }
        }
        reached
    }

    /// The contiguous memory area that has been set apart for `dev`.
    pub(crate) fn own(&self, dev: DmaDevice<'_>) -> Option<policy::Region> {
        let own = Cma::of_device(dev)?;

        self.regions
            .iter()
            .find(|region| matches!(region.source, Source::Area { area, .. } if area == own))
            .map(|region| region.kind)
    }
}
