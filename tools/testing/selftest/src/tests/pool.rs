// SPDX-License-Identifier: GPL-2.0

//! The pool: memory that is kept from one buffer for the next.

use super::Test;
use crate::expect::skip;
use crate::heap_files::Files;
use crate::options::Options;
use crate::process::Helper;
use crate::reach::{self, accepted_by};
use anyhow::{Context as _, Result, ensure};
use dmabuf_coherency_selftest::cgroup::{self, Group};
use dmabuf_coherency_selftest::heap::{BLOCK, Heap};
use dmabuf_coherency_selftest::mapping::{Mapping, page_size};
use dmabuf_coherency_selftest::memory::{eventually, make_blocks, meminfo, vmstat};
use dmabuf_coherency_selftest::test_importer::{Direction, Importer, Kind};
use rustix::io::Errno;
use std::fs;
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    Test::new(
        "pool.reused",
        "freed memory is used again, and zeroed before that",
        reused,
    ),
    Test::new(
        "pool.midway",
        "a block that is taken while the thread zeroes it is zeroed to its end",
        midway,
    ),
    Test::new(
        "pool.bounded",
        "the pool keeps no more than a few per cent of the memory",
        bounded,
    ),
    Test::new(
        "pool.low",
        "the pool keeps no more than the same per cent of the memory below 4 GiB",
        low,
    ),
    Test::new(
        "pool.counted",
        "the kernel counts the pool as memory that it can reclaim",
        counted,
    ),
    Test::new(
        "pool.dropped",
        "the pool gives back all memory when the kernel drops its caches",
        dropped,
    ),
    Test::new(
        "pool.pressure",
        "the pool gives back memory when others need it",
        pressure,
    ),
    Test::new(
        "pool.idle",
        "the pool gives back memory that is not used for a while",
        idle,
    ),
    Test::new(
        "pool.own_group",
        "memory that a control group is charged for serves no other group, and goes at its limit",
        own_group,
    ),
    Test::new(
        "pool.group_gone",
        "memory that is kept for a control group goes when the group is removed",
        group_gone,
    ),
    Test::new(
        "pool.group_outlived",
        "memory of a buffer is not kept if its control group was removed before",
        group_outlived,
    ),
    Test::new(
        "pool.group_follows",
        "memory of removed control groups goes, even if a new group has the same number",
        group_follows,
    ),
    Test::new(
        "pool.short_group",
        "a control group at its limit reclaims memory that is kept for it, and no other's",
        short_group,
    ),
    Test::new(
        "pool.group_dies",
        "no buffer or kept memory holds a control group that is removed",
        group_dies,
    ),
    Test::new(
        "pool.group_reclaims",
        "a control group at its limit reclaims for large blocks, not only for pages",
        group_reclaims,
    ),
    Test::new(
        "pool.off",
        "the pool keeps nothing if a parameter of the module says so",
        off,
    ),
];

/// The largest part of the memory that the pool keeps by default.
const PERCENT: u64 = 5;

/// The files of a heap that has a pool. Empties the pool.
pub fn files(options: &Options) -> Result<Files> {
    options.need_our_heap()?;
    options.need_system_region()?;
    if !options.pooled {
        return skip("the module is loaded with pool_percent=0, and keeps nothing");
    }
    let files = Files::of(&options.heap);
    empty(&files)?;
    Ok(files)
}

/// Empties the pool.
fn empty(files: &Files) -> Result<()> {
    drop_caches()?;
    let pool = files.number("pool")?;
    ensure!(pool == 0, "expected an empty pool, got {pool} bytes");
    Ok(())
}

fn drop_caches() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "2").context("dropping caches")
}

/// Allocates and frees a buffer with something in it.
pub fn leave(heap: &Heap, len: usize) -> Result<()> {
    heap.alloc(len)?.map()?.fill(0xa5);
    Ok(())
}

fn reused(options: &Options) -> Result<()> {
    let files = files(options)?;
    let heap = options.heap()?;
    let page = page_size();
    for len in
        [1, 2, 3, 16, 100, 256, 1024, 2025].map(|pages: usize| (pages << 12).next_multiple_of(page))
    {
        for wait in [Duration::ZERO, Duration::from_millis(300)] {
            let what = format!("a buffer of {len} bytes, reused after {wait:?}");
            empty(&files)?;
            leave(&heap, len)?;
            let kept = files.number("pool")?;
            ensure!(kept == len, "{what}: {kept} bytes are kept");
            std::thread::sleep(wait);
            let buffer = heap.alloc(len)?;
            let kept = files.number("pool")?;
            ensure!(kept == 0, "{what}: {kept} bytes are still kept");
            buffer.map()?.expect_zeroed(&what)?;
        }
    }
    // Blocks of one size serve no other size. They must not hold data of the last user either.
    empty(&files)?;
    for round in 0..options.rounds {
        for len in [7, 64, 1, 300, 33].map(|pages| pages * page) {
            let what = format!("round {round}, {len} bytes");
            let buffer = heap.alloc(len)?;
            let mapping = buffer.map()?;
            mapping.expect_zeroed(&what)?;
            mapping.fill(0x5a);
        }
    }
    Ok(())
}

