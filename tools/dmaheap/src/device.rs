// SPDX-License-Identifier: MIT OR GPL-2.0

//! Devices and their links to heaps.

use crate::constraints::Constraints;
use crate::error::Result;
use crate::snooping::Snooping;
use crate::system::{System, attribute, base_name, entries, target_name};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The classes whose nodes stand for something that imports buffers.
pub(crate) const NODE_CLASSES: [&str; 3] = ["drm", "accel", "video4linux"];

/// A device, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Device {
    /// The kernel's name for it: of a PCI device its address.
    pub name: String,
    /// Its directory below `/sys/devices`, which tells it apart from all others.
    pub path: PathBuf,
    /// The bus that it is on.
    pub bus: Option<String>,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Its nodes of the classes drm, accel and video4linux.
    pub nodes: Vec<PathBuf>,
    /// Whether its DMA sees the CPU caches.
    pub snooping: Snooping,
    /// What it needs of a buffer; `None` if the module does not tell.
    pub constraints: Option<Constraints>,
    /// The heaps that it is linked to, best first. It is empty if no heap suits it, and `None` if
    /// nothing is known.
    pub order: Option<Vec<String>>,
    /// The heaps that the parameter `links` of the module names for its driver; `None` if it names
    /// none.
    pub rule: Option<Vec<String>>,
    /// Why there are no links, as far as one can see.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) unlinked: &'static str,
}

impl Device {
    /// A device that is linked to these heaps, of which no more is known.
    pub fn new(
        name: impl Into<String>,
        path: impl Into<PathBuf>,
        order: Option<Vec<String>>,
    ) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            bus: None,
            driver: None,
            nodes: Vec::new(),
            snooping: Snooping::new(None, "nobody has looked"),
            constraints: None,
            order,
            rule: None,
            unlinked: "nobody has looked",
        }
    }

    /// Reads all that there is to know of the device with this directory.
    pub(crate) fn read(system: &System, path: PathBuf) -> Self {
        let bus = target_name(&path.join("subsystem"));
        let driver = target_name(&path.join("driver"));
        let links = path.join("dma_heaps");
        let order = fs::read_to_string(links.join("order")).ok();
        let order = order.map(|order| order.split_whitespace().map(str::to_owned).collect());
        let constraints = Constraints::read(&links);
        let nodes = nodes(system, &path);
        Self {
            snooping: match constraints {
                Some(constraints) => {
                    let file = links.join("snoops");
                    let evidence = format!("the kernel says so: {}", file.display());
                    Snooping::new(Some(constraints.snoops), evidence)
                }
                None => Snooping::guess(
                    system,
                    &path,
                    bus.as_deref(),
                    order.as_deref().unwrap_or(&[]),
                ),
            },
            constraints,
            rule: driver
                .as_deref()
                .and_then(|driver| heaps_by_rule(system, driver)),
            unlinked: if !system.module_is_loaded() {
                "the module dmabuf_coherency is not loaded (modprobe dmabuf_coherency)"
            } else if driver.is_none() {
                "it has no driver"
            } else if nodes.is_empty() {
                "it has no node of the classes drm, accel and video4linux"
            } else {
                "none of its nodes imports buffers, or it has just appeared, or the kernel's log \
                 says why"
            },
            name: base_name(&path),
            path,
            bus,
            driver,
            nodes,
            order,
        }
    }

    /// The heap that suits it best.
    pub fn best_heap(&self) -> Option<&str> {
        Some(self.order.as_ref()?.first()?)
    }
}

/// The heaps that the module was told to link the devices of a driver to, if it was told any.
fn heaps_by_rule(system: &System, driver: &str) -> Option<Vec<String>> {
    let rules = attribute(&system.sys("module/dmabuf_coherency/parameters/links"))?;
    let mut rules = rules.split(',').filter_map(|rule| rule.split_once('='));
    let (_, rule) = rules.find(|(named, _)| *named == driver)?;
    // What has a slash in it is a constraint.
    let heaps = rule.split(':').filter(|element| !element.contains('/'));
    let heaps: Vec<_> = heaps.map(str::to_owned).collect();
    (!heaps.is_empty()).then_some(heaps)
}

/// The nodes of a device that import buffers.
fn nodes(system: &System, path: &Path) -> Vec<PathBuf> {
    let classes = NODE_CLASSES.iter().map(|class| path.join(class));
    let class_devices = classes.flat_map(|class| entries(&class));
    class_devices
        // DRM has links of former names to some nodes.
        .filter(|class_device| class_device.join("dev").exists() && !class_device.is_symlink())
        .filter_map(|class_device| {
            let event = attribute(&class_device.join("uevent"))?;
            let name = event
                .lines()
                .find_map(|line| line.strip_prefix("DEVNAME="))?;
            Some(system.dev(name))
        })
        .collect()
}

/// All devices that have such a node, or links.
pub(crate) fn all(system: &System) -> Result<Vec<Device>> {
    let nodes = NODE_CLASSES
        .iter()
        .flat_map(|class| entries(&system.sys("class").join(class)));
    let behind = nodes
        .filter(|node| node.join("dev").exists())
        .map(|node| node.join("device"));
    // A driver may ask for links of a device without a node.
    let linked = entries(&system.sys("bus"))
        .into_iter()
        .flat_map(|bus| entries(&bus.join("devices")))
        .filter(|device| device.join("dma_heaps").exists());
    let paths: BTreeSet<_> = behind
        .chain(linked)
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect();
    Ok(paths
        .into_iter()
        .map(|path| Device::read(system, path))
        .collect())
}
