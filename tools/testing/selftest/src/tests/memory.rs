// SPDX-License-Identifier: GPL-2.0

//! A heap while memory is short, or is not enough.

use super::Test;
use crate::expect::{expect_errno, outcome, skip};
use crate::fragments::Fragments;
use crate::heap::{Heap, Request};
use crate::mapping::{Mapping, page_size};
use crate::memory::{eventually, free, free_blocks, meminfo, settled_free, vmstat, wait_until};
use crate::options::{CONTIGUOUS_CONTROL, Options, is_of_system_region};
use crate::process::{Helper, Running};
use crate::swap::Swap;
use crate::trace::{EXPORT, Recording};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    Test::new(
        "memory.too_long",
        "a buffer larger than all memory gets ENOMEM at once, and no process is killed",
        too_long,
    ),
    Test::new(
        "memory.exhausted",
        "a buffer larger than free memory gets ENOMEM, and no process is killed",
        exhausted,
    ),
    Test::new(
        "memory.swapped",
        "if there is swap, memory of programs is swapped out for a buffer",
        swapped,
    ),
    Test::new(
        "memory.fragmented",
        "if only single pages are free, a buffer is made of single pages",
        fragmented,
    ),
    Test::new(
        "memory.as_many",
        "a contiguous area holds as many buffers as with the kernel's own heap",
        as_many,
    ),
    Test::new(
        "memory.killed",
        "SIGKILL ends a long allocation, and no memory is lost",
        killed,
    ),
];

/// The state before an allocation that must fail, and a process that the kernel would kill
/// first.
struct Peace {
    victim: Running,
    kills: u64,
    free: u64,
}

impl Peace {
    fn now() -> Result<Self> {
        let mut victim = Helper::Victim.spawn()?;
        let word = victim.answer()?;
        ensure!(
            word == "ready",
            "expected a victim to be ready, got {word:?}"
        );
        Ok(Self {
            victim,
            kills: vmstat("oom_kill")?,
            free: settled_free()?,
        })
    }

    /// Fails if the kernel killed a process.
    fn expect_kept(&mut self, what: &str) -> Result<()> {
        let now = vmstat("oom_kill")?;
        let kills = self.kills;
        ensure!(
            now == kills,
            "{what}: the kernel killed {} processes",
            now - kills
        );
        let ended = self.victim.ended()?;
        ensure!(ended.is_none(), "{what}: the victim was killed: {ended:?}");
        Ok(())
    }

    /// Fails unless all memory comes back.
    fn expect_back(&self, what: &str) -> Result<()> {
        expect_back(what, self.free)
    }
}

/// Waits for as much memory to be free as there was `before`.
fn expect_back(what: &str, before: u64) -> Result<()> {
    let back = eventually(|| Ok(settled_free()? + (8 << 20) >= before))?;
    ensure!(
        back,
        "{what}: {} KiB were free before, {} KiB are now",
        before >> 10,
        free()? >> 10
    );
    Ok(())
}

/// Allocates `len` bytes, which cannot succeed.
fn expect_refusal(options: &Options, len: u64, limit: Duration) -> Result<()> {
    let heap = options.heap()?;
    let mut peace = Peace::now()?;
    let start = Instant::now();
    let seen = heap.request(&Request::new(len)).map(drop);
    let elapsed = start.elapsed();
    let what = format!("allocating {len} bytes ({} MiB)", len >> 20);
    expect_errno(&what, seen, Errno::NOMEM)?;
    ensure!(
        elapsed <= limit,
        "{what}: expected an answer within {limit:?}, but it took {elapsed:?}"
    );
    peace.expect_kept(&what)?;
    peace.expect_back(&what)?;
    heap.alloc(1 << 20).context("allocating 1 MiB after that")?;
    Ok(())
}

fn too_long(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let total = meminfo("MemTotal")?;
    let page = page_size() as u64;
    for len in [
        total,
        2 * total,
        1 << 40,
        1 << 52,
        i64::MAX as u64,
        u64::MAX - 2 * page,
    ] {
        expect_refusal(options, len, Duration::from_secs(2))?;
    }
    Ok(())
}

