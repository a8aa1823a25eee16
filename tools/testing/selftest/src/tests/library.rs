// SPDX-License-Identifier: GPL-2.0

//! The library `dmaheap`, compared with what these tests find out without it.

use super::Test;
use crate::expect::skip;
use crate::heap::Heap;
use crate::mapping::{entry_size, page_size};
use crate::memory::meminfo;
use crate::options::{CONTROL, Options};
use crate::reach::accepted_by;
use crate::test_importer::{Direction, Importer, Kind};
use anyhow::{Context as _, Result, bail, ensure};
use dmaheap::{Buffer, Error, Request, System, query};
use rustix::fd::OwnedFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File};
use std::time::Duration;

pub const TESTS: &[Test] = &[
    Test::new(
        "library.allocate",
        "buffers have the size, the name and the access mode of the request",
        allocate,
    ),
    Test::new(
        "library.aligned",
        "a large buffer is mapped at an aligned address, and unmapping leaves nothing mapped",
        aligned,
    ),
    Test::new(
        "library.refuse",
        "wrong requests get different errors",
        refuse,
    ),
    Test::new(
        "library.brackets",
        "brackets make CPU and device see each other's bytes",
        brackets,
    ),
    Test::new(
        "library.part",
        "brackets around a part do so too, even for buffers of other exporters",
        part,
    ),
    Test::new(
        "library.query",
        "the module's answer about a buffer agrees with its heap's attributes",
        ask,
    ),
    Test::new(
        "library.holders",
        "the library finds who holds a buffer, and which devices are attached",
        holders,
    ),
    Test::new(
        "library.many_buffers",
        "the time to find the holders of buffers grows in proportion to their number",
        many_buffers,
    ),
    Test::new(
        "library.devices",
        "the library finds the device of an open node, with its best heap",
        devices,
    ),
];

fn size() -> usize {
    3 * page_size()
}

/// Allocates by the library from the heap under test.
fn buffer(options: &Options, request: &Request) -> dmaheap::Result<Buffer> {
    System::new().heap(&options.heap)?.open()?.alloc(request)
}

fn allocate(options: &Options) -> Result<()> {
    let request = Request::new(size() as u64 - 1).name("thirty-one bytes of a name: 31.");
    let buffer = buffer(options, &request)?;
    ensure!(
        buffer.size() == size(),
        "expected {} bytes, got {}",
        size(),
        buffer.size()
    );
    let seen = crate::heap::Buffer::from_fd(OwnedFd::from(buffer))?;
    let (name, exporter) = (seen.fdinfo("name")?, seen.fdinfo("exp_name")?);
    ensure!(
        (name.as_str(), exporter.as_str()) == ("thirty-one bytes of a name: 31.", &options.heap),
        "expected the name and the heap that were asked for, got {name} of {exporter}"
    );
    Ok(())
}

/// The ranges of addresses that this process has mapped, those of dma-bufs or all.
fn mapped(dma_bufs: bool) -> Result<Vec<(usize, usize)>> {
    let maps = fs::read_to_string("/proc/self/maps").context("/proc/self/maps")?;
    let range = |line: &str| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some((address(start)?, address(end)?))
    };
    maps.lines()
        .filter(|line| !dma_bufs || line.contains("/dmabuf:"))
        .map(|line| range(line).with_context(|| line.to_owned()))
        .collect()
}

fn aligned(options: &Options) -> Result<()> {
    let total =
        || -> Result<usize> { Ok(mapped(false)?.iter().map(|(start, end)| end - start).sum()) };
    let entry = entry_size();
    for size in [page_size(), entry, entry + page_size(), 3 * entry] {
        // With large pages, one entry may map a large part of the memory.
        if size as u64 > meminfo("MemAvailable")? / 2 {
            println!("{size} bytes are too much for this machine");
            continue;
        }
        let buffer = buffer(options, &Request::new(size as u64))?;
        let before = total()?;
        let map = buffer.map()?;
        let (start, end) = match mapped(true)?[..] {
            [range] => range,
            ref other => bail!("expected one mapping of a dma-buf, got {other:?}"),
        };
        ensure!(
            end - start == size && (size < entry || start % entry == 0),
            "{size} bytes: expected a multiple of {entry}, got {start:#x} to {end:#x}"
        );
        let more = total()? - before;
        ensure!(
            (size..size + entry).contains(&more),
            "{size} bytes: {more} more are mapped"
        );
        drop(map);
        ensure!(mapped(true)?.is_empty(), "{size} bytes are still mapped");
    }
    Ok(())
}