/// The thread zeroes a block piece by piece. Each round takes the block a little later, so the thread
/// has zeroed more of it.
fn midway(options: &Options) -> Result<()> {
    let files = files(options)?;
    let heap = options.heap()?;
    for round in 0..40 {
        let wait = Duration::from_micros(250) * round;
        leave(&heap, 4 << 20)?;
        std::thread::sleep(wait);
        let buffer = heap.alloc(4 << 20)?;
        let kept = files.number("pool")?;
        ensure!(kept == 0, "{kept} bytes are still kept");
        buffer
            .map()?
            .expect_zeroed(&format!("4 MiB, reused after {wait:?}"))?;
    }
    Ok(())
}

fn bounded(options: &Options) -> Result<()> {
    let bound = (meminfo("MemTotal")? / 100 * PERCENT) as usize;
    keeps_at_most(&files(options)?, &options.heap()?, bound)
}

fn low(options: &Options) -> Result<()> {
    const LOW: &str = "system-dma32-coherent";
    let Ok(heap) = Heap::open(LOW) else {
        return skip("all memory lies below 4 GiB: try a guest with --mem 5G");
    };
    files(options)?;
    let files = Files::of(LOW);
    let bound = files.number("capacity")? / 100 * PERCENT as usize;
    keeps_at_most(&files, &heap, bound)
}

fn keeps_at_most(files: &Files, heap: &Heap, bound: usize) -> Result<()> {
    let buffers = (0..bound / (1 << 20) * 2)
        .map(|_| heap.alloc(1 << 20))
        .collect::<Result<Vec<_>, _>>()?;
    drop(buffers);
    let kept = files.number("pool")?;
    ensure!(
        kept <= bound && kept + (1 << 20) > bound,
        "{} MiB were freed: expected just below {bound} bytes to be kept, got {kept}",
        bound / (1 << 20) * 2
    );
    Ok(())
}

fn counted(options: &Options) -> Result<()> {
    const KEPT: u64 = 8 << 20;
    // The kernel counts a few pages separately for each CPU.
    const INEXACT: u64 = 1 << 20;
    let files = files(options)?;
    let heap = options.heap()?;
    let others = reclaimable()?;
    let expect = |what: &str, bytes: u64| {
        let mut counted = 0;
        let right = eventually(|| {
            counted = reclaimable()?;
            Ok(counted.abs_diff(others + bytes) < INEXACT)
        })?;
        ensure!(
            right,
            "{what}: expected {bytes} bytes more than {others}, got {counted}"
        );
        Ok(())
    };

    leave(&heap, KEPT as usize)?;
    expect("what has been zeroed", KEPT)?;
    let buffer = heap.alloc(KEPT as usize)?;
    expect("what is in use again", 0)?;
    drop(buffer);
    expect("what has been zeroed again", KEPT)?;
    empty(&files)?;
    expect("what has been given back", 0)
}

/// The memory that the kernel says it can reclaim, without slabs.
fn reclaimable() -> Result<u64> {
    let slabs = meminfo("SReclaimable")?;
    Ok(meminfo("KReclaimable")?.saturating_sub(slabs))
}

fn dropped(options: &Options) -> Result<()> {
    let files = files(options)?;
    leave(&options.heap()?, 4 << 20)?;
    let kept = files.number("pool")?;
    ensure!(kept == 4 << 20, "expected 4 MiB to be kept, got {kept}");
    empty(&files)
}

fn pressure(options: &Options) -> Result<()> {
    let files = files(options)?;
    leave(&options.heap()?, 16 << 20)?;
    let kept = files.number("pool")?;
    ensure!(kept == 16 << 20, "expected 16 MiB to be kept, got {kept}");
    // There is nothing else to reclaim. A kernel that does not get this back kills the test.
    let scanned = vmstat("slabs_scanned")?;
    let mut used = Instant::now();
    let mut taken = Vec::new();
    while files.number("pool")? > 4 << 20 {
        // On a slow machine, idle memory would go before memory is short. So the test uses the pool
        // now and then. Once memory is short, that may fail.
        if used.elapsed() > Duration::from_secs(3) {
            match options.heap()?.alloc(16 << 20) {
                Err(Errno::NOMEM) => (),
                buffer => buffer?.map()?.fill(0xa5),
            }
            used = Instant::now();
        }
        let memory = Mapping::anonymous(1 << 20)?;
        memory.touch();
        taken.push(memory);
    }
    println!("{} MiB were taken before", taken.len());
    ensure!(
        vmstat("slabs_scanned")? > scanned,
        "the pool gave memory back, but the kernel did not ask for it"
    );
    Ok(())
}

