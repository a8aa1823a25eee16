// SPDX-License-Identifier: MIT OR GPL-2.0

//! The choice of a heap for a set of devices: plain data and a plain function.
//!
//! A heap *fits* if every device is linked to it, and if it meets what else is asked. Among those
//! that fit, each device's order gives each heap a place, the first being 1. The best is
//!
//! 1. the one whose worst place is best, so that nobody gets its last choice for another's first;
//! 2. then the one with the smallest sum of places;
//! 3. then one that is not known to be contiguous, since such memory is scarce;
//! 4. then the first by name.
//!
//! The module links a device to every heap that works for it each time, and to no other. So what
//! speaks against a heap follows from the device's [`Constraints`] and from what the heap is.

use crate::constraints::{Constraints, Pieces};
use crate::device::Device;
use crate::heap::{Access, CpuMapping, Heap, Limit};
use crate::words::{denied, list};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// What buffers must be, besides fit for their devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// Each one physical block. A device that is known to need that has links to such heaps only, so
    /// this is for devices whose pieces are [unknown](Pieces::Unknown) and for reasons of the
    /// caller's own.
    pub contiguous: bool,
    /// Of so many bytes. A heap is left out whose capacity or limit is smaller; of others that have
    /// neither it is not known how much they can give.
    pub size: Option<u64>,
    /// Right, also if the program never brackets its accesses by `DMA_BUF_IOCTL_SYNC`. Strict heaps
    /// are, as all devices snoop that they accept, and uncached ones. All others are if each device
    /// is known to snoop by its [`Constraints`].
    pub without_brackets: bool,
}

/// Which heaps fit, and why the others do not.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    fits: Vec<Fit>,
    objections: Vec<Objection>,
    /// Which of those that fit is the best that may be opened, or why none is.
    pub(crate) best: Result<usize, Unfit>,
}

/// A heap that fits.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Fit {
    /// The heap. The caller may not be allowed to open it.
    pub heap: Heap,
    /// The worst place that it has in the orders of the devices, which count from 1.
    pub worst_place: usize,
    /// The sum of its places.
    pub sum_of_places: usize,
}

/// Why a heap does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Objection {
    /// The heap's name.
    pub heap: String,
    /// The device that it does not fit, if it is about one.
    pub device: Option<String>,
    /// That device's driver, by which a rule would name it.
    pub driver: Option<String>,
    /// Why.
    pub reason: Reason,
    /// The heap's limit, if that is the reason.
    pub limit: Option<Limit>,
}

/// What is between a heap and a device, or between a heap and what was asked. If several things are
/// between a heap and a device, it is the first of these that can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Reason {
    /// There are no links.
    NothingKnown,
    /// The heap is for devices that snoop, and this one does not.
    DoesNotSnoop,
    /// The heap is for devices that do not snoop, and this one does.
    Snoops,
    /// The device needs one physical piece, and the heap does not promise it.
    OnePiece,
    /// It is not known whether the device takes more than one piece, and the heap does not promise
    /// one.
    PiecesUnknown,
    /// The device's DMA would go through bounce buffers for some of the heap's memory, or the
    /// device does none.
    OutOfReach,
    /// The administrator has made a rule that leaves this heap out.
    LeftOutByRule,
    /// The module points at this heap only if it is told to: another driver's, of which nothing is
    /// known.
    NotOffered,
    /// Contiguous memory was asked for, and this is not known to be.
    NotContiguous,
    /// The size that was asked for exceeds the heap's capacity.
    TooSmall,
    /// The size that was asked for exceeds the heap's limit.
    OverLimit,
    /// Brackets were to be done without. This heap is cached, and the device does not snoop.
    NeedsBrackets,
    /// The same, and nobody says whether the device snoops.
    MayNeedBrackets,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device.as_deref().unwrap_or("it");
        write!(f, "{}: ", self.heap)?;
        match self.reason {
            Reason::NothingKnown => write!(f, "nothing is known of {device}"),
            Reason::DoesNotSnoop => write!(f, "{device} does not snoop the CPU caches"),
            Reason::Snoops => write!(
                f,
                "{device} snoops the CPU caches, which speculation may fill from this uncached \
                 memory"
            ),
            Reason::OnePiece => write!(
                f,
                "{device} needs each buffer in one physical piece, and this heap does not promise \
                 that"
            ),
            Reason::PiecesUnknown => write!(
                f,
                "it is not known whether {device} takes a buffer in more than one physical piece. \
                 If it does, {}",
                say_pieces(self.driver.as_deref())
            ),
            Reason::OutOfReach => write!(
                f,
                "{device} does not reach all of its memory without bounce buffers"
            ),
            Reason::LeftOutByRule => write!(
                f,
                "the parameter links has a rule for {device} that leaves it out"
            ),
            Reason::NotOffered => write!(f, "{device} has no link to it"),
            Reason::NotContiguous => write!(f, "{device} is not known to be contiguous"),
            Reason::TooSmall => write!(f, "a buffer of this size exceeds its capacity"),
            Reason::OverLimit => {
                write!(f, "a buffer of this size exceeds its limit")?;
                match &self.limit {
                    Some(limit) => write!(f, ". {limit}"),
                    None => Ok(()),
                }
            }
            Reason::NeedsBrackets => write!(
                f,
                "{device} does not snoop the CPU caches, so that bytes are wrong without brackets"
            ),
            Reason::MayNeedBrackets => write!(
                f,
                "the kernel does not say whether {device} snoops the CPU caches, so that bytes may \
                 be wrong without brackets"
            ),
        }
    }
}

