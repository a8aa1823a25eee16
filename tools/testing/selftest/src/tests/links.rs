// SPDX-License-Identifier: GPL-2.0

//! Links in sysfs from devices to heaps: their content, and the rules for them.

use super::Test;
use crate::camera::Camera;
use crate::device::{Snooping, base_name};
use crate::displays::{self, Display, Displays};
use crate::expect::{Skip, expect_errno, outcome, skip};
use crate::faults::Faults;
use crate::fragments::Fragments;
use crate::heap::Heap;
use crate::hotplug::{bindings, expect_back, linked};
use crate::importer::{Frame, Importer, observe, observe_frame};
use crate::importers;
use crate::kernel_module::{modprobe, rmmod};
use crate::links::{self, Links, Uevents};
use crate::memory::{eventually, free_blocks};
use crate::options::{CONTIGUOUS_CONTROL, CONTROL, Options};
use crate::reach::{allocates, bouncing_is_forced};
use crate::rules::Rules;
use crate::suits::{Constraints, Known, Pieces, Use, own_area};
use crate::usb_camera::{self, Plugged};
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub const TESTS: &[Test] = &[
    Test::new(
        "links.shape",
        "directory, order and first choice name the same heaps, and the constraints are right",
        shape,
    ),
    Test::new(
        "links.agree",
        "a device is linked to a heap if and only if frames up to 4K always work in it",
        |options| agree(options, false),
    ),
    Test::new(
        "links.agree_fragmented",
        "the same with memory that is fragmented into single pages",
        |options| agree(options, true),
    ),
    Test::new(
        "links.first_works",
        "the first heap takes a 4K frame each time, even if memory is fragmented",
        first_works,
    ),
    Test::new(
        "links.dma_device",
        "the links describe the device that does the DMA, not the one with the node",
        dma_device,
    ),
    Test::new(
        "links.nodes_only",
        "only devices with nodes have links",
        nodes_only,
    ),
    Test::new(
        "links.rules",
        "the parameter changes the links of a driver's devices, and changes them back",
        rules,
    ),
    Test::new(
        "links.early_rules",
        "if a rule is set before its device exists, heaps that refuse the device get no link",
        early_rules,
    ),
    Test::new(
        "links.bad_rules",
        "impossible rules get EINVAL, and change nothing",
        bad_rules,
    ),
    Test::new(
        "links.events",
        "user space gets an event when links have changed",
        events,
    ),
    Test::new(
        "links.c_driver",
        "drivers in C can choose a heap for their device",
        c_driver,
    ),
];

/// All devices with nodes that can be importers, by their directory.
fn importers() -> Result<BTreeMap<PathBuf, Box<dyn Importer>>> {
    let importers = importers::all()?.into_iter();
    let found: BTreeMap<_, _> = importers
        .map(|importer| (importer.device().path().to_owned(), importer))
        .collect();
    if found.is_empty() {
        return skip("there is no importer here: load vgem, vkms, vivid or a similar driver");
    }
    Ok(found)
}

/// What the driver does with buffers of a heap that refuses no device.
fn use_of(options: &Options, importer: &dyn Importer) -> Result<Use> {
    let seen = observe(importer, &options.control()?)?;
    Ok(if seen.attached.is_empty() {
        Use::Cpu
    } else if seen.mapped.is_empty() {
        Use::Attach
    } else {
        Use::Map
    })
}

/// In how many pieces the driver takes buffers, according to its source.
fn known_pieces(importer: &dyn Importer, does: Use) -> Pieces {
    let driver = importer.device().driver.as_str();
    match does {
        Use::Map if driver == "vivid" || driver.starts_with("display-dma") => Pieces::One,
        _ => Pieces::Any,
    }
}

