// SPDX-License-Identifier: GPL-2.0

//! Mappings whose memory and addresses have the same alignment. One entry of the second
//! level of page tables, a huge entry, maps what otherwise takes a whole page table.

use super::Test;
use super::memory_type::{expected, frames, protected};
use crate::expect::skip;
use crate::heap::Buffer;
use crate::mapping::{Mapping, entry_size, page_size};
use crate::memory_type::PageTables;
use crate::options::Options;
use crate::process::in_fork;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::mm::{Advice, MprotectFlags};
use std::ffi::c_void;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

pub const TESTS: &[Test] = &[
    Test::new(
        "mmap.huge_entries",
        "an aligned mapping takes no page tables, and has the right pages",
        entries,
    ),
    Test::new(
        "mmap.huge_one_fault",
        "the first access to an aligned mapping maps all of it",
        one_fault,
    ),
    Test::new(
        "mmap.huge_memory_type",
        "huge entries map memory as the heap's mode says",
        memory_type,
    ),
    Test::new(
        "mmap.huge_offset",
        "a window that begins in the middle of a huge entry has the right pages",
        offset,
    ),
    Test::new(
        "mmap.huge_unwanted",
        "a process that wants no huge entries gets pages",
        unwanted,
    ),
    Test::new(
        "mmap.huge_split",
        "making a hole or a read-only part leaves the rest as it is",
        split,
    ),
    Test::new(
        "mmap.huge_moved",
        "a mapping can move to an address that is not aligned, touched or not",
        moved,
    ),
    Test::new(
        "mmap.huge_fork",
        "parent and child share the mapping, whichever touches it first",
        fork,
    ),
    Test::new(
        "mmap.huge_pinned",
        "the pages of a huge entry cannot be pinned",
        pinned,
    ),
    Test::new(
        "mmap.huge_race",
        "threads may touch the mapping while huge entries are forbidden and allowed",
        race,
    ),
];

const PATTERN: u32 = 0x0b16_b10c;

/// How many bytes an entry of the second level maps, with pages of 4 KiB. With larger pages an
/// entry maps more than any block of memory has.
const HUGE: usize = 2 << 20;

/// The size of the buffer.
const SIZE: usize = 8 * HUGE;

/// The largest size, in bytes, of the page tables that a mapping needs anyway: one at either end that
/// is not aligned, and those of higher levels.
const FEW_TABLES: usize = 5 * 4096;

/// A buffer, and by how many bytes its memory begins after a multiple of [`HUGE`].
struct Huge {
    buffer: Buffer,
    phase: usize,
}

impl Huge {
    /// A stamped buffer.
    fn new(options: &Options) -> Result<Self> {
        options.need_our_heap()?;
        if entry_size() != HUGE {
            return skip(format!(
                "with these pages an entry maps {} MiB, more than a block has",
                entry_size() >> 20
            ));
        }
        let mut buffer = options.heap()?.alloc(SIZE)?;
        let mapping = buffer.map()?;
        buffer.bracketed(|| mapping.stamp(PATTERN))?;
        drop(mapping);
        // The page allocator aligns blocks to their size, a contiguous area to 1 MiB at least.
        for phase in [0, HUGE / 2] {
            let huge = Self { buffer, phase };
            let before = page_tables()?;
            let mapping = huge.map(0)?;
            mapping.expect_stamped("an aligned mapping", PATTERN, 0)?;
            if page_tables()?.saturating_sub(before) <= FEW_TABLES {
                return Ok(huge);
            }
            buffer = huge.buffer;
        }
        bail!("expected that a mapping needs no page tables wherever the memory is aligned")
    }

    /// Maps all of it. Memory and addresses have the same alignment, except for `shift` bytes.
    fn map(&self, shift: usize) -> Result<Mapping> {
        self.map_from(0, shift)
    }

    /// The same from an offset on.
    fn map_from(&self, offset: usize, shift: usize) -> Result<Mapping> {
        let place = place(SIZE - offset, self.phase + offset + shift)?;
        place
            .replaced_by(&self.buffer, offset as u64)
            .context("mapping the buffer")
    }
}

/// Memory to be replaced, which begins `phase` bytes after a multiple of [`HUGE`].
fn place(len: usize, phase: usize) -> Result<Mapping> {
    let room = Mapping::anonymous(len + 2 * HUGE)?;
    // There are bytes left on either side, as an empty range cannot be unmapped.
    let skip = phase.wrapping_sub(room.address() + 1) % HUGE + 1;
    let (_, room) = room.without(0..skip)?;
    let behind = room.len();
    let (place, _) = room.without(len..behind)?;
    Ok(place)
}

