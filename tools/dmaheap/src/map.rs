// SPDX-License-Identifier: MIT OR GPL-2.0

//! Access of the CPU, in brackets.
//!
//! Devices and other processes may write to a buffer at any time. So there are no references to
//! its bytes, which Rust would take not to change: they are copied in and out.

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::{ioctl, query};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A buffer that is mapped, and unmapped when dropped.
///
/// # Invariants
///
/// `start` is where a mapping of `buffer.size()` bytes begins that belongs to this value alone,
/// readable, and writable if `writable` says so.
#[derive(Debug)]
pub struct Mapped {
    pub(crate) start: NonNull<u8>,
    writable: bool,
    /// The module's node, which opens and closes brackets around parts, if it is there.
    node: OnceLock<Option<OwnedFd>>,
    /// It does not do it for this buffer, which is another exporter's; or the module is old.
    whole_only: AtomicBool,
    buffer: Buffer,
}

// SAFETY: The mapping belongs to this value, and all threads see the same memory.
unsafe impl Send for Mapped {}
// SAFETY: Nothing is done with the memory through a shared reference.
unsafe impl Sync for Mapped {}

impl Mapped {
    pub(crate) fn new(buffer: Buffer) -> Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&buffer).map_err(Error::io("looking at a dma-buf"))?;
        let writable = flags & OFlags::RWMODE == OFlags::RDWR;
        let protection = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        let start = map_aligned(&buffer, protection).map_err(Error::io("mapping a dma-buf"))?;
        // INVARIANT: This is the mapping that has just been made.
        Ok(Self {
            start: NonNull::new(start).expect("the kernel maps nothing at address 0"),
            writable,
            node: OnceLock::new(),
            whole_only: AtomicBool::new(false),
            buffer,
        })
    }

    /// Opens a bracket for reading.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn read(&mut self) -> Result<CpuAccess<'_, Read>> {
        CpuAccess::begin(self, None)
    }

    /// Opens a bracket for writing. What is not written stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], most likely as the buffer is read-only.
    pub fn write(&mut self) -> Result<CpuAccess<'_, Write>> {
        CpuAccess::begin(self, None)
    }

    /// Opens a bracket for both.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn read_write(&mut self) -> Result<CpuAccess<'_, ReadWrite>> {
        CpuAccess::begin(self, None)
    }

    /// Opens a bracket for reading just these bytes. It costs no more than they do if the module
    /// has exported the buffer, and what a bracket around the whole costs otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if they are not all in the buffer, or none; [`Error::Io`].
    pub fn read_part(&mut self, part: Range<usize>) -> Result<CpuAccess<'_, Read>> {
        CpuAccess::begin(self, Some(part))
    }

    /// Opens a bracket for writing just these bytes, as [`Self::read_part`] does for reading.
    ///
    /// # Errors
    ///
    /// As [`Self::read_part`] and [`Self::write`].
    pub fn write_part(&mut self, part: Range<usize>) -> Result<CpuAccess<'_, Write>> {
        CpuAccess::begin(self, Some(part))
    }

    /// Opens a bracket for both.
    ///
    /// # Errors
    ///
    /// As [`Self::write_part`].
    pub fn read_write_part(&mut self, part: Range<usize>) -> Result<CpuAccess<'_, ReadWrite>> {
        CpuAccess::begin(self, Some(part))
    }

    /// The buffer.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Opens a bracket around all bytes, or around a part of them.
    pub(crate) fn begin(&self, direction: u64, part: Option<&Range<usize>>) -> Result<()> {
        if direction & Write::FLAGS != 0 && !self.writable {
            let what = "writing to a dma-buf whose descriptor is read-only";
            return Err(Error::io(what)(Errno::ACCESS));
        }
        if let Some(part) = part {
            let (offset, len, size) = (part.start, part.len(), self.buffer.size());
            if len == 0 || part.end > size {
                let within = 0..size;
                return Err(Error::OutOfBounds {
                    offset,
                    len,
                    within,
                });
            }
        }
        self.sync(direction, part)
    }

    /// Closes it.
    pub(crate) fn end(&self, direction: u64, part: Option<&Range<usize>>) -> Result<()> {
        self.sync(direction | ioctl::DMA_BUF_SYNC_END, part)
    }

    fn sync(&self, flags: u64, part: Option<&Range<usize>>) -> Result<()> {
        match part {
            Some(part) => self.sync_part(flags, part),
            None => self.sync_whole(flags),
        }
    }

    fn sync_whole(&self, flags: u64) -> Result<()> {
        let mut flags = flags;
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::call(&self.buffer, ioctl::DMA_BUF_IOCTL_SYNC, &mut flags) }
            .map_err(Error::io("DMA_BUF_IOCTL_SYNC"))
    }

    fn sync_part(&self, flags: u64, part: &Range<usize>) -> Result<()> {
        let node = self.node.get_or_init(|| query::node().ok()).as_ref();
        let Some(node) = node.filter(|_| !self.whole_only.load(Ordering::Relaxed)) else {
            return self.sync_whole(flags);
        };
        let mut sync = ioctl::Sync {
            size: size_of::<ioctl::Sync>() as u32,
            fd: self.buffer.as_fd().as_raw_fd(),
            flags,
            offset: part.start as u64,
            length: part.len() as u64,
        };
        // SAFETY: The argument is of the type that the ioctl is for, and says how large it is.
        match unsafe { ioctl::call(node, ioctl::DMABUF_COHERENCY_IOCTL_SYNC, &mut sync) } {
            Err(Errno::OPNOTSUPP | Errno::NOTTY) => {
                self.whole_only.store(true, Ordering::Relaxed);
                self.sync_whole(flags)
            }
            result => result.map_err(Error::io("DMABUF_COHERENCY_IOCTL_SYNC")),
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: The mapping belongs to this value alone.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.buffer.size()) };
    }
}

