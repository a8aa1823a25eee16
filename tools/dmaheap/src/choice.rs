// SPDX-License-Identifier: MIT OR GPL-2.0

//! The choice of a heap for a set of devices: plain data and a plain function.
//!
//! A heap *fits* if every device is linked to it. Among those that fit, each device's order gives
//! each heap a place, the first being 0. The best is
//!
//! 1. the one whose worst place is best, so that nobody gets its last choice for another's first;
//! 2. then the one with the smallest sum of places;
//! 3. then one that is not known to be contiguous, since such memory is scarce;
//! 4. then the first by name.
//!
//! As long as nobody has changed the links, the orders of two devices never contradict each other,
//! and the best is simply the first of any device's order that all others have too.

use crate::device::Device;
use crate::error::denied;
use crate::error::list;
use crate::heap::{Access, Heap};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// What buffers must be, besides fit for their devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// Each one physical block: some drivers need that and have no way to say so.
    pub contiguous: bool,
}

/// Which heaps fit, and why the others do not.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    fits: Vec<Fit>,
    objections: Vec<Objection>,
    /// Devices of which nothing is known, and why.
    unknown: Vec<(String, &'static str)>,
    nothing_asked: bool,
}

/// A heap that fits.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Fit {
    /// The heap. The caller may not be allowed to open it.
    pub heap: Heap,
    /// The worst place that it has in the orders of the devices.
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
    /// Why.
    pub reason: Reason,
}

/// What is between a heap and a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Reason {
    /// The heap is for devices that snoop, and this one does not.
    DoesNotSnoop,
    /// It does snoop, so it must be one of the other two reasons that such heaps have.
    BouncesOrHasNoMask,
    /// It cannot be seen which of the three it is.
    Refused,
    /// The administrator has made a rule that leaves this heap out.
    LeftOutByRule,
    /// The heap would take the device, but is slow for the CPU and gains nothing.
    UncachedForNothing,
    /// Nothing points there by default.
    NotOffered,
    /// There are no links.
    NothingKnown,
    /// Contiguous memory was asked for, and this is not known to be.
    NotContiguous,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            heap,
            device,
            reason,
        } = self;
        let device = device.as_deref().unwrap_or("it");
        write!(f, "{heap}: ")?;
        match reason {
            Reason::DoesNotSnoop => write!(f, "{device} does not snoop the CPU caches"),
            Reason::BouncesOrHasNoMask => write!(
                f,
                "{device} snoops, but its DMA may go through a bounce buffer, or it does none"
            ),
            Reason::Refused => write!(
                f,
                "{device} does not snoop the CPU caches, or its DMA may go through a bounce \
                 buffer, or it does none"
            ),
            Reason::LeftOutByRule => {
                write!(
                    f,
                    "the parameter links has a rule for {device} that leaves it out"
                )
            }
            Reason::UncachedForNothing => {
                write!(
                    f,
                    "it is slow for the CPU, and {device} gains nothing by that"
                )
            }
            Reason::NotOffered => write!(f, "{device} has no link to it"),
            Reason::NothingKnown => write!(f, "nothing is known of {device}"),
            Reason::NotContiguous => write!(f, "{device} is not known to be contiguous"),
        }
    }
}

/// Why no heap was chosen, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No device was given.
    #[error("no device was given: name at least one")]
    NoDevices,
    /// There is none that all devices can use.
    #[error(
        "no heap fits all of these devices: copy between two buffers, or swap exporter and \
         importer, so that the device that is refused allocates (VIDIOC_EXPBUF, \
         DRM_IOCTL_PRIME_HANDLE_TO_FD)"
    )]
    NoneFits,
    /// Some devices have no links.
    #[error(
        "nothing is known of {}: {reason}. The heap system takes any device that reaches all memory",
        list(.devices)
    )]
    NothingKnown {
        /// Their names.
        devices: Vec<String>,
        /// Why.
        reason: &'static str,
    },
    /// Some fit, and the caller may open none of them.
    #[error("{} fits, but {}", .heap.name, denied(&.heap.node, &.heap.access))]
    Denied {
        /// The best.
        heap: Box<DeniedHeap>,
    },
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

