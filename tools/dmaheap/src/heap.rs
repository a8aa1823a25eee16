// SPDX-License-Identifier: MIT OR GPL-2.0

//! Heaps and what is known of them.

use crate::buffer::Allocator;
use crate::error::{Error, Result};
use crate::system::{System, attribute, base_name, entries};
use rustix::fs::{Access as May, AtFlags, CWD, Mode, OFlags, accessat, major, minor, open, stat};
use rustix::io::{Errno, retry_on_intr};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A DMA heap. What the kernel does not tell is `None`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Heap {
    /// The kernel's name for it, which links and buffers have too.
    pub name: String,
    /// Its device node: what has its device number, by whatever name.
    pub node: PathBuf,
    /// Whose it is, as far as one can see.
    pub exporter: Exporter,
    /// Whether only devices that snoop the CPU caches may use its buffers.
    pub dma_coherent: Option<bool>,
    /// Whether only devices that do not snoop the CPU caches may use its buffers. So it is with
    /// uncached heaps, except on x86: the kernel has a cached mapping of the same memory, which
    /// speculation may fill, and devices that snoop would read that.
    pub refuses_snooping: Option<bool>,
    /// How the CPU maps its buffers.
    pub cpu_mapping: Option<CpuMapping>,
    /// Whether each buffer is one physical block.
    pub contiguous: Option<bool>,
    /// How many bytes no buffer can exceed: the size of its region.
    pub capacity: Option<u64>,
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
    /// The kernel itself; what is known of it stands in the kernel's documentation, and with the
    /// module's heaps of the same region.
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

/// Whether the caller may open a heap's node. It was tried: nothing else tells.
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
    /// It may by the node's mode, and something else forbids it: a sandbox, a container's rules for
    /// devices, another security policy.
    Forbidden,
    /// There is no node.
    NoNode,
}

/// What all live buffers of a heap may have together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Limit {
    /// The heap's name.
    pub heap: String,
    /// How many bytes.
    pub limit: u64,
    /// How many of them are in use.
    pub bytes: u64,
}

/// `system has a limit of 4096 bytes, of which 0 are in use: root can change ...`
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { heap, limit, bytes } = self;
        write!(
            f,
            "{heap} has a limit of {limit} bytes, of which {bytes} are in use: root can change \
             /sys/class/dma_heap/{heap}/limit"
        )
    }
}

impl Heap {
    /// A heap of which no more than this is known.
    pub fn new(name: impl Into<String>, node: impl Into<PathBuf>) -> Self {
        let heap = Self::unknown(name.into(), node.into());
        let known = KERNEL_HEAPS.iter().find(|(known, _)| *known == heap.name);
        match known {
            Some((_, contiguous)) => heap.in_tree(Some(*contiguous)),
            None => heap,
        }
    }

    /// A heap of which not even the name tells what it is like.
    fn unknown(name: String, node: PathBuf) -> Self {
        Self {
            node,
            exporter: Exporter::Other,
            dma_coherent: None,
            refuses_snooping: None,
            cpu_mapping: None,
            contiguous: None,
            capacity: None,
            refused: None,
            buffers: None,
            bytes: None,
            limit: None,
            access: Access::Allowed,
            name,
        }
    }

    /// What all heaps of the kernel have in common: any device may use them, and all are cached.
    fn in_tree(self, contiguous: Option<bool>) -> Self {
        Self {
            exporter: Exporter::Kernel,
            dma_coherent: Some(false),
            refuses_snooping: Some(false),
            cpu_mapping: Some(CpuMapping::WriteBack),
            contiguous,
            ..self
        }
    }

    /// What the system tells of the heap of this name, which sysfs has.
    fn read(system: &System, name: &str, nodes: &[Node]) -> Result<Self> {
        let class = system.sys("class/dma_heap");
        let text_of = |heap: &str, file| attribute(&class.join(heap).join(file));
        let number_of = |heap: &str, file| -> Result<Option<u64>> {
            Ok(text_of(heap, file)?.and_then(|text| text.parse().ok()))
        };
        let number = |file| number_of(name, file);
        let maintained = format!("{name}-noncoherent");
        let heap = Self {
            refused: number("refused")?,
            buffers: number("buffers")?,
            bytes: number("bytes")?,
            limit: number("limit")?.filter(|limit| *limit > 0),
            ..Self::new(name, system.dev("dma_heap").join(name))
        };
        let heap = match Node::of(nodes, &heap.node, text_of(name, "dev")?) {
            Some(node) => heap.at(system, node)?,
            None => Self {
                access: Access::NoNode,
                ..heap
            },
        };
        let flag = |heap, file| -> Result<Option<bool>> {
            Ok(number_of(heap, file)?.map(|number| number != 0))
        };
        Ok(if let Some(coherent) = flag(name, "dma_coherent")? {
            let cpu_mapping = match text_of(name, "cpu_mapping")?.as_deref() {
                Some("write-back") => Some(CpuMapping::WriteBack),
                Some("write-combining") => Some(CpuMapping::WriteCombining),
                _ => None,
            };
            let is_x86 = system.is_x86()?;
            Self {
                exporter: Exporter::Module,
                dma_coherent: Some(coherent),
                refuses_snooping: cpu_mapping
                    .map(|mapping| mapping == CpuMapping::WriteCombining && !is_x86),
                cpu_mapping,
                contiguous: flag(name, "contiguous")?,
                capacity: number("capacity")?,
                ..heap
            }
        } else if flag(&maintained, "dma_coherent")?.is_some() {
            // It is the kernel's heap of the same region.
            let contiguous = flag(&maintained, "contiguous")?.or(heap.contiguous);
            Self {
                capacity: number_of(&maintained, "capacity")?,
                ..heap.in_tree(contiguous)
            }
        } else {
            heap
        })
    }