impl AsFd for Mapped {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.buffer.as_fd()
    }
}

/// How much memory an entry of the second level of page tables maps, in bytes: 2 MiB with pages of
/// 4 KiB.
fn second_level() -> usize {
    let page = rustix::param::page_size();
    page / size_of::<u64>() * page
}

/// Maps all of `buffer`, to a multiple of [`second_level`] if it has so much. The kernel chooses
/// multiples of pages only, and large blocks at other addresses take an entry for each page.
fn map_aligned(buffer: &Buffer, protection: ProtFlags) -> rustix::io::Result<*mut u8> {
    let (size, align) = (buffer.size(), second_level());
    if size < align {
        // SAFETY: The kernel chooses an address that is free.
        let start = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                size,
                protection,
                MapFlags::SHARED,
                buffer,
                0,
            )
        }?;
        return Ok(start.cast());
    }

    let reserved = size.checked_add(align).ok_or(Errno::NOMEM)?;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: As above.
    let range = unsafe {
        rustix::mm::mmap_anonymous(ptr::null_mut(), reserved, ProtFlags::empty(), flags)
    }?;
    let before = range.addr().next_multiple_of(align) - range.addr();
    let start = range.wrapping_byte_add(before);
    let end = start.wrapping_byte_add(size);
    let after = reserved - before - size;
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    // SAFETY: This replaces a part of the range, which is ours and not used.
    let mapped = unsafe { rustix::mm::mmap(start, size, protection, flags, buffer, 0) };
    let unused = match mapped {
        Ok(_) => [(range, before), (end, after)],
        Err(_) => [(range, reserved), (end, 0)],
    };
    for (start, size) in unused {
        if size > 0 {
            // SAFETY: These are the parts of the range that are not used. They go, or stay reserved.
            let _ = unsafe { rustix::mm::munmap(start, size) };
        }
    }
    mapped.map(|start| start.cast())
}