/// Chooses. The order of `heaps` and of `devices` does not matter, nor whether one stands there
/// twice.
pub fn choose(heaps: &[Heap], devices: &[Device], requirement: Requirement) -> Choice {
    let devices: BTreeMap<&Path, &Device> = devices
        .iter()
        .map(|device| (device.path.as_path(), device))
        .collect();
    let mut fits = Vec::new();
    let mut objections = Vec::new();
    for heap in heaps {
        let before = objections.len();
        objections.extend(devices.values().filter_map(|device| object(heap, device)));
        if requirement.contiguous && heap.contiguous != Some(true) {
            objections.push(Objection {
                heap: heap.name.clone(),
                device: None,
                reason: Reason::NotContiguous,
            });
        }
        if objections.len() == before {
            fits.push(heap);
        }
    }
    objections.sort_by(|a, b| (&a.heap, &a.device).cmp(&(&b.heap, &b.device)));
    Choice {
        fits: rank(&fits, &devices),
        objections,
        unknown: devices
            .values()
            .filter(|device| device.order.is_none())
            .map(|device| (device.name.clone(), device.unlinked))
            .collect(),
        nothing_asked: devices.is_empty(),
    }
}

/// Sorts the heaps that fit, the best first.
fn rank(fits: &[&Heap], devices: &BTreeMap<&Path, &Device>) -> Vec<Fit> {
    let place = |heap: &Heap, device: &Device| {
        let order = device.order.iter().flatten();
        let mut fitting = order.filter(|name| fits.iter().any(|fit| fit.name == **name));
        fitting
            .position(|name| *name == heap.name)
            .unwrap_or_default()
    };
    let mut ranked: Vec<_> = fits
        .iter()
        .map(|heap| {
            let places = || devices.values().map(|device| place(heap, device));
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

/// What speaks against a heap for a device.
fn object(heap: &Heap, device: &Device) -> Option<Objection> {
    let reason = match &device.order {
        None => Reason::NothingKnown,
        Some(order) if order.contains(&heap.name) => return None,
        Some(_) if heap.dma_coherent == Some(true) => match device.snooping.snoops {
            Some(false) => Reason::DoesNotSnoop,
            _ if device.rule.is_some() => Reason::LeftOutByRule,
            Some(true) => Reason::BouncesOrHasNoMask,
            None => Reason::Refused,
        },
        Some(_) if device.rule.is_some() => Reason::LeftOutByRule,
        Some(_) if heap.cpu_mapping == Some(crate::CpuMapping::WriteCombining) => {
            Reason::UncachedForNothing
        }
        Some(_) => Reason::NotOffered,
    };
    Some(Objection {
        heap: heap.name.clone(),
        device: Some(device.name.clone()),
        reason,
    })
}

impl Choice {
    /// The best heap among those that the caller may open.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn best(&self) -> Result<&Heap, Unfit> {
        let Some(best) = self.fits.first() else {
            return Err(self.why_none());
        };
        if self.nothing_asked {
            return Err(Unfit::NoDevices);
        }
        let mut heaps = self.fits.iter().map(|fit| &fit.heap);
        heaps
            .find(|heap| heap.access.is_allowed())
            .ok_or_else(|| Unfit::Denied {
                heap: Box::new(DeniedHeap {
                    name: best.heap.name.clone(),
                    node: best.heap.node.clone(),
                    access: best.heap.access.clone(),
                }),
            })
    }

    fn why_none(&self) -> Unfit {
        match self.unknown.first() {
            Some((_, reason)) => Unfit::NothingKnown {
                devices: self.unknown.iter().map(|(name, _)| name.clone()).collect(),
                reason,
            },
            None if self.nothing_asked => Unfit::NoDevices,
            None => Unfit::NoneFits,
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
