// SPDX-License-Identifier: GPL-2.0

//! Memory that is kept from one buffer to the next.

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
        "what a buffer leaves is used again, and zeroed before",
        reused,
    ),
    Test::new(
        "pool.midway",
        "what is taken while it is being zeroed is zeroed to its end",
        midway,
    ),
    Test::new(
        "pool.bounded",
        "no more is kept than a few per cent of the memory",
        bounded,
    ),
    Test::new(
        "pool.low",
        "of the memory below 4 GiB, no more is kept than as many per cent of it",
        low,
    ),
    Test::new(
        "pool.counted",
        "the kernel counts what is kept among the memory that it can get back",
        counted,
    ),
    Test::new(
        "pool.dropped",
        "all of it is given back when the kernel drops its caches",
        dropped,
    ),
    Test::new(
        "pool.pressure",
        "all of it is given back when others need the memory",
        pressure,
    ),
    Test::new(
        "pool.idle",
        "what is not needed for a while is given back",
        idle,
    ),
    Test::new(
        "pool.own_group",
        "what one control group has paid for serves no other, and goes when that one is short",
        own_group,
    ),
    Test::new(
        "pool.group_gone",
        "what is kept for a control group goes with it",
        group_gone,
    ),
    Test::new(
        "pool.group_outlived",
        "what a buffer leaves is not kept if its control group has gone before",
        group_outlived,
    ),
    Test::new(
        "pool.group_follows",
        "what was kept for control groups goes while their number is another one's",
        group_follows,
    ),
    Test::new(
        "pool.short_group",
        "a control group at its limit gets memory that was kept for it, and no other's",
        short_group,
    ),
    Test::new(
        "pool.group_dies",
        "a control group that is removed goes, whatever has been allocated in it",
        group_dies,
    ),
    Test::new(
        "pool.group_reclaims",
        "a control group at its limit reclaims for large blocks, not only for pages",
        group_reclaims,
    ),
    Test::new("pool.off", "nothing is kept if the module is told so", off),
];

/// The largest part of the memory that is kept, unless the module is told another.
const PERCENT: u64 = 5;

/// The heap's files, where the heap has a pool, with nothing in it.
pub fn files(options: &Options) -> Result<Files> {
    options.need_our_heap()?;
    options.need_system_region()?;
    if !options.pooled {
        return skip("the module is told to keep nothing");
    }
    let files = Files::of(&options.heap);
    empty(&files)?;
    Ok(files)
}

/// Has the pool emptied.
fn empty(files: &Files) -> Result<()> {
    drop_caches()?;
    let pool = files.number("pool")?;
    ensure!(pool == 0, "expected an empty pool, there are {pool} bytes");
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
    // Blocks of one size serve no other, and hold nothing of the last user either.
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

/// The thread zeroes a block bit by bit. Where it has got to when the block is taken depends on
/// how long that takes.
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
    // The kernel counts a few pages for each CPU apart.
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

/// The memory, but for that of slabs, which the kernel says it can get back.
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
        // What is idle would go before memory is short, where that takes long. Once memory is
        // short, there may be no more for this than what is kept.
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
        "the pool was given back, and the kernel has not asked for it"
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

/// The same, where the heap charges control groups as well.
fn charged_files(options: &Options) -> Result<Files> {
    let files = files(options)?;
    if files.text("accounting")? != "memory" {
        return skip("the heap charges nobody");
    }
    Ok(files)
}

/// A buffer of `len` bytes, allocated and freed by a process in `group`.
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
        "{paid} bytes are charged to the group that they are kept for"
    );

    let buffer = options.heap()?.alloc(LEN as usize)?;
    ensure!(
        kept()? == LEN as usize,
        "another group got what this one has paid for"
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
        "the group may have {} bytes: {paid} are charged, {} are kept for both",
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

    // Small buffers are never taken from larger blocks, so that the kernel has to reclaim some.
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
    // Neither at once nor later would somebody need it.
    drop(process);
    let pool = files.number("pool")?;
    ensure!(pool == 0, "the group has gone, and {pool} bytes are kept");
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
        "the group has gone, and {} bytes are kept",
        files.number("pool")?
    );
    Ok(())
}

/// The kernel numbers control groups, and gives the number of one that has gone to the next. If the
/// module took the one for the other, the kernel would report a count below zero.
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

/// How many control groups have been removed that somebody still holds.
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
    // Those of earlier tests go first.
    eventually(|| Ok(dying()? == 0))?;
    let before = dying()?;
    let mut kept = Vec::new();
    for round in 0..8 {
        let group = Group::new("memory")?;
        leave_in(options, &group, 1 << 20)?;
        // A live buffer holds no group either.
        if round % 2 == 0 {
            let _member = group.join()?;
            kept.push(options.heap()?.alloc(1 << 20)?);
        }
    }
    let gone = eventually(|| Ok(dying()? <= before))?;
    ensure!(
        gone,
        "eight groups have been removed, and {} of them are still there",
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
    // What can be reclaimed is what is kept, in blocks that are too small to be used.
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
        "{LEN} bytes where {KEPT} can be reclaimed: got {segments} segments"
    );
    Ok(())
}

fn off(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    if options.pooled {
        return skip("the module keeps memory here");
    }
    leave(&options.heap()?, 4 << 20)?;
    let kept = Files::of(&options.heap).number("pool")?;
    ensure!(kept == 0, "expected nothing to be kept, got {kept} bytes");
    Ok(())
}
