// SPDX-License-Identifier: GPL-2.0

//! Whether all mappings of a buffer have the memory type of the heap's mode.

use super::Test;
use super::mmap::ODD_SIZE;
use crate::expect::expect_errno;
use crate::heap_files::Files;
use crate::mapping::{Mapping, Window, page_size};
use crate::memory::{eventually, settled_free};
use crate::memory_type::{MemoryType, PageTables};
use crate::options::Options;
use crate::process::in_fork;
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use rustix::mm::{MprotectFlags, ProtFlags};

pub const TESTS: &[Test] = &[
    Test::new(
        "mmap.memory_type",
        "a process's mapping has the type of the heap's mode, even after mprotect or mremap",
        user,
    ),
    Test::new(
        "mmap.memory_type_kernel",
        "the kernel's mappings have the type of the heap's mode",
        kernel,
    ),
    Test::new(
        "mmap.memory_type_freed",
        "freed memory is mapped write-back again",
        freed,
    ),
];

/// The memory type of the CPU's mappings in the heap under test.
pub fn expected(options: &Options) -> MemoryType {
    if options.heap.ends_with("-uncached") {
        MemoryType::WriteCombining
    } else {
        MemoryType::WriteBack
    }
}

/// The memory type that the kernel's direct mapping must have. On x86 all mappings of a
/// page must have the same type. On arm64 the direct mapping cannot be changed.
fn expected_directly(options: &Options) -> MemoryType {
    if cfg!(target_arch = "x86_64") {
        expected(options)
    } else {
        MemoryType::WriteBack
    }
}

/// The frames that a mapping is made of. Fails unless each is mapped as `expected`.
pub fn frames(
    tables: &PageTables,
    what: &str,
    mapping: &Mapping,
    expected: MemoryType,
) -> Result<Vec<u64>> {
    (0..mapping.pages())
        .map(|page| {
            // Huge entries are made at the first access.
            mapping.read_byte(page * page_size());
            let (frame, seen) = tables
                .user(mapping.address() + page * page_size())
                .with_context(|| format!("{what}: looking at page {page}"))?;
            ensure!(
                seen == expected,
                "{what}: expected page {page} to be {expected:?}, got {seen:?}"
            );
            Ok(frame)
        })
        .collect()
}

/// Changes the protection of a mapping, and changes it back, as the kernel computes the attributes anew
/// each time. Fails unless the mapping keeps its frames, `all`, with the type `expected`.
pub fn protected(
    tables: &PageTables,
    what: &str,
    mapping: &Mapping,
    expected: MemoryType,
    all: &[u64],
) -> Result<()> {
    for protection in [
        MprotectFlags::READ,
        MprotectFlags::READ | MprotectFlags::WRITE,
    ] {
        mapping.protect(protection)?;
        let what = format!("{what} after mprotect to {protection:?}");
        let seen = frames(tables, &what, mapping, expected)?;
        ensure!(seen == all, "{what}: expected the same frames, got others");
    }
    Ok(())
}

fn user(options: &Options) -> Result<()> {
    let tables = PageTables::open()?;
    let expected = expected(options);
    let buffer = options.heap()?.alloc(ODD_SIZE)?;
    let mapping = buffer.map()?;
    let all = frames(&tables, "a mapping", &mapping, expected)?;

    let part = Window::of(16 * page_size()).at(3 * page_size() as u64);
    let reading = buffer.map_window(&part.protection(ProtFlags::READ))?;
    let seen = frames(&tables, "a read-only window", &reading, expected)?;
    ensure!(
        seen == all[3..19],
        "a window: expected the frames of pages 3 to 18, got others"
    );
    protected(&tables, "a mapping", &mapping, expected, &all)?;
    let good = in_fork(|| {
        let seen = frames(&tables, "in a fork", &mapping, expected);
        if let Err(error) = &seen {
            println!("{error:#}");
        }
        seen.is_ok_and(|seen| seen == all)
    })?;
    ensure!(good, "in a fork: expected the same frames, mapped alike");

    let place = Mapping::anonymous(mapping.len())?;
    let hole = mapping.address();
    let moved = mapping.moved_over(place)?;
    let seen = frames(&tables, "after mremap", &moved, expected)?;
    ensure!(seen == all, "after mremap: expected the same frames");
    expect_errno("looking at where it was", tables.user(hole), Errno::INVAL)?;
    let (left, right) = moved.without(4 * page_size()..6 * page_size())?;
    frames(&tables, "left of a hole", &left, expected)?;
    let seen = frames(&tables, "right of a hole", &right, expected)?;
    ensure!(
        seen == all[6..],
        "right of a hole: expected the same frames"
    );
    Ok(())
}

fn kernel(options: &Options) -> Result<()> {
    let tables = PageTables::open()?;
    let (expected, directly) = (expected(options), expected_directly(options));
    for len in [page_size(), 64 << 10, ODD_SIZE] {
        let buffer = options.heap()?.alloc(len)?;
        for offset in [0, buffer.size() / 2, buffer.size() - 1] {
            let seen = tables.vmap(&buffer, offset)?;
            ensure!(
                seen == expected,
                "{len} bytes, mapped into the kernel, at {offset:#x}: expected {expected:?}, got {seen:?}"
            );
        }
        for frame in frames(&tables, "a mapping", &buffer.map()?, expected)? {
            let seen = tables.direct(frame)?;
            ensure!(
                seen == directly,
                "{len} bytes, frame {frame:#x} in the direct mapping: expected {directly:?}, got {seen:?}"
            );
        }
    }
    Ok(())
}

/// How many bytes the pool keeps for the heap's next buffers.
fn kept(options: &Options) -> Result<usize> {
    match options.heap_is_ours() {
        true => Files::of(&options.heap).number("pool"),
        false => Ok(0),
    }
}

/// Looks at the frames that a freed buffer had. The pool may keep them for the next buffers
/// with their memory type, until the kernel asks for them.
fn freed(options: &Options) -> Result<()> {
    let tables = PageTables::open()?;
    for len in [page_size(), 64 << 10, ODD_SIZE] {
        let buffer = options.heap()?.alloc(len)?;
        let had = frames(&tables, "a mapping", &buffer.map()?, expected(options))?;
        let kept = kept(options)?;
        drop(buffer);
        // The pool keeps memory with the type that it has.
        if self::kept(options)? > kept {
            for frame in &had {
                let seen = tables.direct(*frame)?;
                ensure!(
                    seen == expected_directly(options),
                    "{len} bytes are kept: expected frame {frame:#x} to be mapped {:?}, got {seen:?}",
                    expected_directly(options)
                );
            }
        }
        let mut others = Vec::new();
        let back = eventually(|| {
            settled_free()?;
            others.clear();
            for frame in &had {
                let seen = tables.direct(*frame)?;
                if seen != MemoryType::WriteBack {
                    others.push((*frame, seen));
                }
            }
            Ok(others.is_empty())
        })?;
        ensure!(
            back,
            "{len} bytes were freed and caches dropped, but {} of {} frames are not mapped {:?}: {:x?}",
            others.len(),
            had.len(),
            MemoryType::WriteBack,
            others.first()
        );
    }
    Ok(())
}