/// What to do about rules.
const CHANGE_RULES: &str = "Change the rules, or remove them as root: `echo > \
    /sys/module/dmabuf_coherency/parameters/links`, and for the next boot /etc/modprobe.d";

/// How to make known that a driver takes more than one piece.
fn say_pieces(driver: Option<&str>) -> String {
    let driver = driver.unwrap_or("DRIVER");
    format!(
        "say so to the module dmabuf_coherency (links={driver}=pieces/any), or let the driver call \
         dma_heap_set_device_pieces()"
    )
}

/// Why no heap was chosen, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// No device was given.
    #[error("no device was given: name at least one")]
    NoDevices,
    /// One of the devices cannot use any heap.
    #[error(
        "no heap suits {device}: {}",
        none_suits(.driver.as_deref(), .constraints.as_ref(), *.by_rule)
    )]
    NoneSuits {
        /// Its name.
        device: String,
        /// Its driver.
        driver: Option<String>,
        /// What it needs.
        constraints: Option<Constraints>,
        /// Whether a rule names the heaps that may be linked to it.
        by_rule: bool,
    },
    /// Some devices have no links.
    #[error(
        "nothing is known of {}: {reason}. The heap system takes any device that reaches all \
         memory, in any number of pieces",
        list(.devices)
    )]
    NothingKnown {
        /// Their names.
        devices: Vec<String>,
        /// Why.
        reason: &'static str,
    },
    /// There is none that all devices can use.
    #[error(
        "no heap fits all of these devices: copy between two buffers, or swap exporter and \
         importer, so that the device that is refused allocates (VIDIOC_EXPBUF, \
         DRM_IOCTL_PRIME_HANDLE_TO_FD)"
    )]
    NoneFits,
    /// There are some that all devices can use, and none is contiguous.
    #[error(
        "no heap that fits all of these devices is contiguous: reserve contiguous memory that they \
         reach (cma= on the kernel's command line, or reserved-memory in the device tree)"
    )]
    NoneContiguous,
    /// There are some that all devices can use, and none has room for a buffer of this size.
    #[error(
        "no heap that fits all of these devices has memory for {size} bytes: {}",
        no_room(.limits)
    )]
    NoRoom {
        /// What was asked for.
        size: u64,
        /// The limits that are in the way.
        limits: Vec<Limit>,
    },
    /// There are some that all devices can use, and rules leave each of them out.
    #[error(
        "no heap fits all of these devices, because the parameter links has rules for {} that leave \
         out {heap}. {CHANGE_RULES}",
        list(.devices)
    )]
    LeftOutByRules {
        /// The devices that the rules are for.
        devices: Vec<String>,
        /// The first of the heaps.
        heap: String,
    },
    /// There are some that all devices can use, and none is right without brackets.
    #[error(
        "no heap that fits all of these devices is right without brackets, because of those that \
         are not known to snoop the CPU caches: {}. Bracket each access of the CPU by \
         DMA_BUF_IOCTL_SYNC, or copy to and from a buffer of their own",
        list(.devices)
    )]
    NeedsBrackets {
        /// The devices that are in the way.
        devices: Vec<String>,
    },
    /// Some fit, and the caller may open none of them.
    #[error("{} fits, but {}", .heap.name, denied(&.heap.node, &.heap.access))]
    Denied {
        /// The best.
        heap: Box<DeniedHeap>,
    },
}

