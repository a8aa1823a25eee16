// SPDX-License-Identifier: MIT OR GPL-2.0

//! Whether a device's DMA sees the CPU caches. The module says so in a file; where that is not there,
//! as the module is not loaded or older, there is some evidence.

use crate::error::Result;
use crate::system::{System, attribute};
use std::fs;
use std::path::Path;

/// Whether a device snoops the CPU caches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Snooping {
    /// The answer, `None` if nobody can say.
    pub snoops: Option<bool>,
    /// How that is known, or why it is not.
    pub evidence: String,
}

impl Snooping {
    pub(crate) fn new(snoops: Option<bool>, evidence: impl Into<String>) -> Self {
        Self {
            snoops,
            evidence: evidence.into(),
        }
    }

    /// Looks at what evidence there is, the most certain first.
    pub(crate) fn guess(
        system: &System,
        path: &Path,
        bus: Option<&str>,
        order: &[String],
    ) -> Result<Self> {
        for heap in order {
            // The kernel never links a device to a heap that would refuse it.
            if is_strict(system, heap)? {
                return Ok(Self::new(Some(true), format!("it is linked to {heap}")));
            }
        }
        if bus == Some("usb") {
            let evidence = "USB: its driver copies the data with the CPU";
            return Ok(Self::new(None, evidence));
        }
        Ok(
            match fs::canonicalize(system.sys("firmware/devicetree/base")) {
                Ok(tree) => Self::by_device_tree(&tree, path, bus),
                Err(_) if system.is_x86()? => Self::new(Some(true), "all devices do on x86"),
                Err(_) => Self::new(None, "ACPI knows, and shows it to nobody"),
            },
        )
    }

    /// In a device tree `dma-coherent` holds for a node and all below it, unless one of those has
    /// `dma-noncoherent`. A PCI device takes after its host bridge.
    fn by_device_tree(tree: &Path, path: &Path, bus: Option<&str>) -> Self {
        let reach = if bus == Some("pci") { usize::MAX } else { 1 };
        let mut nodes = path.ancestors().take(reach);
        let node = nodes.find_map(|device| fs::canonicalize(device.join("of_node")).ok());
        let Some(node) = node else {
            return Self::new(Some(false), "the device tree does not have it");
        };
        for node in node.ancestors().take_while(|node| node.starts_with(tree)) {
            let name = node.strip_prefix(tree).unwrap_or(node).display();
            for (property, snoops) in [("dma-noncoherent", false), ("dma-coherent", true)] {
                if node.join(property).exists() {
                    let evidence = format!("{property} in /{name} of the device tree");
                    return Self::new(Some(snoops), evidence);
                }
            }
        }
        Self::new(Some(false), "no dma-coherent in the device tree")
    }
}

fn is_strict(system: &System, heap: &str) -> Result<bool> {
    let file = system.sys("class/dma_heap").join(heap).join("dma_coherent");
    Ok(attribute(&file)?.as_deref() == Some("1"))
}