/// Fails unless the published constraints are those that other evidence gives.
fn expect_known(importer: &dyn Importer, does: Use, seen: &Constraints) -> Result<()> {
    let what = importer.describe();
    let device = importer.device();
    if does == Use::Cpu {
        ensure!(
            *seen == Constraints::CPU_ONLY,
            "{what}: the CPU does all the work, but the constraints are {seen:?}"
        );
        return Ok(());
    }
    match device.snooping() {
        Snooping::Yes(why) => ensure!(
            seen.snoops,
            "{what}: expected it to snoop, as {why}; got {seen:?}"
        ),
        Snooping::No(why) => ensure!(
            !seen.snoops,
            "{what}: expected it not to snoop, as {why}; got {seen:?}"
        ),
        Snooping::Unknown(why) => println!("{what}: it is not known whether it snoops: {why}"),
    }
    if let Some(bits) = device.mask_bits()? {
        ensure!(
            seen.address_bits == bits,
            "{what}: expected {bits} address bits, got {seen:?}"
        );
    }
    let (iommu, pieces) = (device.is_behind_iommu(), known_pieces(importer, does));
    ensure!(
        seen.iommu == iommu && seen.pieces == pieces,
        "{what}: expected IOMMU {iommu}, pieces {pieces:?}; got {seen:?}"
    );
    Ok(())
}

/// Fails unless the heaps come in the order that the design gives to such a device.
fn expect_order(
    importer: &dyn Importer,
    does: Use,
    seen: &Constraints,
    links: &Links,
) -> Result<()> {
    let own = own_area(importer.device().path())?;
    let known = Known::all()?;
    let heaps = links.order.iter().map(|name| {
        let heap = known.iter().find(|heap| heap.name == *name);
        let heap = heap.with_context(|| format!("{name} is no heap to be linked to"))?;
        Ok(heap.rank(seen, does, own.as_deref()))
    });
    let ranks = heaps.collect::<Result<Vec<_>>>()?;
    ensure!(
        ranks.is_sorted(),
        "{}: expected the order {:?} to have rising ranks, got {ranks:?}",
        importer.describe(),
        links.order
    );
    Ok(())
}

fn shape(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let ruled = !Rules::save()?.get()?.is_empty();
    for (path, importer) in importers()? {
        let what = importer.describe();
        let links = linked(&path)?;
        println!("{what}: {}", links.order.join(" "));
        let sorted: BTreeSet<_> = links.order.iter().cloned().collect();
        ensure!(
            sorted == links.heaps.keys().cloned().collect(),
            "{what}: the order is {:?}, but there are links to {:?}",
            links.order,
            links.heaps.keys()
        );
        ensure!(
            links.first.as_ref() == links.order.first(),
            "{what}: dma_heap is {:?}, but the order begins with another heap: {:?}",
            links.first,
            links.order
        );
        for (name, target) in &links.heaps {
            let number = fs::read_to_string(target.join("dev"))
                .with_context(|| format!("{what}: {name} is no device with a node"))?;
            let expected =
                fs::read_to_string(Path::new("/sys/class/dma_heap").join(name).join("dev"))?;
            ensure!(
                number == expected,
                "{what}: {name} is device {number}, not {expected}"
            );
            ensure!(Heap::path(name).exists(), "{what}: no node for {name}");
        }
        let seen = Constraints::of(&path)?;
        println!("{what}: {seen:?}");
        let does = use_of(options, &*importer)?;
        expect_known(&*importer, does, &seen)?;
        if !ruled {
            expect_order(&*importer, does, &seen, &links)?;
        }
    }
    Ok(())
}

/// Additional devices. They exist as long as this does.
#[derive(Default)]
struct Guests {
    _displays: Option<Displays>,
    camera: Option<Plugged>,
}