/// The page tables of this process, in bytes.
fn page_tables() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPTE:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: usize = kib
        .context("expected VmPTE in /proc/self/status")?
        .parse()?;
    Ok(kib << 10)
}

/// Fails unless `what` has taken page tables, or none if `tables` is false.
fn expect_page_tables(what: &str, before: usize, tables: bool) -> Result<()> {
    let taken = page_tables()?.saturating_sub(before);
    ensure!(
        (taken > FEW_TABLES) == tables,
        "{what}: expected {} {FEW_TABLES} bytes of page tables, got {taken}",
        if tables { "more than" } else { "at most" }
    );
    Ok(())
}

fn entries(options: &Options) -> Result<()> {
    let huge = Huge::new(options)?;
    let before = page_tables()?;
    let mapping = huge.map(0)?;
    mapping.expect_stamped("an aligned mapping", PATTERN, 0)?;
    expect_page_tables("an aligned mapping", before, false)?;
    mapping.stamp(5);
    drop(mapping);

    let before = page_tables()?;
    let mapping = huge.map(page_size())?;
    mapping.expect_stamped("written by an aligned mapping", 5, 0)?;
    expect_page_tables("a mapping that is not aligned", before, true)
}

fn minor_faults() -> Result<i64> {
    // SAFETY: A structure of numbers, which the kernel fills in.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        ensure!(
            libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0,
            "getrusage failed"
        );
        Ok(usage.ru_minflt)
    }
}

fn one_fault(options: &Options) -> Result<()> {
    let huge = Huge::new(options)?;
    let mapping = huge.map(0)?;
    let read = |mapping: &Mapping| -> Result<i64> {
        let before = minor_faults()?;
        for page in 0..mapping.pages() {
            mapping.read_byte(page * page_size());
        }
        Ok(minor_faults()? - before)
    };
    // The first run may also fault on the code that reads.
    read(&mapping)?;
    let mapping = huge.map(0)?;
    let faults = read(&mapping)?;
    // A table of the second level may end within the mapping.
    ensure!(faults <= 2, "expected two faults at most, got {faults}");
    Ok(())
}

/// Huge entries have the attribute bits in other places than entries of single pages.
fn memory_type(options: &Options) -> Result<()> {
    let tables = PageTables::open()?;
    let expected = expected(options);
    let huge = Huge::new(options)?;
    let (large, small) = (huge.map(0)?, huge.map(page_size())?);
    let seen = frames(&tables, "large entries", &large, expected)?;
    ensure!(
        seen == frames(&tables, "single pages", &small, expected)?,
        "expected the frames of a mapping of single pages, got others"
    );
    protected(&tables, "large entries", &large, expected, &seen)
}

fn offset(options: &Options) -> Result<()> {
    let huge = Huge::new(options)?;
    for offset in [page_size(), HUGE / 2, HUGE, 3 * HUGE - page_size()] {
        for shift in [0, HUGE / 2] {
            let mapping = huge.map_from(offset, shift)?;
            let what = format!("from offset {offset:#x} on, {shift:#x} bytes off");
            mapping.expect_stamped(&what, PATTERN, offset / page_size())?;
        }
    }
    Ok(())
}

fn advise(mapping: &Mapping, advice: Advice) -> Result<()> {
    // SAFETY: The advices given here change no byte.
    unsafe { rustix::mm::madvise(pointer(mapping), mapping.len(), advice) }
        .with_context(|| format!("{advice:?}"))
}

fn pointer(mapping: &Mapping) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(mapping.address())
}

fn unwanted(options: &Options) -> Result<()> {
    let huge = Huge::new(options)?;
    let before = page_tables()?;
    let mapping = huge.map(0)?;
    advise(&mapping, Advice::LinuxNoHugepage)?;
    mapping.expect_stamped("without huge entries", PATTERN, 0)?;
    expect_page_tables("without huge entries", before, true)?;
    mapping.stamp(6);
    advise(&mapping, Advice::LinuxHugepage)?;
    mapping.expect_stamped("with huge entries again", 6, 0)
}

/// Changes what may be done with a part of a mapping.
fn protect(part: &Mapping, from: usize, len: usize, protection: MprotectFlags) -> Result<()> {
    ensure!(from + len <= part.len());
    // SAFETY: The part lies in the mapping; an access that violates its protection ends the program.
    unsafe { rustix::mm::mprotect(pointer(part).wrapping_byte_add(from), len, protection) }
        .context("mprotect")
}