    /// The same with this node.
    fn at(self, system: &System, node: &Node) -> Result<Self> {
        Ok(Self {
            access: Access::of(system, &node.path)?,
            node: node.path.clone(),
            ..self
        })
    }

    /// Whether the module links devices to it without being told to.
    pub(crate) fn is_offered(&self) -> bool {
        match self.exporter {
            Exporter::Module => true,
            Exporter::Kernel => !FORMER_NAMES.contains(&self.name.as_str()),
            Exporter::Other => false,
        }
    }

    /// Its limit, if it has one.
    pub(crate) fn what_may_live(&self) -> Option<Limit> {
        Some(Limit {
            heap: self.name.clone(),
            limit: self.limit?,
            bytes: self.bytes?,
        })
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
/// they are contiguous.
const KERNEL_HEAPS: [(&str, bool); 4] = [
    ("system", false),
    ("default_cma_region", true),
    (FORMER_NAMES[0], true),
    (FORMER_NAMES[1], true),
];

/// Names of default_cma_region in older kernels.
const FORMER_NAMES: [&str; 2] = ["linux,cma", "reserved"];

/// All heaps, by name.
pub(crate) fn all(system: &System) -> Result<Vec<Heap>> {
    let nodes = Node::all(system)?;
    let class = system.sys("class/dma_heap");
    if class.is_dir() {
        let heaps = entries(&class)?.into_iter();
        return heaps
            .map(|heap| Heap::read(system, &base_name(&heap), &nodes))
            .collect();
    }
    // Without sysfs nobody says what a device number stands for. A node's name alone may be
    // anybody's choice.
    let heaps = nodes.iter();
    heaps
        .map(|node| Heap::unknown(base_name(&node.path), PathBuf::new()).at(system, node))
        .collect()
}

/// Which of these heaps a handle stands for.
pub(crate) fn position(system: &System, heaps: &[Heap], handle: &OsStr) -> Option<usize> {
    let path = match handle.as_bytes().contains(&b'/') {
        true => PathBuf::from(handle),
        false => system.dev("dma_heap").join(handle),
    };
    let find = |is_it: &dyn Fn(&Heap) -> bool| heaps.iter().position(is_it);
    find(&|heap| heap.name.as_str() == handle)
        .or_else(|| find(&|heap| heap.node == path))
        .or_else(|| {
            // What is no device has number 0.
            let device = |path: &Path| stat(path).ok().map(|stat| stat.st_rdev);
            let number = device(&path).filter(|number| *number != 0)?;
            find(&|heap| device(&heap.node) == Some(number))
        })
}

/// What is below `/dev/dma_heap`.
struct Node {
    path: PathBuf,
    /// Its device number, as sysfs writes it.
    number: String,
}

impl Node {
    fn all(system: &System) -> Result<Vec<Self>> {
        let paths = entries(&system.dev("dma_heap"))?.into_iter();
        let nodes = paths.filter_map(|path| {
            let number = stat(&path).ok()?.st_rdev;
            let number = format!("{}:{}", major(number), minor(number));
            Some(Self { path, number })
        });
        Ok(nodes.collect())
    }

    /// That of the heap with this number: if there are several, the one that has its name.
    fn of<'a>(nodes: &'a [Self], usual: &Path, number: Option<String>) -> Option<&'a Self> {
        let number = number?;
        let nodes = || nodes.iter().filter(|node| node.number == number);
        nodes()
            .find(|node| node.path == usual)
            .or_else(|| nodes().next())
    }
}

impl Access {
    /// Whether this process may open a node for reading, which is what allocating takes. access(2)
    /// asks for the real user, and neither security modules nor what a container may not open.
    fn of(system: &System, node: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match retry_on_intr(|| open(node, flags, Mode::empty())) {
            Ok(_) => Ok(Self::Allowed),
            Err(Errno::ACCESS | Errno::PERM) => Self::refused(system, node),
            Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Ok(Self::NoNode),
            Err(errno) => Err(Error::file(node)(errno)),
        }
    }

    /// Why a node could not be opened.
    pub(crate) fn refused(system: &System, node: &Path) -> Result<Self> {
        if accessat(CWD, node, May::READ_OK, AtFlags::EACCESS).is_ok() {
            return Ok(Self::Forbidden);
        }
        let stat = stat(node).ok();
        let by_group = stat.filter(|stat| stat.st_mode & 0o040 != 0 && stat.st_gid != 0);
        let group = by_group.map(|stat| system.group(stat.st_gid));
        Ok(Self::Denied {
            group: group.transpose()?,
        })
    }

    /// Whether it is [`Access::Allowed`].
    pub fn is_allowed(&self) -> bool {
        *self == Self::Allowed
    }
}