/// Why nothing suits a device, and what to do.
fn none_suits(driver: Option<&str>, constraints: Option<&Constraints>, by_rule: bool) -> String {
    if by_rule {
        return format!(
            "the parameter links has a rule for it that names no heap which suits it. {CHANGE_RULES}"
        );
    }
    let pieces = constraints.map(Constraints::physical_pieces);
    let need = match pieces {
        Some(Pieces::One) => "it needs each buffer in one physical piece",
        Some(Pieces::Unknown) => {
            "it is not known whether it takes a buffer in more than one physical piece"
        }
        _ => "it reaches all of the memory of none without bounce buffers",
    };
    let and = match pieces {
        Some(Pieces::One | Pieces::Unknown) => ", and no heap within its reach promises one",
        _ => "",
    };
    let reach = match constraints.map(|constraints| constraints.address_bits) {
        Some(0) => " (it has no DMA mask)".into(),
        Some(bits @ ..64) => format!(" ({bits} address bits)"),
        _ => String::new(),
    };
    let say = match pieces {
        Some(Pieces::Unknown) => format!("If it does, {}. Else reserve", say_pieces(driver)),
        _ => "Reserve".into(),
    };
    format!(
        "{need}{and}{reach}. {say} contiguous memory that it reaches (cma= on the kernel's command \
         line, or reserved-memory in the device tree), put it behind an IOMMU, or copy to and from \
         buffers of its own"
    )
}

/// What to do where no heap has room.
fn no_room(limits: &[Limit]) -> String {
    match limits {
        [] => "try a smaller buffer, or a larger contiguous region (cma= on the kernel's command \
               line, or reserved-memory in the device tree)"
            .into(),
        limits => {
            let limits: Vec<_> = limits.iter().map(Limit::to_string).collect();
            limits.join("; ")
        }
    }
}

/// A heap that fits and may not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedHeap {
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: std::path::PathBuf,
    /// Who may.
    pub access: Access,
}

/// Chooses. The order of `heaps` and of `devices` does not matter, nor whether a device stands there
/// twice.
pub fn choose(heaps: &[Heap], devices: &[Device], requirement: Requirement) -> Choice {
    let devices: BTreeMap<&Path, &Device> = devices
        .iter()
        .map(|device| (device.path.as_path(), device))
        .collect();
    let devices: Vec<_> = devices.into_values().collect();
    let mut fits = Vec::new();
    let mut objections = Vec::new();
    for heap in heaps {
        let against = object(heap, &devices, requirement);
        if against.is_empty() {
            fits.push(heap);
        }
        objections.extend(against);
    }
    objections.sort_by(|a, b| (&a.heap, &a.device).cmp(&(&b.heap, &b.device)));
    let fits = rank(&fits, &devices);
    Choice {
        best: best(&fits, &devices, &objections, requirement),
        fits,
        objections,
    }
}

/// The first that may be opened.
fn best(
    fits: &[Fit],
    devices: &[&Device],
    objections: &[Objection],
    requirement: Requirement,
) -> Result<usize, Unfit> {
    if devices.is_empty() {
        return Err(Unfit::NoDevices);
    }
    let Some(Fit { heap: first, .. }) = fits.first() else {
        return Err(why_none(devices, objections, requirement));
    };
    let allowed = fits.iter().position(|fit| fit.heap.access.is_allowed());
    allowed.ok_or_else(|| Unfit::Denied {
        heap: Box::new(DeniedHeap {
            name: first.name.clone(),
            node: first.node.clone(),
            access: first.access.clone(),
        }),
    })
}