fn split(options: &Options) -> Result<()> {
    let huge = Huge::new(options)?;
    let page = page_size();
    for touched in [false, true] {
        let mapping = huge.map(0)?;
        if touched {
            mapping.expect_stamped("before it is split", PATTERN, 0)?;
        }
        let (from, len) = (3 * HUGE + 7 * page, 2 * page);
        protect(&mapping, from, len, MprotectFlags::READ)?;
        mapping.expect_stamped("with a read-only part", PATTERN, 0)?;
        mapping.write(from - 8, &[0; 8]);
        mapping.write(from + len, &[0; 8]);
        let survived = in_fork(|| {
            mapping.write(from, &[0; 8]);
            true
        })?;
        ensure!(!survived, "a read-only part was written to");
        protect(
            &mapping,
            from,
            len,
            MprotectFlags::READ | MprotectFlags::WRITE,
        )?;
        mapping.stamp(PATTERN);

        // Whole entries become read-only, and then writable again.
        let (from, len) = (0, mapping.len());
        protect(&mapping, from, len, MprotectFlags::READ)?;
        mapping.expect_stamped("read-only", PATTERN, 0)?;
        protect(
            &mapping,
            from,
            len,
            MprotectFlags::READ | MprotectFlags::WRITE,
        )?;
        mapping.stamp(PATTERN);

        let hole = 5 * HUGE + 100 * page..5 * HUGE + 101 * page;
        let (left, right) = mapping.without(hole.clone())?;
        left.expect_stamped("left of the hole", PATTERN, 0)?;
        right.expect_stamped("right of the hole", PATTERN, hole.end / page)?;
    }
    Ok(())
}

fn moved(options: &Options) -> Result<()> {
    let huge = Huge::new(options)?;
    for (what, touched, shift) in [
        ("aligned, untouched", false, 0),
        ("aligned, touched", true, 0),
        ("not aligned, untouched", false, page_size()),
        ("not aligned, touched", true, page_size()),
    ] {
        let mapping = huge.map(0)?;
        if touched {
            mapping.expect_stamped("before it is moved", PATTERN, 0)?;
        }
        let moved = mapping.moved_over(place(SIZE, huge.phase + shift)?)?;
        moved.expect_stamped(what, PATTERN, 0)?;
        moved.stamp(PATTERN);
    }
    Ok(())
}

fn fork(options: &Options) -> Result<()> {
    let huge = Huge::new(options)?;
    let (first, second) = (huge.map(0)?, huge.map(0)?);
    first.expect_stamped("in the parent", PATTERN, 0)?;
    for (mapping, tag) in [(&first, 7), (&second, 8)] {
        let good = in_fork(|| {
            mapping.stamp(tag);
            true
        })?;
        ensure!(good, "the child could not write");
        first.expect_stamped("what the child wrote", tag, 0)?;
        second.expect_stamped("what the child wrote, by another mapping", tag, 0)?;
    }
    Ok(())
}

/// A pinned page would be freed while somebody still uses it. So the kernel must not pin
/// pages of the mapping for a pipe.
fn pinned(options: &Options) -> Result<()> {
    let huge = Huge::new(options)?;
    let mapping = huge.map(0)?;
    mapping.expect_stamped("before", PATTERN, 0)?;
    let (_reader, writer) = rustix::pipe::pipe()?;
    let from = libc::iovec {
        iov_base: pointer(&mapping).wrapping_byte_add(HUGE),
        iov_len: page_size(),
    };
    // SAFETY: The range is memory of this process.
    let spliced = unsafe { libc::vmsplice(writer.as_raw_fd(), &from, 1, 0) };
    let error = std::io::Error::last_os_error();
    ensure!(
        spliced == -1 && error.raw_os_error() == Some(libc::EFAULT),
        "vmsplice: expected EFAULT, got {spliced} bytes ({error})"
    );
    Ok(())
}

/// How often the process forbids or allows huge entries.
const CHANGES: usize = 200;

/// prctl() that forbids huge entries does not wait for page faults that are under way. So
/// of two faults at the same place, one may make a huge entry and the other not.
fn race(options: &Options) -> Result<()> {
    let huge = Huge::new(options)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let toucher = || -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                let mapping = huge.map(0)?;
                thread::scope(|scope| {
                    let touch = || mapping.expect_stamped("in a race", PATTERN, 0);
                    let other = scope.spawn(touch);
                    touch()?;
                    match other.join() {
                        Ok(outcome) => outcome,
                        Err(_) => bail!("a thread has died"),
                    }
                })?;
            }
            Ok(())
        };
        let touching = scope.spawn(toucher);
        for change in 0..CHANGES {
            // SAFETY: This call has to do with no memory.
            let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, change % 2, 0, 0, 0) };
            ensure!(result == 0, "prctl: {}", std::io::Error::last_os_error());
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        match touching.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a thread has died"),
        }
    })
}
