// SPDX-License-Identifier: MIT OR GPL-2.0

//! What `dmaheap graph` draws, in whatever language.
//!
//! There are many devices and few orders of heaps. So devices with the same order make a group, and
//! the lines go from there: their number grows with what there is to tell, and not with the number
//! of devices.

use dmaheap::{Device, Heap};
use std::collections::BTreeMap;

/// What is drawn.
pub struct Graph {
    pub heaps: Vec<Heap>,
    pub groups: Vec<Group>,
}

/// Devices that are linked to the same heaps in the same order.
pub struct Group {
    /// Best first; `None` if nothing is known.
    pub order: Option<Vec<String>>,
    pub kinds: Vec<Kind>,
}

/// Devices of a bus and driver.
pub struct Kind {
    pub title: String,
    pub devices: Vec<Device>,
}

impl Graph {
    pub fn new(mut heaps: Vec<Heap>, devices: Vec<Device>) -> Self {
        let mut by_order: BTreeMap<_, BTreeMap<_, Vec<Device>>> = BTreeMap::new();
        for device in devices {
            let kind = (device.bus.clone(), device.driver.clone());
            // Those of which nothing is known come last.
            let order = (device.order.is_none(), device.order.clone());
            by_order
                .entry(order)
                .or_default()
                .entry(kind)
                .or_default()
                .push(device);
        }
        let groups = by_order.into_iter().map(|((_, order), kinds)| Group {
            order,
            kinds: kinds
                .into_iter()
                .map(|(kind, devices)| Kind::new(kind, devices))
                .collect(),
        });
        let groups: Vec<_> = groups.collect();
        // What is best for somebody comes first: fewer lines cross.
        heaps.sort_by_key(|heap| {
            let orders = groups.iter().filter_map(|group| group.order.as_ref());
            let places =
                orders.filter_map(|order| order.iter().position(|name| *name == heap.name));
            places.min().unwrap_or(usize::MAX)
        });
        Self { heaps, groups }
    }

    /// The lines: which group, which heap, and its place in the group's order, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.groups
            .iter()
            .enumerate()
            .flat_map(move |(from, group)| {
                let order = group.order.iter().flatten();
                (1..).zip(order).filter_map(move |(place, name)| {
                    let to = self.heaps.iter().position(|heap| heap.name == *name)?;
                    Some((from, to, place))
                })
            })
    }
}

impl Kind {
    fn new((bus, driver): (Option<String>, Option<String>), devices: Vec<Device>) -> Self {
        let bus = bus.unwrap_or_else(|| "no bus".into());
        let driver = driver.unwrap_or_else(|| "no driver".into());
        Self {
            title: format!("{driver} ({bus}), {}", snooping(&devices)),
            devices,
        }
    }
}

fn snooping(devices: &[Device]) -> &'static str {
    let first = devices.first().and_then(|device| device.snooping.snoops);
    match first {
        _ if devices.iter().any(|device| device.snooping.snoops != first) => "some snoop",
        Some(true) => "snoops",
        Some(false) => "does not snoop",
        None => "not known whether it snoops",
    }
}

/// What a device is called, with its first nodes.
pub fn label(device: &Device) -> String {
    let names = device.nodes.iter().filter_map(|node| node.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let nodes = match &names[..] {
        [] => return device.name.clone(),
        [first, second] => format!("{first} {second}"),
        [only] => only.to_string(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    };
    format!("{} ({nodes})", device.name)
}

/// What a heap is like, in a line.
pub fn describe(heap: &Heap) -> String {
    let word = |known: Option<bool>, yes: &'static str, no: &'static str| {
        known.map(|known| if known { yes } else { no })
    };
    let devices = if heap.refuses_snooping == Some(true) {
        Some("devices that do not snoop")
    } else {
        word(heap.dma_coherent, "snooping devices only", "any device")
    };
    let words = [
        devices,
        heap.cpu_mapping.map(dmaheap::CpuMapping::as_str),
        word(heap.contiguous, "contiguous", ""),
    ];
    let known: Vec<_> = words
        .into_iter()
        .flatten()
        .filter(|word| !word.is_empty())
        .collect();
    if known.is_empty() {
        "nothing is known".into()
    } else {
        known.join(", ")
    }
}