/// Sorts the heaps that fit, the best first.
fn rank(fits: &[&Heap], devices: &[&Device]) -> Vec<Fit> {
    let place = |heap: &Heap, device: &Device| {
        let order = device.order.iter().flatten();
        let fitting = order.filter(|name| fits.iter().any(|fit| fit.name == **name));
        1 + fitting.take_while(|name| **name != heap.name).count()
    };
    let mut ranked: Vec<_> = fits
        .iter()
        .map(|heap| {
            let places = || devices.iter().map(|device| place(heap, device));
            Fit {
                heap: (*heap).clone(),
                worst_place: places().max().unwrap_or_default(),
                sum_of_places: places().sum(),
            }
        })
        .collect();
    ranked.sort_by(|a, b| a.key().cmp(&b.key()));
    ranked
}

impl Fit {
    /// The smallest is the best.
    fn key(&self) -> impl Ord + '_ {
        let contiguous = self.heap.contiguous == Some(true);
        (
            self.worst_place,
            self.sum_of_places,
            contiguous,
            &self.heap.name,
        )
    }
}

/// What speaks against a heap: for each device at most one thing, then what was asked besides.
fn object(heap: &Heap, devices: &[&Device], requirement: Requirement) -> Vec<Objection> {
    let by_devices = devices.iter().filter_map(|device| {
        let bracket = || needs_brackets(heap, device).filter(|_| requirement.without_brackets);
        Some(Objection {
            heap: heap.name.clone(),
            device: Some(device.name.clone()),
            driver: device.driver.clone(),
            reason: why_not_linked(heap, device).or_else(bracket)?,
            limit: None,
        })
    });
    let exceeds = |most: Option<u64>| match (requirement.size, most) {
        (Some(size), Some(most)) => size > most,
        _ => false,
    };
    let asked = [
        (
            requirement.contiguous && heap.contiguous != Some(true),
            Reason::NotContiguous,
        ),
        (exceeds(heap.capacity), Reason::TooSmall),
        (exceeds(heap.limit), Reason::OverLimit),
    ];
    let by_itself = asked.into_iter().filter(|(unmet, _)| *unmet);
    let by_itself = by_itself.map(|(_, reason)| Objection {
        heap: heap.name.clone(),
        device: None,
        driver: None,
        reason,
        limit: match reason {
            Reason::OverLimit => heap.what_may_live(),
            _ => None,
        },
    });
    by_devices.chain(by_itself).collect()
}

/// Why a device is not linked to a heap, if it is not.
fn why_not_linked(heap: &Heap, device: &Device) -> Option<Reason> {
    let Some(order) = &device.order else {
        return Some(Reason::NothingKnown);
    };
    if order.contains(&heap.name) {
        return None;
    }
    let constraints = device.constraints.as_ref();
    let snoops = match constraints {
        Some(constraints) => Some(constraints.snoops),
        None => device.snooping.snoops,
    };
    let strict = heap.dma_coherent == Some(true);
    let no_mask = constraints.is_some_and(|constraints| constraints.address_bits == 0);
    let pieces = match constraints {
        Some(constraints) if heap.contiguous != Some(true) => constraints.physical_pieces(),
        _ => Pieces::Any,
    };
    Some(match pieces {
        _ if strict && snoops == Some(false) => Reason::DoesNotSnoop,
        _ if heap.refuses_snooping == Some(true) && snoops == Some(true) => Reason::Snoops,
        Pieces::One => Reason::OnePiece,
        Pieces::Unknown => Reason::PiecesUnknown,
        _ if strict && no_mask => Reason::OutOfReach,
        // How far a heap's memory extends is in no file: that it is out of reach is what remains
        // when nothing else is the reason.
        _ if device
            .rule
            .as_ref()
            .is_some_and(|heaps| !heaps.contains(&heap.name)) =>
        {
            Reason::LeftOutByRule
        }
        Pieces::Any if constraints.is_some() && heap.is_offered() => Reason::OutOfReach,
        Pieces::Any => Reason::NotOffered,
    })
}

/// Why bytes of a heap's buffers may be wrong if the CPU's accesses are not bracketed.
fn needs_brackets(heap: &Heap, device: &Device) -> Option<Reason> {
    let strict = heap.dma_coherent == Some(true);
    if strict || heap.cpu_mapping == Some(CpuMapping::WriteCombining) {
        return None;
    }
    match device.constraints {
        Some(Constraints { snoops: true, .. }) => None,
        Some(_) => Some(Reason::NeedsBrackets),
        None => Some(Reason::MayNeedBrackets),
    }
}

