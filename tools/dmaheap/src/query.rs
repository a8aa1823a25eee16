// SPDX-License-Identifier: MIT OR GPL-2.0

//! What the module knows of a dma-buf.

use crate::error::{Error, Result};
use crate::heap::CpuMapping;
use crate::ioctl::{self, Query};
use rustix::fd::{AsFd, AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const NODE: &str = "/dev/dmabuf_coherency";

const EXPORTED_HERE: u64 = 1 << 0;
const DMA_COHERENT: u64 = 1 << 1;
const CONTIGUOUS: u64 = 1 << 2;

/// What the module says of a buffer that it has exported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Whether the module exported it. If not, nothing else is known.
    pub exported_here: bool,
    /// Whether every device that is attached snoops the CPU caches.
    pub dma_coherent: Option<bool>,
    /// Whether it is one physical block.
    pub contiguous: Option<bool>,
    /// How the CPU maps it.
    pub cpu_mapping: Option<CpuMapping>,
    /// The heap that it was allocated from.
    pub heap: Option<String>,
}

/// Opens the module's node.
///
/// # Errors
///
/// [`Error::NoQuery`]; [`Error::Io`] if it may not be opened.
pub(crate) fn node() -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(NODE, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => Error::NoQuery,
        errno => Error::io(NODE)(errno),
    })
}

/// Asks the module about a dma-buf. No privilege is needed where its udev rule is in place.
///
/// # Errors
///
/// [`Error::NoQuery`], [`Error::NotADmaBuf`]; [`Error::Io`] if `/dev/dmabuf_coherency` may not be
/// opened.
pub fn query(fd: impl AsFd) -> Result<Answer> {
    let node = node()?;
    let mut query = Query {
        size: size_of::<Query>() as u32,
        fd: fd.as_fd().as_raw_fd(),
        flags: 0,
        cpu_mapping: 0,
        properties: 0,
        reserved: 0,
        heap: [0; 64],
    };
    // SAFETY: The argument is of the type that the ioctl is for, and says how large it is.
    let result = unsafe { ioctl::call(&node, ioctl::DMABUF_COHERENCY_IOCTL_QUERY, &mut query) };
    match result {
        Ok(()) => Ok(query.into()),
        Err(Errno::INVAL) => Err(Error::NotADmaBuf),
        Err(errno) => Err(Error::io("asking about a dma-buf")(errno)),
    }
}

impl From<Query> for Answer {
    fn from(query: Query) -> Self {
        let exported_here = query.properties & EXPORTED_HERE != 0;
        let known = |bit| exported_here.then_some(query.properties & bit != 0);
        let heap = query.heap.split(|byte| *byte == 0).next();
        let heap = heap.map(|name| String::from_utf8_lossy(name).into_owned());
        Self {
            exported_here,
            dma_coherent: known(DMA_COHERENT),
            contiguous: known(CONTIGUOUS),
            cpu_mapping: match query.cpu_mapping {
                1 => Some(CpuMapping::WriteBack),
                2 => Some(CpuMapping::WriteCombining),
                _ => None,
            },
            heap: heap.filter(|name| !name.is_empty()),
        }
    }
}
