// SPDX-License-Identifier: MIT OR GPL-2.0

//! Heaps and what is known of them.

use crate::buffer::Allocator;
use crate::error::Result;
use crate::system::{System, attribute, base_name, entries};
use rustix::fs::{Access as Mode, access};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A DMA heap. What the kernel does not tell is `None`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Heap {
    /// Its name below `/dev/dma_heap`.
    pub name: String,
    /// Its device node.
    pub node: PathBuf,
    /// Whose it is, as far as one can see.
    pub exporter: Exporter,
    /// Whether only devices that snoop the CPU caches may use its buffers.
    pub dma_coherent: Option<bool>,
    /// How the CPU maps its buffers.
    pub cpu_mapping: Option<CpuMapping>,
    /// Whether each buffer is one physical block.
    pub contiguous: Option<bool>,
    /// How many attachments and mappings it has refused.
    pub refused: Option<u64>,
    /// How many of its buffers live.
    pub buffers: Option<u64>,
    /// How many bytes they have.
    pub bytes: Option<u64>,
    /// How many bytes they may have; `None` for no limit, too.
    pub limit: Option<u64>,
    /// Whether the caller may allocate.
    pub access: Access,
}

/// Whose a heap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
pub enum Exporter {
    /// The module dmabuf_coherency.
    Module,
    /// The kernel itself; what is known of it stands in the kernel's documentation.
    Kernel,
    /// Another driver, of whose heap nothing is known.
    Other,
}

/// How the CPU maps a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
pub enum CpuMapping {
    /// Cached.
    WriteBack,
    /// Not cached: fast to write from one end to the other, very slow to read.
    WriteCombining,
}

impl CpuMapping {
    /// The kernel's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WriteBack => "write-back",
            Self::WriteCombining => "write-combining",
        }
    }
}

/// Whether the caller may open a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case", tag = "answer")
)]
pub enum Access {
    /// It may.
    Allowed,
    /// It may not.
    Denied {
        /// The group that may; if there is none, only root may.
        group: Option<String>,
    },
    /// There is no node.
    NoNode,
}

impl Heap {
    /// A heap of which no more than this is known.
    pub fn new(name: impl Into<String>, node: impl Into<PathBuf>) -> Self {
        let name = name.into();
        let known = KERNEL_HEAPS.iter().find(|(known, _)| *known == name);
        Self {
            node: node.into(),
            exporter: known.map_or(Exporter::Other, |_| Exporter::Kernel),
            dma_coherent: known.map(|_| false),
            cpu_mapping: known.map(|_| CpuMapping::WriteBack),
            contiguous: known.map(|(_, contiguous)| *contiguous),
            refused: None,
            buffers: None,
            bytes: None,
            limit: None,
            access: Access::Allowed,
            name,
        }
    }

    /// What the system tells of the heap of this name.
    pub(crate) fn read(system: &System, name: String) -> Self {
        let directory = system.sys("class/dma_heap").join(&name);
        let number = |file: &str| attribute(&directory.join(file))?.parse().ok();
        let node = system.dev("dma_heap").join(&name);
        let mut heap = Self {
            refused: number("refused"),
            buffers: number("buffers"),
            bytes: number("bytes"),
            limit: number("limit").filter(|limit| *limit > 0),
            access: Access::of(system, &node),
            ..Self::new(name, node)
        };
        if let Some(coherent) = number("dma_coherent") {
            heap.exporter = Exporter::Module;
            heap.dma_coherent = Some(coherent != 0);
            heap.contiguous = number("contiguous").map(|contiguous| contiguous != 0);
            heap.cpu_mapping = match attribute(&directory.join("cpu_mapping")).as_deref() {
                Some("write-back") => Some(CpuMapping::WriteBack),
                Some("write-combining") => Some(CpuMapping::WriteCombining),
                _ => None,
            };
        }
        heap
    }

    /// Opens it, to allocate.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`](crate::Error::Denied).
    pub fn open(&self) -> Result<Allocator> {
        Allocator::open(self)
    }
}

/// The heaps that the kernel's documentation tells of (userspace-api/dma-buf-heaps), and whether
/// they are contiguous. Any device may use them, and all are cached.
const KERNEL_HEAPS: [(&str, bool); 4] = [
    ("system", false),
    ("default_cma_region", true),
    // Names of that region in older kernels.
    ("linux,cma", true),
    ("reserved", true),
];

/// All heaps, by name: those in sysfs, and where that is not mounted those with nodes.
pub(crate) fn all(system: &System) -> Result<Vec<Heap>> {
    let directories = [system.sys("class/dma_heap"), system.dev("dma_heap")];
    let paths = directories.iter().flat_map(|directory| entries(directory));
    let names: BTreeSet<_> = paths.map(|path| base_name(&path)).collect();
    Ok(names
        .into_iter()
        .map(|name| Heap::read(system, name))
        .collect())
}

impl Access {
    /// Whether this process may open a node for reading, which is what allocating takes.
    fn of(system: &System, node: &Path) -> Self {
        let Ok(metadata) = fs::metadata(node) else {
            return Self::NoNode;
        };
        if access(node, Mode::READ_OK).is_ok() {
            return Self::Allowed;
        }
        let by_group = metadata.mode() & 0o040 != 0 && metadata.gid() != 0;
        Self::Denied {
            group: by_group.then(|| system.group(metadata.gid())),
        }
    }

    /// Whether it is [`Access::Allowed`].
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allowed
    }
}