fn idle(options: &Options) -> Result<()> {
    let files = files(options)?;
    leave(&options.heap()?, 4 << 20)?;
    let gone = eventually(|| Ok(files.number("pool")? == 0))?;
    ensure!(gone, "{} bytes are still kept", files.number("pool")?);
    Ok(())
}

/// The same for a heap that also charges control groups.
fn charged_files(options: &Options) -> Result<Files> {
    let files = files(options)?;
    if files.text("accounting")? != "memory" {
        return skip("the heap does not charge control groups of the memory controller");
    }
    Ok(files)
}

/// Has a process in `group` allocate and free a buffer of `len` bytes.
fn leave_in(options: &Options, group: &Group, len: u64) -> Result<()> {
    let helper = Helper::Allocate {
        heap: options.heap.clone(),
        len,
        group: Some(group.path().to_owned()),
    };
    succeed(&helper)
}

/// Lets a process do something that must succeed, and waits until it has gone.
fn succeed(helper: &Helper) -> Result<()> {
    let answer = helper.spawn()?.answer()?;
    ensure!(answer == "success", "expected success, got {answer}");
    Ok(())
}

fn current(group: &Group) -> Result<u64> {
    let text = group.read("memory.current")?;
    text.trim().parse().with_context(|| text.clone())
}

fn own_group(options: &Options) -> Result<()> {
    const LEN: u64 = 8 << 20;
    let files = charged_files(options)?;
    let group = Group::new("memory")?;
    leave_in(options, &group, LEN)?;
    let kept = || files.number("pool");
    ensure!(
        kept()? == LEN as usize,
        "expected 8 MiB to be kept, got {}",
        kept()?
    );
    let paid = current(&group)?;
    ensure!(
        paid >= LEN,
        "expected {LEN} bytes to be charged to the group that they are kept for, got {paid}"
    );

    let buffer = options.heap()?.alloc(LEN as usize)?;
    ensure!(
        kept()? == LEN as usize,
        "another group got memory that is charged to this group"
    );
    drop(buffer);
    ensure!(
        kept()? == 2 * LEN as usize,
        "expected both to be kept, got {}",
        kept()?
    );

    leave_in(options, &group, LEN)?;
    ensure!(
        kept()? == 2 * LEN as usize,
        "expected it to be used again, got {}",
        kept()?
    );

    group.write("memory.max", &(LEN / 2).to_string())?;
    let paid = current(&group)?;
    ensure!(
        paid <= LEN / 2 && (LEN..=LEN + LEN / 2).contains(&(kept()? as u64)),
        "the group's limit is {} bytes, but {paid} are charged, and {} are kept for both groups",
        LEN / 2,
        kept()?
    );
    Ok(())
}

fn short_group(options: &Options) -> Result<()> {
    // Each CPU holds back 64 pages of a group's limit, which may not be much of it.
    let len = (8 << 20).max(512 * page_size() as u64);
    let files = charged_files(options)?;
    let group = Group::new("memory")?;
    leave(&options.heap()?, len as usize)?;
    leave_in(options, &group, len)?;
    group.write("memory.max", &(len + len / 2).to_string())?;

    // Small buffers never use larger blocks of the pool, so the kernel has to reclaim those.
    let helper = Helper::AllocateSmall {
        heap: options.heap.clone(),
        len,
        group: group.path().to_owned(),
    };
    let mut process = helper.spawn()?;
    let answer = process.answer()?;
    ensure!(
        answer == "success",
        "{len} bytes in small buffers where {len} are kept and {} are the limit: expected success, got {answer}",
        len + len / 2
    );
    let kept = files.number("pool")? as u64;
    ensure!(
        (len..=len + len / 2).contains(&kept),
        "expected what the group had to go, and {len} bytes of others to stay: {kept} are kept"
    );
    Ok(())
}

fn group_outlived(options: &Options) -> Result<()> {
    let files = charged_files(options)?;
    let group = Group::new("memory")?;
    let path = group.path().to_owned();
    let helper = Helper::Allocate {
        heap: options.heap.clone(),
        len: 8 << 20,
        group: Some(path.clone()),
    };
    let mut process = helper.spawn()?;
    let answer = process.answer()?;
    ensure!(answer == "success", "expected success, got {answer}");
    cgroup::leave(process.pid())?;
    drop(group);
    ensure!(!path.exists(), "{} cannot be removed", path.display());
    // Nobody could use this memory any more.
    drop(process);
    let pool = files.number("pool")?;
    ensure!(pool == 0, "the group is gone, but {pool} bytes are kept");
    Ok(())
}

