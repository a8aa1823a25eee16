// SPDX-License-Identifier: MIT OR GPL-2.0

//! Allocation.

use crate::error::{Error, Result};
use crate::heap::{Access, Heap};
use crate::ioctl::{self, AllocationData};
use crate::map::Mapped;
use crate::query::{Answer, query};
use crate::system::System;
use rustix::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// A heap that is open for allocation.
#[derive(Debug)]
pub struct Allocator {
    heap: String,
    fd: OwnedFd,
}

/// What to allocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    size: u64,
    read_only: bool,
    heap_flags: u64,
    name: Option<OsString>,
}

impl Request {
    /// A buffer of at least `size` bytes, readable and writable.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            read_only: false,
            heap_flags: 0,
            name: None,
        }
    }

    /// Nobody may map it for writing through this descriptor.
    pub fn read_only(self) -> Self {
        Self {
            read_only: true,
            ..self
        }
    }

    /// Flags for the heap. Linux 7.3 has none, and refuses all with `EINVAL`.
    pub fn heap_flags(self, heap_flags: u64) -> Self {
        Self { heap_flags, ..self }
    }

    /// A name, up to 31 bytes of anything but NUL, that shows in `/proc/<pid>/fdinfo` and in debugfs.
    pub fn name(self, name: impl Into<OsString>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }
}

impl Allocator {
    pub(crate) fn open(heap: &Heap) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let denied = |access| Error::Denied {
            node: heap.node.clone(),
            access,
        };
        match rustix::fs::open(&heap.node, flags, Mode::empty()) {
            Ok(fd) => Ok(Self {
                heap: heap.name.clone(),
                fd,
            }),
            Err(Errno::ACCESS | Errno::PERM) => Err(denied(match &heap.access {
                // It was so when the heap was looked at.
                Access::Allowed => Access::refused(&System::new(), &heap.node)?,
                access => access.clone(),
            })),
            Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Err(denied(Access::NoNode)),
            Err(errno) => Err(Error::file(&heap.node)(errno)),
        }
    }

    /// Allocates a buffer. Its size is rounded up to whole pages, and all bytes are zero.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`], [`Error::NoMemory`], [`Error::BadName`]; [`Error::Io`] for what else
    /// the kernel may say.
    pub fn alloc(&self, request: &Request) -> Result<Buffer> {
        if request.size == 0 {
            return Err(Error::ZeroSize);
        }
        if request.size > total_memory() {
            return Err(self.no_memory(request));
        }
        let name = request.name.as_deref().map(checked_name).transpose()?;
        let mode = if request.read_only {
            OFlags::RDONLY
        } else {
            OFlags::RDWR
        };
        let mut data = AllocationData {
            len: request.size,
            fd: 0,
            fd_flags: (mode | OFlags::CLOEXEC).bits(),
            heap_flags: request.heap_flags,
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        let result = unsafe { ioctl::call(&self.fd, ioctl::DMA_HEAP_IOCTL_ALLOC, &mut data) };
        result.map_err(|errno| match errno {
            Errno::NOMEM => self.no_memory(request),
            errno => Error::io(format!("allocating from the heap {}", self.heap))(errno),
        })?;
        // SAFETY: The ioctl has succeeded, so the descriptor is new and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(data.fd as i32) };
        let buffer = Buffer::from_fd(fd)?;
        if let Some(name) = name {
            buffer.set_c_name(&name)?;
        }
        Ok(buffer)
    }

    fn no_memory(&self, request: &Request) -> Error {
        // What is in use by now.
        let heap = System::new().heap(&self.heap).ok();
        let limit = heap.and_then(|heap| heap.what_may_live());
        Error::NoMemory {
            heap: self.heap.clone(),
            size: request.size,
            limit: limit.filter(|limit| limit.bytes.saturating_add(request.size) > limit.limit),
        }
    }
}

/// How many bytes of memory the machine has. The kernel's own heaps do not look, and call the OOM
/// killer in the end.
fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    #[allow(
        clippy::useless_conversion,
        reason = "a number of 32 bits on such systems"
    )]
    let units = u64::from(info.totalram);
    units.saturating_mul(info.mem_unit.into())
}

/// The file system of dma-bufs, by `linux/magic.h`.
const DMA_BUF_MAGIC: u64 = 0x444d_4142;

fn checked_name(name: &OsStr) -> Result<CString> {
    CString::new(name.as_bytes())
        .ok()
        .filter(|name| name.as_bytes_with_nul().len() <= ioctl::DMA_BUF_NAME_LEN)
        .ok_or_else(|| Error::BadName(name.into()))
}

/// A dma-buf. It lives until the last descriptor, mapping and importer let go of it.
#[derive(Debug)]
pub struct Buffer {
    fd: OwnedFd,
    size: usize,
}

impl Buffer {
    /// A dma-buf of any exporter.
    ///
    /// # Errors
    ///
    /// [`Error::NotADmaBuf`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let file_system = rustix::fs::fstatfs(&fd).map_err(Error::io("looking at a dma-buf"))?;
        if file_system.f_type as u64 != DMA_BUF_MAGIC {
            return Err(Error::NotADmaBuf);
        }
        let size = rustix::fs::seek(&fd, SeekFrom::End(0)).map_err(|_| Error::NotADmaBuf)?;
        let size = usize::try_from(size).map_err(|_| Error::NotADmaBuf)?;
        Ok(Self { fd, size })
    }

    /// Its size in bytes, a whole number of pages.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Gives it a name, as [`Request::name`] does.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`].
    pub fn set_name(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.set_c_name(&checked_name(name.as_ref())?)
    }

    fn set_c_name(&self, name: &CString) -> Result<()> {
        let mut bytes = [0; ioctl::DMA_BUF_NAME_LEN];
        let with_nul = name.as_bytes_with_nul();
        bytes[..with_nul.len()].copy_from_slice(with_nul);
        // SAFETY: The kernel reads a string of at most so many bytes, which ends in NUL.
        unsafe { ioctl::call(&self.fd, ioctl::DMA_BUF_SET_NAME, &mut bytes) }
            .map_err(Error::io("naming a dma-buf"))
    }

    /// What the module knows of it.
    ///
    /// # Errors
    ///
    /// See [`query()`].
    pub fn query(&self) -> Result<Answer> {
        query(&self.fd)
    }

    /// Maps all of it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn map(self) -> Result<Mapped> {
        Mapped::new(self)
    }
}

impl AsFd for Buffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Buffer> for OwnedFd {
    fn from(buffer: Buffer) -> Self {
        buffer.fd
    }
}
