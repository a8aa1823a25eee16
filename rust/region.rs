// SPDX-License-Identifier: GPL-2.0

//! Finds the machine's regions of memory, and lists the heaps that each region may have.

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
        /// The dmem cgroup region that buffers are charged to. `None` if they are not charged.
        dmem: Option<Arc<dmem::Region>>,
    },
}

/// A region of memory.
pub(crate) struct Region {
    kind: policy::Region,
    name: &'static CStr,
    /// The physical addresses of its first and last byte. `None` if it is all memory.
    bounds: Option<RangeInclusive<u64>>,
    /// As [`Region::capacity`].
    capacity: Option<u64>,
    source: Source,
}

impl Region {
    /// Returns an upper limit of its size, in bytes. Returns `None` if the region is all memory,
    /// which may grow at run time.
    pub(crate) fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    /// Returns where the memory of the region comes from.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the region of all memory.
    fn system() -> Self {
        Self {
            kind: policy::Region::System,
            name: c"system",
            bounds: None,
            capacity: None,
            source: Source::Pages(Zone::All),
        }
    }

    /// Returns the region of memory below 4 GiB, for devices with 32 address bits. Returns `None`
    /// if that is all memory.
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

    /// Returns the region of a contiguous memory area with this extent. If `account` is set, its
    /// buffers are charged to dmem cgroups.
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

    /// Returns whether `dev` reaches the whole region without a bounce buffer.
    fn is_reached_by(&self, dev: DmaDevice<'_>) -> bool {
        match &self.bounds {
            Some(bounds) => dev.reaches_all() || dev.reaches(bounds),
            None => dev.reaches_all(),
        }
    }
}

/// A heap that may exist: one of this module or one of the kernel.
pub(crate) struct Entry {
    pub(crate) kind: policy::Heap,
    pub(crate) name: CString,
    /// Whether a heap with this name would be the heap described here. Otherwise it would belong to
    /// another driver.
    is_there: Atomic<bool>,
}

/// The table of all regions and all heaps that may exist.
pub(crate) struct Catalogue {
    regions: KVec<Region>,
    heaps: KVec<Entry>,
}

impl Catalogue {
    /// Finds the regions, and lists their heaps.
    ///
    /// If `account` is set, buffers in contiguous memory areas are charged to cgroups. Only if
    /// `uncached` is set, there are heaps of uncached memory.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is not enough memory.
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

                // A registered heap cannot be removed. So a name that is already taken must be
                // left out before any heap is registered.
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

    /// Iterates over the heaps that this module has to create, each with its region.
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

    /// Returns what is known about the heap `name`. Nothing is known about a heap of another
    /// driver.
    pub(crate) fn find(&self, name: &[u8]) -> Option<policy::Heap> {
        self.entry(name)
            .filter(|entry| entry.is_there.load(Relaxed))
            .map(|entry| entry.kind)
    }

    /// Records that this module has registered its heap `name`.
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

    /// Returns the regions that `dev` reaches completely, without a bounce buffer.
    pub(crate) fn reached_by(&self, dev: DmaDevice<'_>) -> RegionSet {
        let mut reached = RegionSet::default();

        for region in &self.regions {
            if region.is_reached_by(dev) {
                reached.insert(region.kind);
            }
        }
        reached
    }

    /// Returns the contiguous memory area that is reserved for `dev`, if there is one.
    pub(crate) fn own(&self, dev: DmaDevice<'_>) -> Option<policy::Region> {
        let own = Cma::of_device(dev)?;

        self.regions
            .iter()
            .find(|region| matches!(region.source, Source::Area { area, .. } if area == own))
            .map(|region| region.kind)
    }
}
