// SPDX-License-Identifier: GPL-2.0

//! Memory-mapped buffers. A device or another process may write to them at any
//! time, so they are copied to and from, never borrowed.

use anyhow::{Result, ensure};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::{self, NonNull};

/// The size of a page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// How many bytes an entry of the second level of page tables maps.
pub fn entry_size() -> usize {
    page_size() * page_size() / 8
}

/// The part of a buffer to map, and how to map it.
#[derive(Clone, Copy)]
pub struct Window {
    pub offset: u64,
    pub len: usize,
    pub protection: ProtFlags,
    pub flags: MapFlags,
}

impl Window {
    /// The first `len` bytes, readable, writable, shared.
    pub fn of(len: usize) -> Self {
        Self {
            offset: 0,
            len,
            protection: ProtFlags::READ | ProtFlags::WRITE,
            flags: MapFlags::SHARED,
        }
    }

    pub fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    pub fn protection(self, protection: ProtFlags) -> Self {
        Self { protection, ..self }
    }

    pub fn flags(self, flags: MapFlags) -> Self {
        Self { flags, ..self }
    }
}

/// A mapping. Dropping it unmaps it.
///
/// # Invariants
///
/// `start` and `len` are page-aligned and name a mapping that belongs to this
/// value alone.
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: The mapping belongs to this value, and all threads see the same memory.
unsafe impl Send for Mapping {}
// SAFETY: Shared accesses copy bytes from memory that others may change anyway; a torn copy is
// still made of bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub fn new(fd: impl AsFd, window: &Window) -> Result<Self, Errno> {
        let Window {
            offset,
            len,
            protection,
            flags,
        } = *window;
        // SAFETY: The kernel chooses an address that is free.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), len, protection, flags, fd, offset)? };
        // INVARIANT: This is the mapping that the kernel has just made.
        Ok(Self::from_raw(start, len))
    }

    /// Private memory of this process that belongs to no buffer.
    pub fn anonymous(len: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: The kernel chooses an address that is free.
        let start = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), len, protection, MapFlags::PRIVATE)?
        };
        // INVARIANT: This is the mapping that the kernel has just made.
        Ok(Self::from_raw(start, len))
    }

    /// Maps the first `len` bytes of a file at `address`, which must be free.
    pub fn at(fd: impl AsFd, len: usize, address: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
        let address = ptr::without_provenance_mut(address);
        // SAFETY: The kernel refuses an address that is not free.
        let start = unsafe { rustix::mm::mmap(address, len, protection, flags, fd, 0)? };
        // INVARIANT: This is the mapping that the kernel has just made.
        Ok(Self::from_raw(start, len))
    }

    fn from_raw(start: *mut c_void, len: usize) -> Self {
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at address 0");
        Self { start, len }
    }

    #[expect(clippy::len_without_is_empty, reason = "mappings are not empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn pages(&self) -> usize {
        self.len / page_size()
    }

    /// The address, for calls that take one.
    pub fn address(&self) -> usize {
        self.start.as_ptr().expose_provenance()
    }

    fn check(&self, offset: usize, len: usize) {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
    }

    pub fn read(&self, offset: usize, to: &mut [u8]) {
        self.check(offset, to.len());
        // SAFETY: The range was checked, and `to` is memory of its own.
        unsafe {
            ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), to.as_mut_ptr(), to.len())
        }
    }

    /// Reads one byte, even if the caller does not use it.
    pub fn read_byte(&self, offset: usize) -> u8 {
        self.check(offset, 1);
        // SAFETY: The offset was checked.
        unsafe { self.start.as_ptr().add(offset).read_volatile() }
    }

    pub fn write(&self, offset: usize, from: &[u8]) {
        self.check(offset, from.len());
        // SAFETY: The range was checked, and `from` is memory of its own.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), self.start.as_ptr().add(offset), from.len())
        }
    }

    pub fn fill(&self, byte: u8) {
        // SAFETY: The mapping is `len` long.
        unsafe { ptr::write_bytes(self.start.as_ptr(), byte, self.len) }
    }

    /// Writes to one byte of each page.
    pub fn touch(&self) {
        for offset in (0..self.len).step_by(page_size()) {
            // SAFETY: The offset lies in the mapping.
            unsafe { self.start.as_ptr().add(offset).write_volatile(1) };
        }
    }

    /// Reads all of it, a word at a time.
    pub fn read_words(&self) {
        for word in 0..self.len / size_of::<u64>() {
            // SAFETY: The word lies in the mapping, which is aligned to pages.
            unsafe { self.start.as_ptr().cast::<u64>().add(word).read_volatile() };
        }
    }

    /// Writes all of it, a word at a time.
    pub fn write_words(&self, value: u64) {
        for word in 0..self.len / size_of::<u64>() {
            // SAFETY: The word lies in the mapping, which is aligned to pages.
            unsafe {
                self.start
                    .as_ptr()
                    .cast::<u64>()
                    .add(word)
                    .write_volatile(value)
            };
        }
    }

    /// Tells the kernel to use single pages for the mapping.
    pub fn want_single_pages(&self) -> Result<(), Errno> {
        let start = self.start.as_ptr().cast();
        // SAFETY: The mapping is `len` long.
        unsafe { rustix::mm::madvise(start, self.len, Advice::LinuxNoHugepage) }
    }

    /// Makes the mapping of single pages, and locks them in memory.
    pub fn lock_single_pages(&self) -> Result<(), Errno> {
        self.want_single_pages()?;
        // SAFETY: The mapping is `len` long.
        unsafe { rustix::mm::mlock(self.start.as_ptr().cast(), self.len) }
    }

    /// Gives every second page of private memory back to the kernel, locked or not.
    pub fn drop_every_second_page(&self) -> Result<(), Errno> {
        for page in (0..self.pages()).step_by(2) {
            // SAFETY: The page lies in the mapping; later reads find zeroes.
            unsafe {
                let start = self.start.as_ptr().add(page * page_size()).cast();
                rustix::mm::madvise(start, page_size(), Advice::LinuxDontneedLocked)?;
            }
        }
        Ok(())
    }

    /// The first byte from `from` on that is not `byte`, and where it is.
    pub fn first_other_than(&self, byte: u8, from: usize) -> Option<(usize, u8)> {
        let mut chunk = vec![0; page_size()];
        let wanted = vec![byte; page_size()];
        let mut offset = from;
        while offset < self.len {
            let part = (self.len - offset).min(chunk.len());
            self.read(offset, &mut chunk[..part]);
            if chunk[..part] != wanted[..part] {
                let at = chunk[..part].iter().position(|seen| *seen != byte)?;
                return Some((offset + at, chunk[at]));
            }
            offset += part;
        }
        None
    }

    /// Fails unless every byte is 0.
    pub fn expect_zeroed(&self, what: &str) -> Result<()> {
        let found = self.first_other_than(0, 0);
        ensure!(
            found.is_none(),
            "{what}: expected zeroed memory, got {found:x?} (offset, byte)"
        );
        Ok(())
    }

    /// Marks both ends of each page with `tag` and the page's number.
    pub fn stamp(&self, tag: u32) {
        for page in 0..self.pages() {
            let stamp = Stamp::new(tag, page);
            self.write(page * page_size(), &stamp.0);
            self.write((page + 1) * page_size() - stamp.0.len(), &stamp.0);
        }
    }

    /// Fails unless `stamp()` has marked the pages. The first one must be page `first` of
    /// the buffer.
    pub fn expect_stamped(&self, what: &str, tag: u32, first: usize) -> Result<()> {
        for page in 0..self.pages() {
            let expected = Stamp::new(tag, first + page);
            let mut seen = Stamp([0; 8]);
            for at in [page * page_size(), (page + 1) * page_size() - seen.0.len()] {
                self.read(at, &mut seen.0);
                ensure!(
                    seen == expected,
                    "{what}: at offset {at:#x} expected the mark {:02x?} of page {}, got {:02x?}",
                    expected.0,
                    first + page,
                    seen.0
                );
            }
        }
        Ok(())
    }

    /// The address as a pointer, for calls that the kernel checks.
    pub fn pointer(&self) -> *mut c_void {
        self.start.as_ptr().cast()
    }

    /// Changes which accesses are allowed. Any other access ends the process.
    pub fn protect(&self, protection: MprotectFlags) -> Result<(), Errno> {
        // SAFETY: The mapping belongs to this value, and is only ever copied to and from.
        unsafe { rustix::mm::mprotect(self.pointer(), self.len, protection) }
    }

    /// Unmaps `hole`, and returns the parts to the left and to the right of it.
    pub fn without(self, hole: Range<usize>) -> Result<(Self, Self), Errno> {
        self.check(hole.start, hole.len());
        // SAFETY: The range was checked; `self` is taken apart below, so nobody reaches the hole.
        unsafe { rustix::mm::munmap(self.start.as_ptr().add(hole.start).cast(), hole.len())? };
        let whole = std::mem::ManuallyDrop::new(self);
        // SAFETY: Both lie in the mapping, which has been given up.
        let right = unsafe { whole.start.add(hole.end) };
        // INVARIANT: The two parts do not overlap, and their former owner is not dropped.
        Ok((
            Self {
                start: whole.start,
                len: hole.start,
            },
            Self {
                start: right,
                len: whole.len - hole.end,
            },
        ))
    }

    /// Maps a file, from `offset` on, over this mapping.
    pub fn replaced_by(self, fd: impl AsFd, offset: u64) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: What is replaced belongs to `self`, which names the new mapping then.
        unsafe {
            let start = self.start.as_ptr().cast();
            rustix::mm::mmap(start, self.len, protection, flags, fd, offset)?;
        }
        Ok(self)
    }

    /// Makes the mapping `len` bytes long. The kernel may move it anywhere.
    pub fn resized(self, len: usize) -> Result<Self, Errno> {
        // If another mapping follows this one, it can grow only elsewhere.
        // SAFETY: The mapping belongs to `self`, which is given up if it has moved.
        let start = unsafe {
            rustix::mm::mremap(
                self.start.as_ptr().cast(),
                self.len,
                len,
                MremapFlags::MAYMOVE,
            )?
        };
        std::mem::forget(self);
        // INVARIANT: This is where the kernel says that the mapping is now.
        Ok(Self::from_raw(start, len))
    }

    /// Moves the mapping over another one of the same length, which it replaces.
    pub fn moved_over(self, other: Self) -> Result<Self, Errno> {
        assert_eq!(self.len, other.len);
        // SAFETY: Both mappings belong to this function; `other` is replaced.
        unsafe {
            rustix::mm::mremap_fixed(
                self.start.as_ptr().cast(),
                self.len,
                self.len,
                MremapFlags::MAYMOVE,
                other.start.as_ptr().cast(),
            )?;
        }
        std::mem::forget(self);
        // INVARIANT: `other` now names what `self` named.
        Ok(other)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The mapping belongs to this value alone. (An empty one is refused, harmlessly.)
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The mark of a page: the tag, then the page's number.
#[derive(PartialEq)]
struct Stamp([u8; 8]);

impl Stamp {
    fn new(tag: u32, page: usize) -> Self {
        let number = (u64::from(tag) << 32) | page as u64;
        Self(number.to_be_bytes())
    }
}