fn refuse(options: &Options) -> Result<()> {
    let ask = |request: &Request| buffer(options, request).map(|buffer| buffer.size());
    let problem = ask(&Request::new(0));
    ensure!(
        matches!(problem, Err(Error::ZeroSize)),
        "size 0: got {problem:?}"
    );
    for size in [1 << 50, u64::MAX - 4096, u64::MAX] {
        let problem = ask(&Request::new(size));
        ensure!(
            matches!(problem, Err(Error::NoMemory { .. })),
            "size {size}: got {problem:?}"
        );
    }
    let problem = ask(&Request::new(1).name("x".repeat(32)));
    ensure!(
        matches!(problem, Err(Error::BadName(_))),
        "a long name: got {problem:?}"
    );
    let problem = ask(&Request::new(1).heap_flags(1));
    ensure!(
        matches!(problem, Err(Error::Io { .. })),
        "a heap flag: got {problem:?}"
    );

    let null = OwnedFd::from(File::open("/dev/null")?);
    let problem = Buffer::from_fd(null);
    ensure!(
        matches!(problem, Err(Error::NotADmaBuf)),
        "/dev/null: got {problem:?}"
    );

    let mut mapped = buffer(options, &Request::new(size() as u64).read_only())?.map()?;
    ensure!(
        mapped.write().is_err(),
        "a read-only buffer could be written to"
    );
    let access = mapped.read()?;
    let problem = access.copy_to(size() - 1, &mut [0; 2]);
    ensure!(
        matches!(problem, Err(Error::OutOfBounds { .. })),
        "at the end: got {problem:?}"
    );
    let problem = access.copy_to(usize::MAX, &mut [0; 2]);
    ensure!(
        matches!(problem, Err(Error::OutOfBounds { .. })),
        "far away: got {problem:?}"
    );
    access.copy_to(size() - 2, &mut [0; 2])?;
    Ok(())
}

/// If DMA bounces, the brackets have to copy each byte.
fn brackets(options: &Options) -> Result<()> {
    let importer = Importer::new(&accepted_by(&options.heap))?;
    let mut mapped = buffer(options, &Request::new(size() as u64))?.map()?;
    let attachment = importer.attach(&mapped, Kind::Static)?;
    let device = importer.map(attachment, Direction::Bidirectional)?;

    let mut access = mapped.write()?;
    access.fill(0, size(), 0x11)?;
    access.copy_from(4096, b"by the CPU")?;
    access.end()?;
    let seen = importer.read(&device, 4095, 11)?;
    ensure!(seen == b"\x11by the CPU", "the device saw {seen:x?}");

    importer.write(&device, 8000, b"by the device")?;
    let mut seen = [0; 13];
    mapped.read()?.copy_to(8000, &mut seen)?;
    ensure!(&seen == b"by the device", "the CPU saw {seen:x?}");

    // Dropping a bracket ends it.
    mapped.read_write()?.copy_from(0, b"dropped")?;
    let seen = importer.read(&device, 0, 7)?;
    ensure!(seen == b"dropped", "the device saw {seen:x?}");
    Ok(())
}

fn part(options: &Options) -> Result<()> {
    for heap in [options.heap.as_str(), CONTROL] {
        let request = Request::new(size() as u64);
        let buffer = System::new().heap(heap)?.open()?.alloc(&request)?;
        let importer = Importer::new(&accepted_by(heap))?;
        let mut mapped = buffer.map()?;
        let attachment = importer.attach(&mapped, Kind::Static)?;
        let device = importer.map(attachment, Direction::Bidirectional)?;

        let mut access = mapped.write_part(4000..4200)?;
        access.copy_from(4090, b"by the CPU")?;
        for (offset, len) in [(3999, 2), (4199, 2), (0, size()), (usize::MAX, 2)] {
            let problem = access.fill(offset, len, 0);
            ensure!(
                matches!(problem, Err(Error::OutOfBounds { .. })),
                "{heap}: {len} bytes at {offset}, outside of the part: {problem:?}"
            );
        }
        access.end()?;
        let seen = importer.read(&device, 4089, 12)?;
        ensure!(
            seen == b"\0by the CPU\0",
            "{heap}: the device saw {seen:x?}"
        );

        importer.write(&device, 8000, b"by the device")?;
        let mut seen = [0; 13];
        mapped.read_part(8000..8013)?.copy_to(8000, &mut seen)?;
        ensure!(&seen == b"by the device", "{heap}: the CPU saw {seen:x?}");

        mapped.read_write_part(0..7)?.copy_from(0, b"dropped")?;
        let seen = importer.read(&device, 0, 7)?;
        ensure!(seen == b"dropped", "{heap}: the device saw {seen:x?}");

        for part in [0..0, size()..size(), 0..size() + 1, size()..size() + 1] {
            let problem = mapped.read_part(part.clone());
            ensure!(
                matches!(problem, Err(Error::OutOfBounds { .. })),
                "{heap}: a bracket around {part:?}: {problem:?}"
            );
        }
    }
    Ok(())
}

