// SPDX-License-Identifier: GPL-2.0

//! Links in sysfs from devices to heaps: what they say, and how they follow rules.

use super::Test;
use crate::camera::Camera;
use crate::device::base_name;
use crate::expect::{expect_errno, skip};
use crate::faults::Faults;
use crate::heap::Heap;
use crate::hotplug::{bindings, expect_back, linked};
use crate::importer::{self, Importer, observe};
use crate::kernel_module::{modprobe, rmmod};
use crate::links::{self, Links, Uevents};
use crate::memory::eventually;
use crate::options::Options;
use crate::reach::allocates;
use crate::rules::Rules;
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub const TESTS: &[Test] = &[
    Test::new(
        "links.shape",
        "directory, order and first choice name the same heaps",
        shape,
    ),
    Test::new(
        "links.agree",
        "a device is linked to a heap if and only if it can use its buffers",
        agree,
    ),
    Test::new(
        "links.nodes_only",
        "only devices with nodes have links",
        nodes_only,
    ),
    Test::new(
        "links.rules",
        "the parameter changes the links of a driver's devices, and back",
        rules,
    ),
    Test::new(
        "links.early_rules",
        "a rule that comes before its device may name a heap that refuses it, in vain",
        early_rules,
    ),
    Test::new(
        "links.bad_rules",
        "rules that cannot be followed get EINVAL and change nothing",
        bad_rules,
    ),
    Test::new(
        "links.events",
        "user space hears of changed links when they are there",
        events,
    ),
    Test::new(
        "links.c_driver",
        "drivers in C can choose a heap for their device",
        c_driver,
    ),
];

/// Heaps that are another name of a heap that the links do point at.
const ALIASES: &[&str] = &["reserved", "linux,cma"];

/// All devices with nodes that can be importers, by their directory.
fn importers() -> Result<BTreeMap<PathBuf, Box<dyn Importer>>> {
    let importers = importer::all()?.into_iter();
    let found: BTreeMap<_, _> = importers
        .map(|importer| (importer.device().path().to_owned(), importer))
        .collect();
    if found.is_empty() {
        return skip("there is no importer: load vgem, vkms, vivid or the like");
    }
    Ok(found)
}

fn shape(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    for (path, importer) in importers()? {
        let what = importer.describe();
        let links = linked(&path)?;
        println!("{what}: {}", links.order.join(" "));
        let sorted: BTreeSet<_> = links.order.iter().cloned().collect();
        ensure!(
            sorted == links.heaps.keys().cloned().collect(),
            "{what}: the order is {:?}, and there are links to {:?}",
            links.order,
            links.heaps.keys()
        );
        ensure!(
            Some(&links.first) == links.order.first(),
            "{what}: dma_heap is {}, and the order begins otherwise: {:?}",
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
    }
    Ok(())
}

fn agree(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let mut all = importer::all()?;
    // A converter, whose links are of no other device's kind.
    if modprobe("vim2m", &[]).is_ok() {
        let converters = Camera::converters()?;
        ensure!(!converters.is_empty(), "vim2m is loaded, and has no node");
        all.extend(converters.into_iter().map(|found| Box::new(found) as _));
    }
    ensure!(!all.is_empty(), "there is no importer");
    for importer in &all {
        let what = importer.describe();
        let links = linked(importer.device().path())?;
        for entry in fs::read_dir("/sys/class/dma_heap")? {
            let name = base_name(&entry?.path());
            if ALIASES.contains(&name.as_str()) || !allocates(&name)? {
                continue;
            }
            let heap = Heap::open(&name).with_context(|| name.clone())?;
            let seen = observe(&**importer, &heap)?;
            // A driver may attach and then refuse for reasons of its own; one that never attaches
            // and succeeds uses the CPU.
            let attaches = !seen.attached.is_empty();
            let usable = attaches || seen.result.is_ok();
            let is_linked = links.heaps.contains_key(&name);
            let expected = usable && exception(&links, &name, attaches).is_none();
            println!("{what}: {name}: attaches {attaches}, usable {usable}, linked {is_linked}");
            ensure!(
                is_linked == expected,
                "{what}: {name}: expected a link to be {expected}, it is {is_linked}; the device \
                 attaches: {attaches}, and the import ended with {:?}",
                seen.result
            );
        }
    }
    Ok(())
}

/// Why a device has no link to a heap that it could use, if it should not.
fn exception(links: &Links, heap: &str, attaches: bool) -> Option<&'static str> {
    if heap.ends_with("-uncached") && links::is_strict(&links.first) {
        return Some("uncached memory works for a device that snoops, and gains nothing");
    }
    if links::is_strict(heap) && !attaches && !links::is_strict(&links.first) {
        return Some("the CPU does the work of a device whose DMA would be refused");
    }
    None
}

fn nodes_only(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let expected = links::devices()?;
    let seen = links::linked_devices()?;
    ensure!(
        seen == expected,
        "devices with nodes are {expected:#?}, and devices with links {seen:#?}"
    );
    Ok(())
}

