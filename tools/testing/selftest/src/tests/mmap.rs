// SPDX-License-Identifier: GPL-2.0

//! Mapping buffers into processes.

use super::Test;
use crate::expect::{expect_errno, outcome};
use crate::heap::{Buffer, Request};
use crate::mapping::{Mapping, Window, page_size};
use crate::options::{CONTROL, Options};
use crate::process::in_fork;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::fd::{AsFd as _, AsRawFd as _};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use std::ffi::c_void;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

pub const TESTS: &[Test] = &[
    Test::new(
        "mmap.offsets",
        "a mapping of one page at an offset shows the page of that offset",
        offsets,
    ),
    Test::new(
        "mmap.block_borders",
        "windows across the borders of blocks show the right pages",
        block_borders,
    ),
    Test::new(
        "mmap.beyond_end",
        "the last page can be mapped, but nothing beyond the end",
        beyond_end,
    ),
    Test::new(
        "mmap.private",
        "a private mapping is refused, a shared one is not",
        private,
    ),
    Test::new(
        "mmap.access_mode",
        "a mapping allows no more access than its descriptor",
        access_mode,
    ),
    Test::new(
        "mmap.after_close",
        "a mapping outlives the descriptor",
        after_close,
    ),
    Test::new(
        "mmap.partial_unmap",
        "the rest of a mapping stays when a part is unmapped",
        partial_unmap,
    ),
    Test::new(
        "mmap.mremap",
        "a mapping can move and shrink, but not grow",
        mremap,
    ),
    Test::new("mmap.fork", "parent and child share the buffer", fork),
    Test::new("mmap.advice", "advice and locking change no byte", advice),
    Test::new(
        "mmap.file_io",
        "files can be read into a mapping and written from it, but pages cannot be pinned",
        file_io,
    ),
    Test::new(
        "mmap.foreign_access",
        "a debugger gets the same errors as with the in-tree heap",
        foreign_access,
    ),
];

const PATTERN: u32 = 0x5ca1_ab1e;

/// A size that takes blocks of several sizes in every heap.
pub const ODD_SIZE: usize = (4 << 20) + (1 << 20) + (64 << 10) + 4096;

fn stamped(options: &Options, len: usize) -> Result<Buffer> {
    let buffer = options.heap()?.alloc(len)?;
    let mapping = buffer.map()?;
    buffer.bracketed(|| mapping.stamp(PATTERN))?;
    Ok(buffer)
}

fn expect_window(buffer: &Buffer, first: usize, pages: usize) -> Result<()> {
    let what = format!(
        "{pages} pages from page {first} of {}",
        buffer.size() / page_size()
    );
    let window = Window::of(pages * page_size()).at((first * page_size()) as u64);
    let mapping = buffer
        .map_window(&window)
        .with_context(|| format!("mapping {what}"))?;
    mapping.expect_stamped(&what, PATTERN, first)
}

fn offsets(options: &Options) -> Result<()> {
    let buffer = stamped(options, ODD_SIZE)?;
    let pages = buffer.size() / page_size();
    (0..pages)
        .rev()
        .try_for_each(|page| expect_window(&buffer, page, 1))?;
    // From each offset to the end, in steps that meet every kind of block.
    (0..pages)
        .step_by(61)
        .try_for_each(|page| expect_window(&buffer, page, pages - page))
}

fn block_borders(options: &Options) -> Result<()> {
    for len in [(4 << 20) + 4096, ODD_SIZE, 37 << 20] {
        let buffer = stamped(options, len)?;
        let pages = buffer.size() / page_size();
        // Blocks start at multiples of their size, all of them multiples of 64 KiB or single pages
        // at the end.
        let step = (64 << 10) / page_size();
        for border in (step..pages).step_by(step) {
            expect_window(&buffer, border - 1, 2)?;
        }
        expect_window(&buffer, pages - 2, 2)?;
        expect_window(&buffer, 0, pages)?;
    }
    Ok(())
}

fn beyond_end(options: &Options) -> Result<()> {
    let buffer = stamped(options, 16 * page_size())?;
    let page = page_size();
    expect_window(&buffer, 15, 1)?;
    expect_window(&buffer, 0, 16)?;
    for (what, offset, len) in [
        ("the page after the end", 16 * page, page),
        ("one page too much", 0, 17 * page),
        ("one page beyond the end", 15 * page, 2 * page),
        ("an offset of 1 TiB", 1 << 40, page),
        (
            "the last offset that there is",
            i64::MAX as usize & !(page - 1),
            page,
        ),
    ] {
        let window = Window::of(len).at(offset as u64);
        match buffer.map_window(&window).map(drop) {
            // The system call itself refuses what exceeds a file offset.
            Err(Errno::INVAL | Errno::OVERFLOW) => (),
            other => bail!("mapping {what}: expected EINVAL, got {}", outcome(&other)),
        }
    }
    Ok(())
}