fn exhausted(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    options.need_system_region()?;
    let available = meminfo("MemAvailable")?;
    expect_refusal(options, available + (32 << 20), Duration::from_secs(60))?;

    // Each of these would fit alone, but not all of them together. None of them can know that.
    let mut peace = Peace::now()?;
    let helper = Helper::Allocate {
        heap: options.heap.clone(),
        len: available * 6 / 10,
        group: None,
    };
    let mut processes = (0..3).map(|_| helper.spawn()).collect::<Result<Vec<_>>>()?;
    let answers = processes
        .iter_mut()
        .map(Running::answer)
        .collect::<Result<Vec<_>>>()?;
    let what = format!("allocating 60 % of the memory three times at once: {answers:?}");
    println!("{what}");
    ensure!(
        answers
            .iter()
            .all(|answer| answer == "success" || answer == "ENOMEM"),
        "{what}: expected success or ENOMEM"
    );
    ensure!(
        answers.contains(&"ENOMEM".into()),
        "{what}: expected at least one ENOMEM"
    );
    peace.expect_kept(&what)?;
    drop(processes);
    peace.expect_back(&what)
}

fn swapped(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    options.need_system_region()?;
    let heap = options.heap()?;
    // It has to be more than the kernel's own reserve, which is larger with large pages.
    let wanted = (meminfo("MemTotal")? / 8)
        .max(64 << 20)
        .next_multiple_of(page_size() as u64);
    // It is dropped last, as everything below may be swapped out to it.
    let _swap = Swap::new(meminfo("MemTotal")? / 2)?;
    // Fills all memory but a part of what is wanted.
    let filled = meminfo("MemAvailable")?.saturating_sub(wanted / 2) as usize;
    let mapping = Mapping::anonymous(filled)?;
    for page in 0..mapping.pages() {
        mapping.write(page * page_size(), &(page as u64).to_ne_bytes());
    }
    let available = meminfo("MemAvailable")?;
    ensure!(
        available < wanted,
        "expected less than {wanted} bytes to be available, got {available}"
    );
    let mut peace = Peace::now()?;
    let what = format!("allocating {wanted} bytes with {available} available, and swap");
    let _buffer = heap.alloc(wanted as usize).context(what.clone())?;
    let free = meminfo("SwapFree")?;
    let total = meminfo("SwapTotal")?;
    println!("{} bytes were swapped out", total - free);
    ensure!(free < total, "{what}: expected something to be swapped out");
    peace.expect_kept(&what)?;
    for page in (0..mapping.pages()).step_by(97) {
        let mut seen = [0; 8];
        mapping.read(page * page_size(), &mut seen);
        ensure!(
            u64::from_ne_bytes(seen) == page as u64,
            "page {page} of the program has changed"
        );
    }
    Ok(())
}

/// How many buffers of `len` bytes a heap makes until its memory is used up.
fn count(heap: &Heap, len: usize) -> Result<usize> {
    let mut buffers = Vec::new();
    loop {
        match heap.alloc(len) {
            Ok(buffer) => buffers.push(buffer),
            Err(Errno::NOMEM) => return Ok(buffers.len()),
            Err(errno) => return Err(errno).with_context(|| format!("buffers of {len} bytes")),
        }
    }
}

fn as_many(_options: &Options) -> Result<()> {
    // 1920x1080 in NV12, 1280x720 in RGB32, and sizes around a second-level entry of page tables.
    const SIZES: [usize; 5] = [3110400, 3686400, 2 << 20, 5 << 20, 8 << 20];
    let Ok(in_tree) = Heap::open(CONTIGUOUS_CONTROL) else {
        return skip(format!("no heap {CONTIGUOUS_CONTROL} here"));
    };
    let ours = Heap::open("default_cma_region-coherent")?;
    for len in SIZES {
        let len = len.next_multiple_of(page_size());
        let mut seen = (0, 0);
        // Pages of others may block the area for a while.
        let as_many = eventually(|| {
            seen = (count(&ours, len)?, count(&in_tree, len)?);
            Ok(seen.0 >= seen.1)
        })?;
        println!("{len} bytes: {} buffers, and {} in-tree", seen.0, seen.1);
        ensure!(
            as_many,
            "buffers of {len} bytes: expected as many as in-tree, {}, got {}",
            seen.1,
            seen.0
        );
    }
    Ok(())
}