fn rules(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let all = importers()?;
    let (path, _) = all.first_key_value().context("no importer")?;
    let driver = links::driver_of(path)?;
    let before = Links::of(path)?.context("no links")?;
    let control = crate::options::CONTROL;
    options.control()?;

    let rules = Rules::save()?;
    rules.set(&format!("{driver}={control}"))?;
    for other in all
        .keys()
        .filter(|path| links::driver_of(path).is_ok_and(|name| name == driver))
    {
        let links = Links::of(other)?.context("no links")?;
        ensure!(
            links.order == [control] && links.first == control,
            "{driver}={control}: {} is linked to {:?}",
            other.display(),
            links.order
        );
    }
    ensure!(
        rules.get()? == format!("{driver}={control}"),
        "the parameter reads {:?}",
        rules.get()?
    );
    // More than one heap, in another order than the default one.
    if let [.., second, last] = before.order.as_slice() {
        rules.set(&format!("nonesuch={control},{driver}={last}:{second}"))?;
        let links = Links::of(path)?.context("no links")?;
        ensure!(
            links.order == [last.as_str(), second.as_str()],
            "expected {last} and {second}, got {:?}",
            links.order
        );
    }
    rules.set("")?;
    let after = Links::of(path)?.context("no links")?;
    ensure!(
        after.order == before.order,
        "without rules again: expected {:?}, got {:?}",
        before.order,
        after.order
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
    let control = crate::options::CONTROL;
    options.control()?;
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
        let rules = Rules::save()?;
        println!("{driver}={heap}: {}", binding.device.display());

        binding.unbind()?;
        rules.set(&format!("{driver}={heap}:{control}"))?;
        binding.bind()?;
        let order = || -> Result<_> { Ok(Links::of(&binding.device)?.map(|links| links.order)) };
        let skipped = eventually(|| Ok(order()?.is_some_and(|order| order == [control])))?;
        ensure!(
            skipped,
            "expected a link to {control} alone, got {:?}",
            order()?
        );

        binding.unbind()?;
        rules.set(&format!("{driver}={heap}"))?;
        binding.bind()?;
        let links = Links::of(&binding.device)?;
        ensure!(links.is_none(), "expected no links, got {links:?}");
        rules.set("")?;
        expect_back(&binding.device, &before)?;
        tried = true;
    }
    if tried {
        return Ok(());
    }
    skip("no heap refuses a device that can be unbound from its driver")
}

fn bad_rules(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let all = importers()?;
    let rules = Rules::save()?;
    let control = crate::options::CONTROL;
    let state = |all: &BTreeMap<PathBuf, Box<dyn Importer>>| -> Result<Vec<_>> {
        all.keys()
            .map(|path| Ok(Links::of(path)?.map(|links| links.order)))
            .collect()
    };

    let (path, _) = all.first_key_value().context("no importer")?;
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
    ]
    .map(str::to_owned)
    .to_vec();
    bad.push(format!("x={}", "y".repeat(2000)));
    for (path, importer) in &all {
        if let Some(refused) = refusing_heap(&**importer)? {
            bad.push(format!("{}={control}:{refused}", links::driver_of(path)?));
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
            "{text:?} was refused, and the parameter is {:?}",
            rules.get()?
        );
        ensure!(
            state(&all)? == before,
            "{text:?} was refused, and the links have changed"
        );
    }
    Ok(())
}

fn events(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let all = importers()?;
    let (path, _) = all.first_key_value().context("no importer")?;
    let driver = links::driver_of(path)?;
    let rules = Rules::save()?;
    let uevents = Uevents::listen()?;

    rules.set(&format!("{driver}={}", crate::options::CONTROL))?;
    // The links are there when the write returns; the event came before that.
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
    rules.set(&format!("{driver}={}", crate::options::CONTROL))?;
    let seen = uevents.drain()?;
    ensure!(
        !seen.iter().any(|event| event.starts_with("change@")),
        "nothing changed, and there were events: {seen:#?}"
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
    // Some cases let memory run out, where the kernel can be told to.
    let faults = Faults::possible().then(Faults::new).transpose()?;
    let log = links::KernelLog::follow()?;
    if modprobe(MODULE, &[]).is_err() {
        return skip(format!("there is no module {MODULE}"));
    }
    rmmod(MODULE)?;
    let lines = log.lines()?;
    let results: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("    ok ") || line.starts_with("    not ok "))
        .collect();
    println!("{}", lines.join("\n"));
    ensure!(!results.is_empty(), "the module has run no test");
    ensure!(
        results.iter().all(|line| line.starts_with("    ok ")),
        "a test in C has failed"
    );
    ensure!(
        faults.is_none() || !results.iter().any(|line| line.contains("# SKIP")),
        "a test in C was skipped, on a kernel that has all they need"
    );
    Ok(())
}