fn ask(options: &Options) -> Result<()> {
    let heap = System::new().heap(&options.heap)?;
    let answer = buffer(options, &Request::new(1))?.query()?;
    ensure!(
        answer.exported_here == options.heap_is_ours(),
        "{}: got {answer:?}",
        options.heap
    );
    if answer.exported_here {
        let told = (
            answer.dma_coherent,
            answer.contiguous,
            answer.cpu_mapping,
            answer.heap.as_ref(),
        );
        let expected = (
            heap.dma_coherent,
            heap.contiguous,
            heap.cpu_mapping,
            Some(&heap.name),
        );
        ensure!(told == expected, "expected {expected:?}, got {told:?}");
    }
    let foreign = query(options.control()?.alloc(1)?)?;
    ensure!(
        !foreign.exported_here && foreign.dma_coherent.is_none() && foreign.heap.is_none(),
        "expected nothing about another exporter's buffer, got {foreign:?}"
    );
    let problem = query(File::open("/dev/null")?);
    ensure!(
        matches!(problem, Err(Error::NotADmaBuf)),
        "/dev/null: got {problem:?}"
    );
    Ok(())
}

fn holders(options: &Options) -> Result<()> {
    let importer = Importer::open()?;
    let name = importer.setup(&accepted_by(&options.heap))?;
    let buffer = Heap::open(&options.heap)?.alloc(size())?;
    let (_first, _second) = (buffer.map()?, buffer.map()?);
    importer.attach(&buffer, Kind::Dynamic)?;

    let own = std::process::id();
    for pid in [Some(own), None] {
        let found = System::new().holders(pid)?;
        let held = found
            .buffers
            .iter()
            .find(|held| held.inode == buffer.inode());
        let held = held.with_context(|| format!("the buffer is missing in {found:?}"))?;
        let holder = held.holders.iter().find(|holder| holder.pid == own);
        let holder = holder.with_context(|| format!("this process is missing in {held:?}"))?;
        let coherent = options.heap_is_ours().then(|| options.heap_is_strict());
        ensure!(
            held.size == Some(size() as u64)
                && held.exporter.as_ref() == Some(&options.heap)
                && held.attached.as_ref() == Some(&vec![name.clone()])
                && (coherent.is_none() || held.dma_coherent == coherent)
                && holder.descriptors.len() == 1
                && holder.mappings == 2,
            "expected {} bytes, one device {name}, one descriptor, two mappings; got {held:?}",
            size()
        );
    }
    Ok(())
}

/// Sixteen times as many buffers take about sixteen times as long. If each was looked for among all,
/// it would be 256 times. A busy machine does not bring the one near the other.
fn many_buffers(options: &Options) -> Result<()> {
    const FEW: usize = 250;
    let old = getrlimit(Resource::Nofile);
    let enough = Rlimit {
        current: Some(20 * FEW as u64),
        maximum: old.maximum.map(|most| most.max(20 * FEW as u64)),
    };
    setrlimit(Resource::Nofile, enough).context("more descriptors")?;
    let heap = options.heap()?;
    let mut buffers = Vec::new();
    let mut time = |count| -> Result<Duration> {
        while buffers.len() < count {
            buffers.push(heap.alloc(page_size())?);
        }
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let start = cpu_time();
            let found = System::new().holders(Some(std::process::id()))?;
            best = best.min(cpu_time() - start);
            let seen = found.buffers.len();
            ensure!(seen == count, "expected {count} buffers, got {seen}");
        }
        Ok(best)
    };
    let (few, many) = (time(FEW)?, time(16 * FEW)?);
    ensure!(
        many < 64 * few,
        "{FEW} buffers take {few:?}, and sixteen times as many {many:?}"
    );
    Ok(())
}

/// How long this thread has had a CPU.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn devices(_: &Options) -> Result<()> {
    let system = System::new();
    let known = system.devices()?;
    let mut nodes = 0;
    for device in &known {
        for node in &device.nodes {
            let Ok(open) = File::open(node) else {
                continue;
            };
            let found = system.device_of_fd(&open)?;
            ensure!(
                found == *device,
                "{}: expected {device:?}, got {found:?}",
                node.display()
            );
            if let Some(first) = device.best_heap() {
                let links = crate::links::Links::of(&device.path)?.context("no links")?;
                ensure!(
                    Some(first) == links.first.as_deref(),
                    "{}: {first} is not {:?}",
                    device.name,
                    links.first
                );
            }
            nodes += 1;
        }
    }
    if nodes == 0 {
        return skip("no device here has a node that can be opened");
    }
    match system.device("/dev/null") {
        Err(Error::NotADevice { .. }) => Ok(()),
        other => bail!("/dev/null: expected no device that shares buffers, got {other:?}"),
    }
}