fn private(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    for len in [page_size(), ODD_SIZE] {
        let buffer = stamped(options, len)?;
        for protection in [ProtFlags::READ, ProtFlags::READ | ProtFlags::WRITE] {
            let window = Window::of(buffer.size()).protection(protection);
            let call = format!(
                "a private mapping of {} bytes, {protection:?}",
                buffer.size()
            );
            let seen = buffer.map_window(&window.flags(MapFlags::PRIVATE));
            expect_errno(&call, seen, Errno::INVAL)?;
            let shared = buffer.map_window(&window);
            shared.with_context(|| call.replace("private", "shared"))?;
        }
        let window = Window::of(buffer.size());
        let seen = buffer.map_window(&window.flags(MapFlags::SHARED_VALIDATE | MapFlags::SYNC));
        expect_errno("a mapping with MAP_SYNC", seen, Errno::OPNOTSUPP)?;
        buffer
            .map_window(&window.flags(MapFlags::SHARED_VALIDATE))
            .context("a mapping whose flags are validated")?;
    }
    Ok(())
}

fn access_mode(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let open = |mode: OFlags| {
        heap.request(&Request {
            fd_flags: (mode | OFlags::CLOEXEC).bits(),
            ..Request::new(page_size() as u64)
        })
    };
    let write = Window::of(page_size());
    let read = write.protection(ProtFlags::READ);

    let buffer = open(OFlags::RDONLY)?;
    let seen = buffer.map_window(&write);
    expect_errno(
        "a writable mapping of a read-only descriptor",
        seen,
        Errno::ACCESS,
    )?;
    let mapping = buffer
        .map_window(&read)
        .context("a readable mapping of a read-only descriptor")?;
    mapping.expect_zeroed("a read-only mapping")?;
    let seen = mapping.protect(MprotectFlags::READ | MprotectFlags::WRITE);
    expect_errno("making that mapping writable", seen, Errno::ACCESS)?;

    let buffer = open(OFlags::RDWR)?;
    let run = write.protection(ProtFlags::READ | ProtFlags::EXEC);
    let seen = buffer.map_window(&run);
    expect_errno("an executable mapping", seen, Errno::PERM)?;
    let mapping = buffer.map()?;
    let seen = mapping.protect(MprotectFlags::READ | MprotectFlags::EXEC);
    expect_errno("making a mapping executable", seen, Errno::ACCESS)?;

    let buffer = open(OFlags::WRONLY)?;
    let seen = buffer.map_window(&write);
    expect_errno("a mapping of a write-only descriptor", seen, Errno::ACCESS)?;

    let buffer = open(OFlags::RDWR)?;
    buffer
        .map_window(&write)
        .context("a writable mapping of a writable descriptor")?
        .stamp(1);
    Ok(())
}

fn after_close(options: &Options) -> Result<()> {
    let buffer = stamped(options, ODD_SIZE)?;
    let mapping = buffer.map()?;
    drop(buffer);
    // If the pages had been freed, their next user would get them zeroed, or write to them.
    let heap = options.heap()?;
    let others: Vec<Buffer> = (0..8)
        .map(|_| heap.alloc(ODD_SIZE))
        .collect::<Result<_, _>>()?;
    for other in &others {
        other.map()?.fill(0xff);
    }
    mapping.expect_stamped("a mapping after close", PATTERN, 0)?;
    mapping.stamp(7);
    mapping.expect_stamped("written after close", 7, 0)
}

fn partial_unmap(options: &Options) -> Result<()> {
    let page = page_size();
    let buffer = stamped(options, 16 * page)?;
    let mapping = buffer.map()?;
    let hole = mapping.address() + 5 * page;
    let (left, right) = mapping.without(5 * page..7 * page)?;
    left.expect_stamped("left of the hole", PATTERN, 0)?;
    right.expect_stamped("right of the hole", PATTERN, 7)?;
    let mut residence = [0u8; 2];
    // SAFETY: The kernel writes two bytes for two pages, mapped or not.
    let mapped = unsafe {
        libc::mincore(
            std::ptr::with_exposed_provenance_mut(hole),
            2 * page,
            residence.as_mut_ptr(),
        )
    };
    ensure!(
        mapped == -1,
        "expected nothing to be mapped in the hole, but something is"
    );
    drop((left, right));
    expect_window(&buffer, 0, 16)
}