/// Turns a skip into nothing, and prints its reason.
fn unless_skipped<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is::<Skip>() => {
            println!("going on without: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Guests {
    /// Makes all devices that the test modules and programs can make.
    fn invite() -> Result<Self> {
        let displays = unless_skipped(Displays::load(&displays::ALL))?;
        let camera = unless_skipped(usb_camera::need().and_then(|()| Plugged::insert()))?;
        Ok(Self {
            _displays: displays,
            camera: camera.map(|(camera, _)| camera),
        })
    }

    fn see_off(&mut self) -> Result<()> {
        self.camera.take().map_or(Ok(()), Plugged::remove)
    }
}

/// The largest frame that the heap has memory for.
fn largest_frame(heap: &Heap, importer: &dyn Importer) -> Result<Option<Frame>> {
    for frame in Frame::ALL {
        let len = frame.size().max(importer.buffer_size());
        match heap.alloc(len) {
            Ok(_) => return Ok(Some(frame)),
            Err(errno) => println!("{len} bytes: {}", outcome::<()>(&Err(errno))),
        }
    }
    Ok(None)
}

fn agree(options: &Options, in_pieces: bool) -> Result<()> {
    options.need_our_heap()?;
    let rules = Rules::save()?;
    rules.set("")?;
    let mut guests = Guests::invite()?;
    let fragments = in_pieces
        .then(Fragments::make_with_small_blocks)
        .transpose();
    let result = fragments.and_then(|_kept| every_device_agrees(options));
    guests.see_off()?;
    result
}

fn every_device_agrees(options: &Options) -> Result<()> {
    let block = Frame::ALL[2].size();
    println!(
        "{} blocks of {block} bytes are free",
        free_blocks(block / crate::mapping::page_size())?
    );
    let mut all = importers::all()?;
    // A converter, which is a kind of device that the others are not.
    if modprobe("vim2m", &[]).is_ok() {
        let converters = Camera::converters()?;
        ensure!(!converters.is_empty(), "vim2m is loaded, but has no node");
        all.extend(converters.into_iter().map(|found| Box::new(found) as _));
    }
    ensure!(!all.is_empty(), "there is no importer");
    let mut wrong = Vec::new();
    for importer in &mut all {
        let what = importer.describe();
        let does = use_of(options, &**importer)?;
        let control = observe(&**importer, &options.control()?)?;
        importer.expect_frame(Frame::ALL[0])?;
        let device = Constraints::of(importer.device().path())?;
        println!("{what}: {does:?}, {device:?}");
        let links = linked(importer.device().path())?;
        for heap in Known::all()? {
            let name = &heap.name;
            let is_linked = links.heaps.contains_key(name);
            let reason = heap.reason(&device, does)?;
            match (is_linked, reason) {
                (true, None) => (),
                (false, Some(reason)) => {
                    println!("{name}: not linked: {reason}");
                    continue;
                }
                (true, Some(reason)) => wrong.push(format!("{what}: {name}: linked, but {reason}")),
                (false, None) => wrong.push(format!("{what}: {name}: not linked, but it suits")),
            }
            if !allocates(name)? {
                println!("{name}: everything bounces here, so it cannot allocate");
                continue;
            }
            let opened = Heap::open(name).with_context(|| name.clone())?;
            let Some(frame) = largest_frame(&opened, &**importer)? else {
                wrong.push(format!("{what}: {name}: has no memory for any frame"));
                continue;
            };
            let seen = observe_frame(&**importer, &opened, frame)?;
            // A driver may attach and map, and then always fail for reasons of its own.
            let works = seen.result.is_ok()
                || (seen.result == control.result && seen.mapped.len() == control.mapped.len());
            let pixels = format!("{}x{}", frame.width, frame.height);
            println!(
                "{name}: linked {is_linked}, {pixels}: {}",
                outcome(&seen.result)
            );
            if is_linked && !works {
                wrong.push(format!(
                    "{what}: {name}: linked, but {pixels} ended with {}",
                    outcome(&seen.result)
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn first_works(options: &Options) -> Result<()> {
    const ROUNDS: usize = 20;
    options.need_our_heap()?;
    let frame = Frame::ALL[0];
    // Some devices map only memory in one piece.
    let controls: Vec<Heap> = [CONTROL, CONTIGUOUS_CONTROL]
        .into_iter()
        .filter_map(|name| Heap::open(name).ok())
        .collect();
    let mut mapping = Vec::new();
    for mut importer in importers()?.into_values() {
        for control in &controls {
            let seen = observe(&*importer, control)?;
            if !seen.held.is_empty() && !seen.mapped.is_empty() {
                importer.expect_frame(frame)?;
                mapping.push(importer);
                break;
            }
        }
    }
    if mapping.is_empty() {
        return skip("no device here maps what it imports: try vivid allocators=1");
    }
    let _fragments = Fragments::make_with_small_blocks()?;
    for importer in mapping {
        let what = importer.describe();
        let Some(first) = linked(importer.device().path())?.first else {
            println!("{what}: there is no heap that suits it");
            continue;
        };
        let heap = Heap::open(&first).with_context(|| first.clone())?;
        for round in 1..=ROUNDS {
            let buffer = heap
                .alloc(frame.size().max(importer.buffer_size()))
                .with_context(|| format!("{what}: {first}, round {round}"))?;
            importer
                .import(&buffer)
                .map(drop)
                .with_context(|| format!("{what}: {first}, round {round}: {}", importer.call()))?;
        }
        println!("{what}: {first} works");
    }
    Ok(())
}

/// Tests both cases: either the device with the node snoops, or the device that does the DMA.
fn dma_device(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    if bouncing_is_forced()? {
        return skip("every device bounces here, so no strict heap suits any");
    }
    let _displays = Displays::load(&[
        Display::new("shmem", true, Some(false)),
        Display::new("shmem", false, Some(true)),
    ])?;
    for (number, snoops) in [false, true].into_iter().enumerate() {
        let path = displays::path(number);
        let links = linked(&path)?;
        println!("{}: {}", path.display(), links.order.join(" "));
        let importers = importers()?;
        let importer = importers
            .get(&path)
            .with_context(|| format!("{} has no node", path.display()))?;
        for heap in Known::all()? {
            let name = &heap.name;
            if !allocates(name)? {
                continue;
            }
            let seen = observe(&**importer, &Heap::open(name)?)?;
            let is_linked = links.heaps.contains_key(name);
            let refused = seen.result == Err(Errno::OPNOTSUPP);
            ensure!(
                !(is_linked && refused) && (is_linked == snoops || !links::is_strict(name)),
                "{}: {name}: linked {is_linked}, but PRIME import ended with {}",
                importer.describe(),
                outcome(&seen.result)
            );
        }
        let constraints = Constraints::of(&path)?;
        ensure!(
            constraints.snoops == snoops,
            "{}: expected the device that does the DMA to snoop {snoops}, got {constraints:?}",
            path.display()
        );
    }
    Ok(())
}

fn nodes_only(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let expected = links::devices()?;
    let seen = links::linked_devices()?;
    ensure!(
        seen == expected,
        "devices with nodes are {expected:#?}, but devices with links are {seen:#?}"
    );
    Ok(())
}

/// A device that is linked to the in-tree heap, so that a rule may name that heap.
fn linked_to_control(all: &BTreeMap<PathBuf, Box<dyn Importer>>) -> Result<&Path> {
    for path in all.keys() {
        if linked(path)?.heaps.contains_key(CONTROL) {
            return Ok(path);
        }
    }
    skip("no device here is linked to the in-tree heap")
}

/// The names of the heaps that suit a device.
fn suiting(device: &Constraints, does: Use) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for heap in Known::all()? {
        if heap.reason(device, does)?.is_none() {
            names.insert(heap.name);
        }
    }
    Ok(names)
}

/// Fails unless the links are to these heaps, best first.
fn expect_links(what: &str, device: &Path, order: &[&str]) -> Result<()> {
    let links = linked(device)?;
    ensure!(
        links.order == order && links.first.as_deref() == order.first().copied(),
        "{what}: expected links to {order:?}, got {links:?}"
    );
    Ok(())
}

fn rules(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let all = importers()?;
    let path = linked_to_control(&all)?;
    let driver = links::driver_of(path)?;
    let before = linked(path)?;
    let control = CONTROL;
    options.control()?;

    let rules = Rules::save()?;
    rules.set(&format!("{driver}={control}"))?;
    for other in all
        .keys()
        .filter(|path| links::driver_of(path).is_ok_and(|name| name == driver))
    {
        expect_links(&format!("{driver}={control}"), other, &[control])?;
    }
    ensure!(
        rules.get()? == format!("{driver}={control}"),
        "the parameter reads {:?}",
        rules.get()?
    );
    // More than one heap, in another order than by default.
    if let [.., second, last] = before.order.as_slice() {
        let text = format!("nonesuch={control},{driver}={last}:{second}");
        rules.set(&text)?;
        expect_links(&text, path, &[last, second])?;
    }
    rules.set("")?;
    expect_back(path, &before)?;
    for importer in all.values() {
        pieces_rules(options, &rules, &**importer)?;
    }
    Ok(())
}

/// A rule may say in how many pieces a driver's devices take a buffer.
fn pieces_rules(options: &Options, rules: &Rules, importer: &dyn Importer) -> Result<()> {
    let what = importer.describe();
    let path = importer.device().path();
    let does = use_of(options, importer)?;
    if does != Use::Map {
        return Ok(());
    }
    let driver = links::driver_of(path)?;
    let before = (linked(path)?, Constraints::of(path)?);
    for (value, pieces) in [("one", Pieces::One), ("any", Pieces::Any)] {
        let told = Constraints { pieces, ..before.1 };
        let text = format!("{driver}=pieces/{value}");
        rules.set(&text)?;
        let (links, seen) = (linked(path)?, Constraints::of(path)?);
        ensure!(
            seen == told,
            "{what}: {text}: expected {told:?}, got {seen:?}"
        );
        let expected = suiting(&told, does)?;
        ensure!(
            links.heaps.keys().eq(&expected),
            "{what}: {text}: expected links to {expected:?}, got {:?}",
            links.order
        );
        expect_order(importer, does, &told, &links)?;
        // If the rule names heaps after that, only these are linked.
        if let Some(last) = links.order.last() {
            let text = format!("{text}:{last}");
            rules.set(&text)?;
            expect_links(&text, path, &[last])?;
            let seen = Constraints::of(path)?;
            ensure!(
                seen == told,
                "{what}: {text}: expected {told:?}, got {seen:?}"
            );
        }
    }
    rules.set("")?;
    expect_back(path, &before.0)?;
    let seen = Constraints::of(path)?;
    ensure!(
        seen == before.1,
        "{what}: without rules again: expected {:?}, got {seen:?}",
        before.1
    );
    Ok(())
}

/// A heap that would refuse the importer's device, if there is one.
fn refusing_heap(importer: &dyn Importer) -> Result<Option<String>> {
    Ok(fs::read_dir("/sys/class/dma_heap")?
        .filter_map(|entry| Some(base_name(&entry.ok()?.path())))
        .find(|name| {
            Heap::open(name).is_ok_and(|heap| {
                observe(importer, &heap).is_ok_and(|seen| seen.result == Err(Errno::OPNOTSUPP))
            })
        }))
}

fn early_rules(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let mut refusing = BTreeMap::new();
    for (path, importer) in importers()? {
        refusing.extend(refusing_heap(&*importer)?.map(|heap| (path, heap)));
    }
    let mut tried = false;
    for binding in bindings()? {
        let Some(heap) = refusing.get(&binding.device) else {
            continue;
        };
        let driver = links::driver_of(&binding.device)?;
        let before = linked(&binding.device)?;
        let Some(first) = &before.first else {
            continue;
        };
        let rules = Rules::save()?;
        println!("{driver}={heap}: {}", binding.device.display());

        for (text, expected) in [
            (format!("{driver}={heap}:{first}"), vec![first.clone()]),
            (format!("{driver}={heap}"), vec![]),
        ] {
            binding.unbind()?;
            rules.set(&text)?;
            binding.bind()?;
            let mut links = None;
            let skipped = eventually(|| {
                links = Links::of(&binding.device)?;
                Ok(links.as_ref().is_some_and(|links| {
                    links.order == expected && links.first.as_ref() == expected.first()
                }))
            })?;
            ensure!(
                skipped,
                "{text}: expected links to {expected:?}, got {links:?}"
            );
        }
        rules.set("")?;
        expect_back(&binding.device, &before)?;
        tried = true;
    }
    if tried {
        return Ok(());
    }
    skip("no heap here refuses a device that can be unbound from its driver")
}

fn bad_rules(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let all = importers()?;
    let rules = Rules::save()?;
    let control = CONTROL;
    let state = |all: &BTreeMap<PathBuf, Box<dyn Importer>>| -> Result<Vec<_>> {
        all.keys()
            .map(|path| Ok(Links::of(path)?.map(|links| links.order)))
            .collect()
    };

    let path = linked_to_control(&all)?;
    let driver = links::driver_of(path)?;
    let good = format!("{driver}={control}");
    rules.set(&good)?;
    let before = state(&all)?;

    let mut bad = [
        "x",
        "=",
        "x=",
        "=system",
        "x=system=system",
        "x=system:",
        "x=:system",
        ",",
        "x=system,",
        ",x=system",
        "x=system,x=system",
        "x=system:system",
        "x=nonesuch",
        "x=system,y=nonesuch",
        "x = system",
        "x=system;y=system",
        "x=pieces/two",
        "x=pieces/",
        "x=pieces/any:",
        "x=pieces",
        "x=system:pieces/any",
        "x=pieces/any:pieces/one",
        "x=pieces/one:nonesuch",
    ]
    .map(str::to_owned)
    .to_vec();
    bad.push(format!("x={}", "y".repeat(2000)));
    for (path, importer) in &all {
        if let Some(refused) = refusing_heap(&**importer)? {
            bad.push(format!("{}={control}:{refused}", links::driver_of(path)?));
        }
        let known = Constraints::of(path)?;
        if known.pieces == Pieces::One && !known.iommu {
            bad.push(format!("{}={control}", links::driver_of(path)?));
        }
    }
    for text in &bad {
        expect_errno(
            &format!("links={text:.60}"),
            rules.try_set(text),
            Errno::INVAL,
        )?;
        ensure!(
            rules.get()? == good,
            "{text:?} was refused, but the parameter has changed to {:?}",
            rules.get()?
        );
        ensure!(
            state(&all)? == before,
            "{text:?} was refused, but the links have changed"
        );
    }
    Ok(())
}

fn events(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let all = importers()?;
    let path = linked_to_control(&all)?;
    let driver = links::driver_of(path)?;
    let rules = Rules::save()?;
    let uevents = Uevents::listen()?;

    rules.set(&format!("{driver}={}", CONTROL))?;
    // When the write returns, the links are there, and the event has been sent.
    let expected = path
        .strip_prefix("/sys")
        .context("a device outside of sysfs")?;
    let seen = uevents.drain()?;
    let changed = |path: &Path| {
        let want = format!("change@/{}", path.display());
        seen.contains(&want)
    };
    ensure!(
        changed(expected),
        "no change event for {}: {seen:#?}",
        expected.display()
    );
    for node in links::nodes_of(path)? {
        let node = node
            .strip_prefix("/sys")
            .context("a node outside of sysfs")?;
        ensure!(
            changed(node),
            "no change event for {}: {seen:#?}",
            node.display()
        );
    }
    // No event without a change.
    rules.set(&format!("{driver}={}", CONTROL))?;
    let seen = uevents.drain()?;
    ensure!(
        !seen.iter().any(|event| event.starts_with("change@")),
        "nothing changed, but there were events: {seen:#?}"
    );
    Ok(())
}

fn c_driver(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let command_line = fs::read_to_string("/proc/cmdline")?;
    if !command_line
        .split_whitespace()
        .any(|word| word == "kunit.autorun=1")
    {
        return skip("KUnit is off: boot with kunit.enable=1 kunit.autorun=1");
    }
    const MODULE: &str = "dmabuf_coherency_link_test";
    // Some cases make allocations fail, if the kernel can do that on demand.
    let faults = Faults::possible().then(Faults::new).transpose()?;
    let log = links::KernelLog::follow()?;
    if modprobe(MODULE, &[]).is_err() {
        return skip(format!(
            "there is no module {MODULE}: it is in tools/testing/modules"
        ));
    }
    rmmod(MODULE)?;
    let lines = log.lines()?;
    let results: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("    ok ") || line.starts_with("    not ok "))
        .collect();
    println!("{}", lines.join("\n"));
    ensure!(!results.is_empty(), "{MODULE} has run no test");
    ensure!(
        results.iter().all(|line| line.starts_with("    ok ")),
        "a test in C has failed"
    );
    ensure!(
        faults.is_none() || !results.iter().any(|line| line.contains("# SKIP")),
        "a test in C was skipped, although the kernel has all that they need"
    );
    Ok(())
}
