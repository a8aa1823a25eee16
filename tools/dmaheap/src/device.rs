// SPDX-License-Identifier: MIT OR GPL-2.0

//! Devices and their links to heaps.

use crate::constraints::Constraints;
use crate::error::Result;
use crate::snooping::Snooping;
use crate::system::{System, attribute, base_name, entries, entries_of_all, target_name};
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
    /// Its nodes of the classes drm, accel and video4linux, first those that programs look for:
    /// `video0` comes before `v4l-subdev0` and `vbi0`, `card0` before `renderD128`.
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
    pub(crate) fn read(system: &System, path: PathBuf) -> Result<Self> {
        let bus = target_name(&path.join("subsystem"));
        let driver = target_name(&path.join("driver"));
        let links = path.join("dma_heaps");
        let order = attribute(&links.join("order"))?;
        let order: Option<Vec<_>> =
            order.map(|order| order.split_whitespace().map(str::to_owned).collect());
        let constraints = Constraints::read(&links)?;
        let nodes = nodes(system, &path)?;
        Ok(Self {
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
                )?,
            },
            constraints,
            rule: match &driver {
                Some(driver) => heaps_by_rule(system, driver)?,
                None => None,
            },
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
        })
    }

    /// Whether anything says that it imports buffers.
    pub(crate) fn may_import(&self) -> bool {
        self.order.is_some() || !self.nodes.is_empty()
    }

    /// The heap that suits it best.
    pub fn best_heap(&self) -> Option<&str> {
        Some(self.order.as_ref()?.first()?)
    }
}

/// The heaps that the module was told to link the devices of a driver to, if it was told any.
fn heaps_by_rule(system: &System, driver: &str) -> Result<Option<Vec<String>>> {
    let rules = system.rules()?;
    let mut rules = rules.split(',').filter_map(|rule| rule.split_once('='));
    let rule = rules.find(|(named, _)| *named == driver);
    // What has a slash in it is a constraint.
    let heaps = rule.into_iter().flat_map(|(_, rule)| rule.split(':'));
    let heaps = heaps.filter(|element| !element.contains('/'));
    let heaps: Vec<_> = heaps.map(str::to_owned).collect();
    Ok((!heaps.is_empty()).then_some(heaps))
}

/// The nodes of a device that import buffers.
fn nodes(system: &System, path: &Path) -> Result<Vec<PathBuf>> {
    let mut nodes = Vec::new();
    for class_device in entries_of_all(NODE_CLASSES.map(|class| path.join(class)))? {
        // DRM has links of former names to some nodes.
        if class_device.join("dev").exists() && !class_device.is_symlink() {
            let event = attribute(&class_device.join("uevent"))?.unwrap_or_default();
            let mut lines = event.lines();
            let name = lines.find_map(|line| line.strip_prefix("DEVNAME="));
            nodes.extend(name.map(|name| system.dev(name)));
        }
    }
    nodes.sort_by_cached_key(|node| {
        let name = base_name(node);
        let is_first = ["video", "card", "accel"].map(|first| name.starts_with(first));
        // By numbers, so that video10 comes after video9.
        (!is_first.contains(&true), name.len(), name)
    });
    Ok(nodes)
}

/// All devices that have such a node, or links.
pub(crate) fn all(system: &System) -> Result<Vec<Device>> {
    let classes = NODE_CLASSES.map(|class| system.sys("class").join(class));
    let behind = entries_of_all(classes)?
        .into_iter()
        .filter(|node| node.join("dev").exists())
        .map(|node| node.join("device"));
    // A driver may ask for links of a device without a node.
    let buses = entries(&system.sys("bus"))?.into_iter();
    let linked = entries_of_all(buses.map(|bus| bus.join("devices")))?
        .into_iter()
        .filter(|device| device.join("dma_heaps").exists());
    let paths: BTreeSet<_> = behind
        .chain(linked)
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect();
    let paths = paths.into_iter();
    paths.map(|path| Device::read(system, path)).collect()
}