/// What a bracket is for.
pub trait Direction: sealed::Direction {}
/// A bracket in which bytes may be read.
pub trait Readable: Direction {}
/// A bracket in which bytes may be written.
pub trait Writable: Direction {}

mod sealed {
    pub trait Direction {
        const FLAGS: u64;
    }
}

/// For reading.
#[derive(Debug)]
pub struct Read;
/// For writing.
#[derive(Debug)]
pub struct Write;
/// For reading and writing.
#[derive(Debug)]
pub struct ReadWrite;

impl sealed::Direction for Read {
    const FLAGS: u64 = ioctl::DMA_BUF_SYNC_READ;
}
impl sealed::Direction for Write {
    const FLAGS: u64 = ioctl::DMA_BUF_SYNC_WRITE;
}
impl sealed::Direction for ReadWrite {
    const FLAGS: u64 = Read::FLAGS | Write::FLAGS;
}
use sealed::Direction as _;
impl<T: sealed::Direction> Direction for T {}
impl Readable for Read {}
impl Readable for ReadWrite {}
impl Writable for Write {}
impl Writable for ReadWrite {}

/// An open bracket; ended when dropped. There can be one at a time, as brackets are not counted.
///
/// Coherency is no synchronisation: open it when the devices are done, after `VIDIOC_DQBUF` or
/// when `poll()` on the buffer says so.
#[derive(Debug)]
pub struct CpuAccess<'a, D: Direction> {
    mapped: &'a mut Mapped,
    /// The bytes that it is about, if not all.
    part: Option<Range<usize>>,
    direction: PhantomData<D>,
}

impl<'a, D: Direction> CpuAccess<'a, D> {
    fn begin(mapped: &'a mut Mapped, part: Option<Range<usize>>) -> Result<Self> {
        mapped.begin(D::FLAGS, part.as_ref())?;
        Ok(Self {
            mapped,
            part,
            direction: PhantomData,
        })
    }

    /// Where the bytes `offset..offset + len` of the buffer are.
    fn at(&self, offset: usize, len: usize) -> Result<*mut u8> {
        let all = 0..self.mapped.buffer.size();
        let within = self.part.clone().unwrap_or(all);
        let end = offset.checked_add(len);
        if offset < within.start || end.is_none_or(|end| end > within.end) {
            return Err(Error::OutOfBounds {
                offset,
                len,
                within,
            });
        }
        // SAFETY: It is within the mapping.
        Ok(unsafe { self.mapped.start.as_ptr().add(offset) })
    }

    /// Ends it, and says how that went; dropping it cannot.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: devices may not see what was written.
    pub fn end(self) -> Result<()> {
        ManuallyDrop::new(self).finish()
    }

    fn finish(&mut self) -> Result<()> {
        self.mapped.end(D::FLAGS, self.part.as_ref())
    }
}

impl<D: Direction> Drop for CpuAccess<'_, D> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

impl<D: Readable> CpuAccess<'_, D> {
    /// Copies bytes out of the buffer.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`], and nothing is copied.
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        let from = self.at(offset, to.len())?;
        // SAFETY: All of it is within the mapping, and `to` is memory of its own.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        Ok(())
    }
}

impl<D: Writable> CpuAccess<'_, D> {
    /// Copies bytes into the buffer.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`], and nothing is copied.
    pub fn copy_from(&mut self, offset: usize, from: &[u8]) -> Result<()> {
        let to = self.at(offset, from.len())?;
        // SAFETY: All of it is within the mapping, which is writable, as `begin()` has checked;
        // `from` is memory of its own.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    /// Sets `len` bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::copy_from`].
    pub fn fill(&mut self, offset: usize, len: usize, byte: u8) -> Result<()> {
        let to = self.at(offset, len)?;
        // SAFETY: All of it is within the mapping, which is writable, as `begin()` has checked.
        unsafe { ptr::write_bytes(to, byte, len) };
        Ok(())
    }
}
