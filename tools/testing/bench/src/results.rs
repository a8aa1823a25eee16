// SPDX-License-Identifier: GPL-2.0

//! What was measured, as the program prints it in JSON.

use serde::{Deserialize, Serialize};

/// The version of the format. Grows when an old reader would misread a new file.
pub const VERSION: u32 = 1;

/// All that one run of the program has measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    pub arch: String,
    /// The kernel's release.
    pub kernel: String,
    pub cpus: usize,
    /// The machine's memory in bytes.
    pub memory: u64,
    pub clock: Clock,
    pub measurements: Vec<Measurement>,
    pub skipped: Vec<Skipped>,
}

/// What a nanosecond stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// An instruction that an emulator has executed.
    Instructions,
    /// Itself.
    Wall,
}

/// What an operation has cost on one heap, at one size or count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// A name from [`OPERATIONS`].
    pub operation: String,
    pub heap: String,
    /// Whether memory was so scattered that buffers consist of single pages.
    pub scattered: bool,
    /// Bytes of the buffer, or what else the operation's axis counts.
    pub at: u64,
    pub samples: usize,
    /// Nanoseconds, those of the background thread not among them.
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Nanoseconds that the module's background thread has worked for it.
    pub background: Option<f64>,
    /// In how many pieces a device has seen the buffer.
    pub segments: Option<u32>,
}

impl Measurement {
    /// Nanoseconds of all who have worked for it.
    pub fn total(&self) -> f64 {
        self.median + self.background.unwrap_or_default()
    }

    /// Whether both are about the same thing, on whichever heap.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.operation, self.scattered, self.at) == (&other.operation, other.scattered, other.at)
    }
}

/// What could not be measured, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    pub operation: String,
    pub heap: String,
    pub reason: String,
}

/// What the cost of an operation is plotted against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    Bytes,
    Buffers,
    Attachments,
    Cpus,
    Devices,
}

/// Something that was measured.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    pub name: &'static str,
    pub title: &'static str,
    pub axis: Axis,
}

const fn bytes(name: &'static str, title: &'static str) -> Operation {
    Operation {
        name,
        title,
        axis: Axis::Bytes,
    }
}

const fn devices(name: &'static str, title: &'static str) -> Operation {
    Operation {
        name,
        title,
        axis: Axis::Devices,
    }
}

/// All operations, in the order in which they are shown.
pub const OPERATIONS: &[Operation] = &[
    bytes("alloc.warm", "allocate, warm"),
    bytes("alloc.cold", "allocate, cold"),
    bytes("alloc.sustained", "allocate and free, sustained"),
    bytes("free", "free"),
    bytes("charged.warm", "allocate, warm, in a control group"),
    bytes("charged.cold", "allocate, cold, in a control group"),
    bytes(
        "charged.sustained",
        "allocate and free, sustained, in a control group",
    ),
    bytes("charged.free", "free, in a control group"),
    bytes("mmap.aligned", "mmap and touch, aligned to 2 MiB"),
    bytes("mmap.unaligned", "mmap and touch, unaligned"),
    bytes("munmap.aligned", "munmap, aligned to 2 MiB"),
    bytes("munmap.unaligned", "munmap, unaligned"),
    bytes("cpu.read", "CPU reads through the mapping"),
    bytes("cpu.write", "CPU writes through the mapping"),
    bytes("import.snooping", "attach to detach, snooping device"),
    bytes(
        "import.nonsnooping",
        "attach to detach, non-snooping device",
    ),
    bytes("import.pci.snooping", "attach to detach, PCI device"),
    bytes("attach.snooping", "attach, snooping device"),
    bytes("map.snooping", "map, snooping device"),
    bytes("unmap.snooping", "unmap, snooping device"),
    bytes("detach.snooping", "detach, snooping device"),
    bytes("attach.nonsnooping", "attach, non-snooping device"),
    bytes("map.nonsnooping", "map, non-snooping device"),
    bytes("unmap.nonsnooping", "unmap, non-snooping device"),
    bytes("detach.nonsnooping", "detach, non-snooping device"),
    bytes("bracket.0", "bracket, no attachment"),
    bytes("bracket.1.snooping", "bracket, 1 snooping attachment"),
    bytes("bracket.8.snooping", "bracket, 8 snooping attachments"),
    bytes(
        "bracket.1.nonsnooping",
        "bracket, 1 non-snooping attachment",
    ),
    bytes(
        "bracket.8.nonsnooping",
        "bracket, 8 non-snooping attachments",
    ),
    bytes(
        "bracket.part.nonsnooping",
        "bracket around 4 KiB, 1 non-snooping attachment",
    ),
    bytes("vmap", "vmap and vunmap"),
    bytes("query", "query"),
    Operation {
        name: "growth.alloc",
        title: "allocate 4 KiB, with live buffers",
        axis: Axis::Buffers,
    },
    Operation {
        name: "growth.free",
        title: "free 4 KiB, with live buffers",
        axis: Axis::Buffers,
    },
    Operation {
        name: "growth.attach",
        title: "attach and detach, with attachments",
        axis: Axis::Attachments,
    },
    Operation {
        name: "growth.map",
        title: "map and unmap, with mapped attachments",
        axis: Axis::Attachments,
    },
    Operation {
        name: "growth.bracket",
        title: "bracket, with mapped snooping attachments",
        axis: Axis::Attachments,
    },
    Operation {
        name: "parallel",
        title: "allocate and free 4 KiB at once, on CPUs",
        axis: Axis::Cpus,
    },
    devices("links.load", "load the module, with devices"),
    devices("links.add", "add a device, with devices"),
    devices("links.remove", "remove a device, with devices"),
    devices("links.search", "load another module, with devices"),
    devices("links.rule", "change a rule, with devices"),
];

/// In place of a heap, what a kernel is called in which devices get links, and
/// one in which they get none.
pub const LINKS: &str = "with links";
pub const NO_LINKS: &str = "without links";

/// The operation of this name.
pub fn operation(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

/// The in-tree heap that a heap of this name is compared with: the one whose
/// region it has. Nothing if it is that heap itself.
pub fn baseline(heap: &str) -> Option<&str> {
    if heap == LINKS {
        return Some(NO_LINKS);
    }
    ["-coherent", "-noncoherent", "-uncached"]
        .iter()
        .find_map(|mode| heap.strip_suffix(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heaps_are_compared_with_those_of_their_region() {
        assert_eq!(baseline("system-uncached"), Some("system"));
        let cma = baseline("default_cma_region-noncoherent");
        assert_eq!(cma, Some("default_cma_region"));
        assert_eq!(baseline("system"), None);
    }

    #[test]
    fn names_are_unique() {
        for (index, operation) in OPERATIONS.iter().enumerate() {
            assert!(
                OPERATIONS[..index]
                    .iter()
                    .all(|other| other.name != operation.name)
            );
        }
    }
}