/// Why no heap fits.
fn why_none(devices: &[&Device], objections: &[Objection], requirement: Requirement) -> Unfit {
    let suits_none = |device: &&&Device| device.order.as_ref().is_some_and(Vec::is_empty);
    if let Some(device) = devices.iter().find(suits_none) {
        return Unfit::NoneSuits {
            device: device.name.clone(),
            driver: device.driver.clone(),
            constraints: device.constraints,
            by_rule: device.rule.is_some(),
        };
    }
    let unknown = devices.iter().filter(|device| device.order.is_none());
    if let Some(first) = unknown.clone().next() {
        return Unfit::NothingKnown {
            devices: unknown.map(|device| device.name.clone()).collect(),
            reason: first.unlinked,
        };
    }
    // Each heap stops at the first question to which it has no answer. Those that get furthest tell
    // what is in the way.
    let mut stops = BTreeMap::new();
    for Objection { heap, reason, .. } in objections {
        let question = reason.question();
        let stop = stops.entry(heap).or_insert(question);
        *stop = question.min(*stop);
    }
    match (stops.values().max(), requirement.size) {
        (Some(Question::Contiguous), _) => Unfit::NoneContiguous,
        (Some(Question::Room), Some(size)) => Unfit::NoRoom {
            size,
            limits: objections
                .iter()
                .filter_map(|objection| objection.limit.clone())
                .filter(|limit| stops.get(&limit.heap) == Some(&Question::Room))
                .collect(),
        },
        (Some(Question::Brackets), _) => {
            let in_the_way = objections
                .iter()
                .filter(|objection| stops.get(&objection.heap) == Some(&Question::Brackets));
            let devices: BTreeSet<_> = in_the_way
                .filter_map(|objection| objection.device.clone())
                .collect();
            Unfit::NeedsBrackets {
                devices: devices.into_iter().collect(),
            }
        }
        _ => left_out_by_rules(objections).unwrap_or(Unfit::NoneFits),
    }
}

/// Whether there are heaps that nothing but rules speaks against.
fn left_out_by_rules(objections: &[Objection]) -> Option<Unfit> {
    let mut by_heap = BTreeMap::<&str, Vec<&Objection>>::new();
    for objection in objections {
        by_heap.entry(&objection.heap).or_default().push(objection);
    }
    let is_rule = |objection: &&Objection| objection.reason == Reason::LeftOutByRule;
    let mut heaps = by_heap.into_iter();
    let (heap, rules) = heaps.find(|(_, objections)| objections.iter().all(is_rule))?;
    let devices = rules
        .iter()
        .filter_map(|objection| objection.device.clone());
    Some(Unfit::LeftOutByRules {
        devices: devices.collect(),
        heap: heap.into(),
    })
}

/// What is asked of a heap, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Question {
    /// Does it suit the devices?
    Devices,
    /// Is it contiguous?
    Contiguous,
    /// Is there room for the buffer?
    Room,
    /// Does it do without brackets?
    Brackets,
}

impl Reason {
    /// To which question it is no good answer.
    fn question(self) -> Question {
        match self {
            Self::NothingKnown
            | Self::DoesNotSnoop
            | Self::Snoops
            | Self::OnePiece
            | Self::PiecesUnknown
            | Self::OutOfReach
            | Self::LeftOutByRule
            | Self::NotOffered => Question::Devices,
            Self::NotContiguous => Question::Contiguous,
            Self::TooSmall | Self::OverLimit => Question::Room,
            Self::NeedsBrackets | Self::MayNeedBrackets => Question::Brackets,
        }
    }
}

impl Choice {
    /// The best heap among those that the caller may open.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn best(&self) -> Result<&Heap, Unfit> {
        match &self.best {
            Ok(place) => Ok(&self.fits[*place].heap),
            Err(problem) => Err(problem.clone()),
        }
    }

    /// All heaps that fit, best first, whether the caller may open them or not.
    pub fn fits(&self) -> &[Fit] {
        &self.fits
    }

    /// Everything that speaks against the others, by heap and device.
    pub fn objections(&self) -> &[Objection] {
        &self.objections
    }
}