fn group_gone(options: &Options) -> Result<()> {
    let files = charged_files(options)?;
    let group = Group::new("memory")?;
    leave_in(options, &group, 8 << 20)?;
    ensure!(
        files.number("pool")? == 8 << 20,
        "expected 8 MiB to be kept"
    );
    drop(group);
    let gone = eventually(|| Ok(files.number("pool")? == 0))?;
    ensure!(
        gone,
        "the group is gone, but {} bytes are kept",
        files.number("pool")?
    );
    Ok(())
}

/// The kernel numbers control groups, and gives the number of a removed group to the next one. If the
/// module mistook one for the other, the kernel would report a count below zero.
fn group_follows(options: &Options) -> Result<()> {
    let files = charged_files(options)?;
    for _ in 0..3 {
        let group = Group::new("memory")?;
        leave_in(options, &group, 8 << 20)?;
        drop(group);
        // The number is free a little later than the name.
        std::thread::sleep(Duration::from_millis(500));
    }
    let last = Group::new("memory")?;
    leave_in(options, &last, 4 << 20)?;
    let gone = eventually(|| Ok(files.number("pool")? <= 4 << 20))?;
    ensure!(gone, "{} bytes are kept", files.number("pool")?);
    drop(last);
    let gone = eventually(|| Ok(files.number("pool")? == 0))?;
    ensure!(gone, "{} bytes are kept", files.number("pool")?);
    Ok(())
}

/// How many removed control groups are still held by somebody.
fn dying() -> Result<u64> {
    let stat = fs::read_to_string("/sys/fs/cgroup/cgroup.stat").context("cgroup.stat")?;
    let dying = stat
        .lines()
        .find_map(|line| line.strip_prefix("nr_dying_descendants "))
        .context("nr_dying_descendants")?;
    dying.parse().with_context(|| dying.to_owned())
}

fn group_dies(options: &Options) -> Result<()> {
    charged_files(options)?;
    // Groups of earlier tests have to go first.
    eventually(|| Ok(dying()? == 0))?;
    let before = dying()?;
    let mut kept = Vec::new();
    for round in 0..8 {
        let group = Group::new("memory")?;
        leave_in(options, &group, 1 << 20)?;
        // A live buffer must not hold its group either.
        if round % 2 == 0 {
            let _member = group.join()?;
            kept.push(options.heap()?.alloc(1 << 20)?);
        }
    }
    let gone = eventually(|| Ok(dying()? <= before))?;
    ensure!(
        gone,
        "eight groups were removed, but {} of them are still there",
        dying()? - before
    );
    Ok(())
}

fn group_reclaims(options: &Options) -> Result<()> {
    const KEPT: u64 = 16 << 20;
    const LEN: usize = 8 << 20;
    let files = charged_files(options)?;
    let importer = Importer::new(&accepted_by(&options.heap))?;
    let group = Group::new("memory")?;
    // The memory to reclaim is what the pool keeps, in blocks that are too small for the buffer.
    let helper = Helper::AllocateSmall {
        heap: options.heap.clone(),
        len: KEPT,
        group: group.path().to_owned(),
    };
    succeed(&helper)?;
    ensure!(
        eventually(|| Ok(files.number("pool")? as u64 == KEPT))?,
        "expected {KEPT} bytes to be kept, got {}",
        files.number("pool")?
    );
    group.write("memory.max", &(KEPT + (1 << 20)).to_string())?;

    make_blocks(BLOCK / page_size(), (LEN / BLOCK) as u64)?;
    let member = group.join()?;
    let buffer = options.heap()?.alloc(LEN)?;
    drop(member);
    let attachment = importer.attach(&buffer, Kind::Static)?;
    let mapped = importer.map(attachment, Direction::Bidirectional)?;
    let segments = mapped.segments as usize;
    importer.unmap(&mapped)?;
    println!("{LEN} bytes in {segments} segments");
    ensure!(
        segments <= 2 * reach::segments(LEN)?,
        "{LEN} bytes, {KEPT} to reclaim: expected at most {} segments, got {segments}",
        2 * reach::segments(LEN)?
    );
    Ok(())
}

fn off(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    if options.pooled {
        return skip("the module keeps memory here: load it with pool_percent=0");
    }
    leave(&options.heap()?, 4 << 20)?;
    let kept = Files::of(&options.heap).number("pool")?;
    ensure!(kept == 0, "expected nothing to be kept, got {kept} bytes");
    Ok(())
}
