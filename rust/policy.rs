// SPDX-License-Identifier: GPL-2.0

//! Which heaps suit a device, and in which order: plain data and plain functions.
//!
//! Nothing here knows the kernel, so that all of it is tested on the host; nothing allocates.

use core::ffi::CStr;

/// How a heap keeps CPU and devices agreed on a buffer's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Cached, and only for devices that snoop the CPU caches.
    Strict,
    /// Cached, with cache maintenance by whoever exports it.
    Maintained,
    /// Not cached by the CPU.
    Uncached,
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
    /// What sysfs says.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WriteBack => "write-back",
            Self::WriteCombining => "write-combining",
        }
    }
}

/// Where a heap's memory lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Region {
    /// Any memory, from the page allocator.
    System,
    /// The default contiguous memory area, where the kernel has one.
    DefaultCma,
}

/// A heap that the links may point at without being told to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Heap {
    /// Its name, as under `/dev/dma_heap`.
    pub(crate) name: &'static CStr,
    /// Where its memory lies.
    pub(crate) region: Region,
    /// How its buffers are kept coherent.
    pub(crate) mode: Mode,
    /// Whether it is the kernel's own.
    pub(crate) in_tree: bool,
}

const fn ours(name: &'static CStr, region: Region, mode: Mode) -> Heap {
    Heap {
        name,
        region,
        mode,
        in_tree: false,
    }
}

const fn in_tree(name: &'static CStr, region: Region) -> Heap {
    Heap {
        name,
        region,
        mode: Mode::Maintained,
        in_tree: true,
    }
}

/// All of them, the better first among those of one mode.
#[rustfmt::skip]
pub(crate) const HEAPS: [Heap; 8] = [
    ours(c"system-coherent", Region::System, Mode::Strict),
    ours(c"system-noncoherent", Region::System, Mode::Maintained),
    ours(c"system-uncached", Region::System, Mode::Uncached),
    ours(c"default_cma_region-coherent", Region::DefaultCma, Mode::Strict),
    ours(c"default_cma_region-noncoherent", Region::DefaultCma, Mode::Maintained),
    ours(c"default_cma_region-uncached", Region::DefaultCma, Mode::Uncached),
    in_tree(c"system", Region::System),
    in_tree(c"default_cma_region", Region::DefaultCma),
];

impl Heap {
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

    /// Whether its buffers are always physically contiguous.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.region == Region::DefaultCma
    }
}

/// The mode of the heap `name`. A heap that is not listed is another driver's, and what is known of
/// those in the field is that they maintain the caches.
pub(crate) fn mode(name: &str) -> Mode {
    HEAPS
        .iter()
        .find(|heap| heap.name.to_bytes() == name.as_bytes())
        .map_or(Mode::Maintained, |heap| heap.mode)
}

/// The heaps to offer by default, best first.
///
/// `strict` tells whether the device may use heaps of mode [`Mode::Strict`]. One that may not,
/// because its DMA does not see the CPU caches or because the CPU does all of its work, is better
/// off with caches that somebody maintains than with memory that the CPU reads slowly.
pub(crate) fn default_order(strict: bool) -> impl Iterator<Item = &'static str> {
    let ranks: [(Mode, bool); 3] = if strict {
        [
            (Mode::Strict, false),
            (Mode::Maintained, false),
            (Mode::Maintained, true),
        ]
    } else {
        [
            (Mode::Maintained, false),
            (Mode::Maintained, true),
            (Mode::Uncached, false),
        ]
    };

    ranks.into_iter().flat_map(|(mode, in_tree)| {
        HEAPS
            .iter()
            .filter(move |heap| heap.mode == mode && heap.in_tree == in_tree)
            .filter_map(|heap| heap.name.to_str().ok())
    })
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
}

impl core::fmt::Display for Mistake<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotARule(rule) => write!(f, "\"{rule}\" is not driver=heap[:heap...]"),
            Self::EmptyName(rule) => write!(f, "\"{rule}\" has an empty name of a heap"),
            Self::Repeated(driver) => write!(f, "there are two rules for driver {driver}"),
            Self::RepeatedHeap(heap) => write!(f, "heap {heap} stands twice in one rule"),
        }
    }
}

/// Rules that replace the default order for the devices of some drivers:
/// `driver=heap[:heap...][,driver=...]`. The empty text is no rule at all.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a>(&'a str);

/// The rule for one driver.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'a> {
    /// The name of the driver.
    pub(crate) driver: &'a str,
    heaps: &'a str,
}

impl<'a> Rule<'a> {
    fn parse(text: &'a str) -> Result<Self, Mistake<'a>> {
        let (driver, heaps) = text.split_once('=').ok_or(Mistake::NotARule(text))?;

        if driver.is_empty() || heaps.is_empty() || heaps.contains('=') {
            return Err(Mistake::NotARule(text));
        }
        Ok(Self { driver, heaps })
    }

    /// The names of the heaps, best first.
    pub(crate) fn heaps(&self) -> impl Iterator<Item = &'a str> {
        self.heaps.split(':')
    }
}

impl<'a> Rules<'a> {
    /// Checks the grammar of `text`.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Mistake<'a>> {
        let parts = || text.split(',').filter(move |_| !text.is_empty());

        for (i, part) in parts().enumerate() {
            let rule = Rule::parse(part)?;

            for (j, heap) in rule.heaps().enumerate() {
                if heap.is_empty() {
                    return Err(Mistake::EmptyName(part));
                }
                if rule.heaps().take(j).any(|other| other == heap) {
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

    /// Rules whose grammar has been checked before. Any text is harmless, but only a correct one is
    /// read in full. Looking for one driver takes time in proportion to the length of the text, and
    /// checking the grammar in proportion to its square.
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