fn mremap(options: &Options) -> Result<()> {
    let page = page_size();
    let buffer = stamped(options, 64 * page)?;
    let window = Window::of(32 * page).at(16 * page as u64);
    let place = Mapping::anonymous(32 * page)?;
    let moved = buffer
        .map_window(&window)?
        .moved_over(place)
        .context("moving a mapping")?;
    moved.expect_stamped("a moved mapping", PATTERN, 16)?;
    let shrunk = moved.resized(8 * page).context("shrinking a mapping")?;
    shrunk.expect_stamped("a shrunk mapping", PATTERN, 16)?;
    // The kernel cannot add page frames to such a mapping, so it must refuse.
    let grown = shrunk.resized(16 * page);
    expect_errno("growing a mapping", grown, Errno::FAULT)
}

fn fork(options: &Options) -> Result<()> {
    let buffer = stamped(options, ODD_SIZE)?;
    let mapping = buffer.map()?;
    let good = in_fork(|| {
        let seen = mapping.expect_stamped("in the child", PATTERN, 0);
        if let Err(error) = &seen {
            println!("{error}");
        }
        mapping.stamp(9);
        seen.is_ok()
    })?;
    ensure!(good, "the child did not see what its parent had written");
    mapping.expect_stamped("what the child wrote, in the parent", 9, 0)
}

/// These advices have no effect on a mapping of page frames, and the kernel refuses some of
/// them. None of them may change the mapping.
fn advice(options: &Options) -> Result<()> {
    let buffer = stamped(options, ODD_SIZE)?;
    let mapping = buffer.map()?;
    let (start, len) = (mapping.pointer(), mapping.len());
    let advices = [
        Advice::Normal,
        Advice::WillNeed,
        Advice::LinuxDontNeed,
        Advice::LinuxFree,
        Advice::LinuxRemove,
        Advice::LinuxDontDump,
        Advice::LinuxDoDump,
        Advice::LinuxMergeable,
        Advice::LinuxHugepage,
        Advice::LinuxCold,
        Advice::LinuxPageOut,
        Advice::LinuxPopulateRead,
        Advice::LinuxPopulateWrite,
        Advice::LinuxWipeOnFork,
    ];
    for advice in advices {
        // SAFETY: Bytes in a shared mapping of a dma-buf, only ever copied, are at stake.
        let seen = unsafe { rustix::mm::madvise(start, len, advice) };
        mapping.expect_stamped(
            &format!("after {advice:?} ({})", outcome(&seen)),
            PATTERN,
            0,
        )?;
    }
    // SAFETY: Locking and unlocking change no byte.
    unsafe {
        rustix::mm::mlock(start, len).context("mlock")?;
        rustix::mm::munlock(start, len).context("munlock")?;
    }
    mapping.expect_stamped("after mlock and munlock", PATTERN, 0)?;

    // SAFETY: The mapping stays as it is in this process.
    unsafe { rustix::mm::madvise(start, len, Advice::LinuxDontFork) }.context("DontFork")?;
    let inherited = in_fork(|| {
        let mut residence = vec![0u8; len / page_size()];
        // SAFETY: There is a byte for each page.
        unsafe { libc::mincore(start, len, residence.as_mut_ptr()) == 0 }
    })?;
    ensure!(
        !inherited,
        "after DontFork: expected no mapping in the child, but there is one"
    );
    mapping.expect_stamped("after DontFork", PATTERN, 0)
}

fn file_io(options: &Options) -> Result<()> {
    let (from, to) = (
        stamped(options, ODD_SIZE)?.map()?,
        options.heap()?.alloc(ODD_SIZE)?.map()?,
    );
    let file = rustix::fs::memfd_create("frame", rustix::fs::MemfdFlags::CLOEXEC)?;
    let file = file.as_fd().as_raw_fd();
    // SAFETY: The kernel reads one mapping and writes the other, which are only ever copied to and
    // from.
    let (written, read) = unsafe {
        (
            libc::pwrite(file, from.pointer(), from.len(), 0),
            libc::pread(file, to.pointer(), to.len(), 0),
        )
    };
    ensure!(
        (written, read) == (from.len() as isize, to.len() as isize),
        "expected to write {} bytes and read {}, got {written} and {read}",
        from.len(),
        to.len()
    );
    to.expect_stamped("through a file", PATTERN, 0)?;

    let (_reader, pipe) = rustix::pipe::pipe()?;
    let splice = |mapping: &Mapping| {
        let vector = libc::iovec {
            iov_base: mapping.pointer(),
            iov_len: page_size(),
        };
        // SAFETY: The kernel borrows the page, which is only ever copied to and from.
        match unsafe { libc::vmsplice(pipe.as_fd().as_raw_fd(), &vector, 1, 0) } {
            -1 => Err(last_error()),
            len => Ok(len),
        }
    };
    let seen = splice(&Mapping::anonymous(page_size())?).context("pinning private memory")?;
    ensure!(
        seen == page_size() as isize,
        "expected a page to be spliced, got {seen} bytes"
    );
    expect_errno("pinning a mapping", splice(&from), Errno::FAULT)
}

