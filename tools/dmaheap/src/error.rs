// SPDX-License-Identifier: MIT OR GPL-2.0

//! What can go wrong, each in a sentence that says what to try next.

use crate::choice::Unfit;
use crate::heap::{Access, Limit};
use crate::words::{denied, list};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The result of what can go wrong.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no heap at all.
    #[error(
        "this kernel has no DMA heaps: it needs CONFIG_DMABUF_HEAPS, and sysfs mounted on /sys"
    )]
    NoHeaps,
    /// There is no heap by this handle.
    #[error("there is no heap {name}: there are {}", list(.known))]
    NoSuchHeap {
        /// What was asked for.
        name: String,
        /// The heaps that there are.
        known: Vec<String>,
    },
    /// There is no device by this handle.
    #[error("there is no device {0}: `dmaheap devices` lists those that are known")]
    NoSuchDevice(String),
    /// The handle is something else than a device.
    #[error("{handle} is {what}: give a device node, a directory below /sys, or a device's name")]
    NotADevice {
        /// What was asked for.
        handle: String,
        /// What it is.
        what: &'static str,
    },
    /// The device of this node was unplugged, or its driver unloaded.
    #[error("the device of {0} is gone: open its node anew when it is back")]
    Gone(String),
    /// The handle stands for several devices.
    #[error("{handle} stands for several devices: name one of {}", list(.found))]
    Ambiguous {
        /// What was asked for.
        handle: String,
        /// The devices that it stands for.
        found: Vec<String>,
    },
    /// No heap is fit.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// There is no such process.
    #[error("there is no process {0}: it may have ended by now")]
    NoSuchProcess(u32),
    /// The heap's node may not be opened.
    #[error("{}", denied(.node, .access))]
    Denied {
        /// The node.
        node: PathBuf,
        /// Who may.
        access: Access,
    },
    /// A buffer of no bytes.
    #[error("a buffer of size 0 cannot be allocated: give at least 1 byte")]
    ZeroSize,
    /// There is not enough memory for a buffer.
    #[error("the heap {heap} has no memory for {size} bytes: {}", no_memory(.limit.as_ref()))]
    NoMemory {
        /// The heap's name.
        heap: String,
        /// What was asked for.
        size: u64,
        /// The heap's limit, if that is in the way.
        limit: Option<Limit>,
    },
    /// The name is too long, or has a NUL in it.
    #[error("a buffer's name has at most 31 bytes and no NUL: {0:?} does not fit")]
    BadName(OsString),
    /// Access beyond the end of a buffer, or of the part that a bracket is about; or a bracket around
    /// no bytes.
    #[error("{len} bytes at {offset} are not within bytes {} to {}", within.start, within.end)]
    OutOfBounds {
        /// Where the access begins.
        offset: usize,
        /// Its length.
        len: usize,
        /// The bytes that it may be to.
        within: Range<usize>,
    },
    /// No buffer can be imported by this node.
    #[error("{} cannot be tried: {why}", .node.display())]
    CannotTry {
        /// The node.
        node: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The descriptor is no dma-buf.
    #[error("the descriptor is no dma-buf: take one from a heap, VIDIOC_EXPBUF or PRIME")]
    NotADmaBuf,
    /// The module has no node for the query.
    #[error(
        "there is no /dev/dmabuf_coherency to ask: load the module dmabuf_coherency (modprobe)"
    )]
    NoQuery,
    /// A system call failed.
    #[error("{what}: {cause}{}", advice(.cause))]
    Io {
        /// What was being done.
        what: String,
        /// How that failed.
        cause: io::Error,
    },
}

impl Error {
    /// A closure for `map_err`: says what was being done.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |cause| Self::Io {
            what,
            cause: cause.into(),
        }
    }

    /// The same for a file.
    pub(crate) fn file<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> Self {
        move |cause| Self::io(path.display().to_string())(cause)
    }
}

/// What to do about it.
fn no_memory(limit: Option<&Limit>) -> String {
    match limit {
        Some(limit) => limit.to_string(),
        None => "try a smaller buffer, or see whether the control group or a small contiguous \
                 region is in the way"
            .into(),
    }
}

/// What to do about what the kernel says, if that is not plain.
fn advice(cause: &io::Error) -> &'static str {
    match Errno::from_io_error(cause) {
        Some(Errno::MFILE) => {
            ". This process has as many as it may: close some, or raise the limit (ulimit -n)"
        }
        _ => "",
    }
}