fn fragmented(options: &Options) -> Result<()> {
    const SINGLE: u64 = 16 << 20;
    options.need_system_region()?;
    let heap = options.heap()?;
    let page = page_size();
    let _fragments = Fragments::make()?;

    // Pages on the lists of CPUs may belong to blocks, and not everybody can use them. They go back
    // to the allocator after a while. Only movable pages can use memory of the CMA region.
    let mut wanted = 0;
    let enough = wait_until(Duration::from_secs(20), || {
        let listed = free()? - vmstat("nr_free_pages")? * page as u64;
        wanted = free_blocks(2)? * 2 * page as u64 + listed + SINGLE;
        let movable = vmstat("nr_free_cma")? * page as u64;
        Ok(wanted + movable + (8 << 20) <= meminfo("MemAvailable")?)
    })?;
    if !enough {
        return skip(format!(
            "could not make {} MiB of single pages",
            SINGLE >> 20
        ));
    }
    let kills = vmstat("oom_kill")?;
    let seen = heap.request(&Request::new(wanted));
    let what = format!("allocating {} MiB in a fragmented memory", wanted >> 20);
    println!("{what}: {}", outcome(&seen));
    ensure!(
        vmstat("oom_kill")? == kills,
        "{what}: the kernel killed a process"
    );
    let Ok(buffer) = seen else {
        bail!("{what}: expected success, got {}", outcome(&seen));
    };
    let mapping = buffer.map()?;
    mapping.expect_zeroed(&what)?;
    mapping.stamp(4);
    mapping.expect_stamped(&what, 4, 0)
}

/// The memory that a heap takes.
#[derive(Clone, Copy, PartialEq)]
enum Region {
    System,
    Contiguous,
}

impl Region {
    fn of(options: &Options) -> Self {
        if is_of_system_region(&options.heap) {
            Self::System
        } else {
            Self::Contiguous
        }
    }

    /// How many bytes are free.
    fn free(self) -> Result<u64> {
        match self {
            Self::System => free(),
            Self::Contiguous => Ok(vmstat("nr_free_cma")? * page_size() as u64),
        }
    }

    /// How much longer each attempt waits before it kills the process.
    fn patience(self) -> Duration {
        match self {
            Self::System => Duration::ZERO,
            Self::Contiguous => Duration::from_millis(2),
        }
    }

    /// How many bytes a buffer could get.
    fn available(self) -> Result<u64> {
        match self {
            Self::System => meminfo("MemAvailable"),
            Self::Contiguous => self.free(),
        }
    }
}

/// A killed process must not finish its allocation: there must be no buffer.
fn killed(options: &Options) -> Result<()> {
    const TRIES: u32 = 10;
    let recording = Recording::start(&[EXPORT])?;
    let region = Region::of(options);
    let len = region.available()? * 6 / 10;
    let mut killed = 0;
    let helper = Helper::Allocate {
        heap: options.heap.clone(),
        len,
        group: None,
    };
    for attempt in 1..=TRIES {
        let before = settled_free()?;
        let at_first = region.free()?;
        let mut process = helper.spawn()?;
        let pid = process.pid();
        // The allocation has begun when a part of the memory is gone.
        let begun =
            eventually(|| Ok(region.free()? + len / 8 < at_first || process.ended()?.is_some()))?;
        ensure!(begun, "expected the allocation to begin");
        // Contiguous memory is taken all at once, and then zeroed for a while.
        std::thread::sleep(region.patience() * (attempt - 1));
        let midst = recording.events()?.iter().all(|event| event.pid != pid);
        process.kill()?;
        let start = Instant::now();
        let dead = eventually(|| Ok(process.ended()?.is_some()))?;
        ensure!(dead, "expected the process to end after SIGKILL");
        let took = start.elapsed();
        if !midst {
            println!("attempt {attempt}: the allocation was over too soon");
            continue;
        }
        let exported = recording.events()?.iter().any(|event| event.pid == pid);
        if exported && region == Region::Contiguous {
            println!("attempt {attempt}: the allocation was at its end when the signal came");
            continue;
        }
        ensure!(
            !exported,
            "the process was killed, but its allocation went on to the end"
        );
        println!("ended {took:?} after SIGKILL");
        expect_back("after SIGKILL", before)?;
        killed += 1;
        if region == Region::System {
            break;
        }
    }
    if killed > 0 {
        return Ok(());
    }
    skip(format!(
        "{TRIES} allocations of {} MiB ended before they could be killed",
        len >> 20
    ))
}