/// With any heap, the kernel gives no access to the pages of such a mapping from outside.
/// A debugger must get an error, and must not change a byte.
fn foreign_access(options: &Options) -> Result<()> {
    let ordinary = Mapping::anonymous(page_size())?;
    expect_ways_in("private memory", &ordinary, None, None)?;
    for (what, heap) in [("the heap", options.heap()?), (CONTROL, options.control()?)] {
        let buffer = heap.alloc(page_size())?;
        let mapping = buffer.map()?;
        mapping.stamp(PATTERN);
        expect_ways_in(what, &mapping, Some(Errno::FAULT), Some(Errno::IO))?;
        mapping.expect_stamped(what, PATTERN, 0)?;
    }
    Ok(())
}

/// Fails unless reading and writing a process's memory from outside ends with these
/// errors: with `pinned` if the kernel pins pages, or else with `copied`.
fn expect_ways_in(
    what: &str,
    mapping: &Mapping,
    pinned: Option<Errno>,
    copied: Option<Errno>,
) -> Result<()> {
    let address = mapping.pointer();
    let mut bytes = *b"debugger";
    match vm_read(&mut bytes, address) {
        Err(Errno::NOSYS) => println!("this kernel has no process_vm_readv()"),
        seen => expect_end(&format!("{what}: process_vm_readv"), seen, pinned)?,
    }

    let memory = File::options()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let seen = errno_of(memory.read_exact_at(&mut bytes, address.addr() as u64));
    expect_end(&format!("{what}: reading /proc/self/mem"), seen, copied)?;
    let seen = errno_of(memory.write_all_at(&bytes, address.addr() as u64));
    expect_end(&format!("{what}: writing /proc/self/mem"), seen, copied)?;

    let good = in_fork(|| {
        let seen = peek_parent(address);
        let seen = expect_end(&format!("{what}: PTRACE_PEEKDATA"), seen, copied);
        seen.inspect_err(|error| println!("{error}")).is_ok()
    })?;
    ensure!(
        good,
        "{what}: PTRACE_PEEKDATA did not end as expected: see above"
    );
    Ok(())
}

/// Fails unless a call ended as expected, with success or with this errno.
fn expect_end(call: &str, seen: Result<(), Errno>, expected: Option<Errno>) -> Result<()> {
    match expected {
        Some(errno) => expect_errno(call, seen, errno),
        None => seen.with_context(|| format!("{call}: expected success")),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn errno_of<T>(result: std::io::Result<T>) -> Result<(), Errno> {
    result
        .map(drop)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn vm_read(here: &mut [u8; 8], there: *mut c_void) -> Result<(), Errno> {
    let vector = |base: *mut c_void| libc::iovec {
        iov_base: base,
        iov_len: 8,
    };
    let (here, there) = (vector(here.as_mut_ptr().cast()), vector(there));
    // SAFETY: The kernel writes 8 bytes to `here`, which is borrowed as mutable.
    match unsafe { libc::process_vm_readv(libc::getpid(), &here, 1, &there, 1, 0) } {
        -1 => Err(last_error()),
        8 => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Looks into the memory of this process's parent as a debugger does.
fn peek_parent(address: *mut c_void) -> Result<(), Errno> {
    let nothing = std::ptr::null_mut::<c_void>();
    // SAFETY: These calls take a process to look at, and write no memory; the status may be NULL.
    unsafe {
        let parent = libc::getppid();
        if libc::ptrace(libc::PTRACE_ATTACH, parent, nothing, nothing) == -1
            || libc::waitpid(parent, std::ptr::null_mut(), libc::__WALL) == -1
        {
            return Err(last_error());
        }
        // The call returns the word, so only errno distinguishes an error from -1.
        *libc::__errno_location() = 0;
        libc::ptrace(libc::PTRACE_PEEKDATA, parent, address, nothing);
        let errno = *libc::__errno_location();
        libc::ptrace(libc::PTRACE_DETACH, parent, nothing, nothing);
        match errno {
            0 => Ok(()),
            errno => Err(Errno::from_raw_os_error(errno)),
        }
    }
}
