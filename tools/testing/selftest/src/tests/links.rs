// SPDX-License-Identifier: GPL-2.0

//! Links in sysfs from devices to heaps: what they say, and how they follow
//! devices, drivers, subsystems and rules.

use super::Test;
use crate::device::base_name;
use crate::expect::{expect_errno, skip};
use crate::heap::Heap;
use crate::importer::{self, Importer, observe};
use crate::links::{self, Links, Uevents};
use crate::memory::wait_until;
use crate::options::Options;
use crate::rules::Rules;
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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
        "links.unbind",
        "links go with the driver, and come back with it",
        unbind,
    ),
    Test::new(
        "links.pci_hotplug",
        "links go with the device, and come back with it",
        pci_hotplug,
    ),
    Test::new(
        "links.subsystems",
        "whole subsystems can be unloaded and loaded again",
        subsystems,
    ),
    Test::new(
        "links.c_driver",
        "drivers in C can choose a heap for their device",
        c_driver,
    ),
    Test::new(
        "links.usb_camera",
        "a USB camera has links while it is plugged, also while it is used",
        usb_camera,
    ),
    Test::new(
        "links.rounds",
        "many rounds of unbinding and reloading, with readers all the while",
        rounds,
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

fn need_links(options: &Options) -> Result<()> {
    options.need_our_heap()
}

fn shape(options: &Options) -> Result<()> {
    need_links(options)?;
    for (path, importer) in importers()? {
        let what = importer.describe();
        let links = Links::of(&path)?.with_context(|| format!("{what} has no links"))?;
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
    need_links(options)?;
    for (path, importer) in importers()? {
        let links =
            Links::of(&path)?.with_context(|| format!("{} has no links", importer.describe()))?;
        for entry in fs::read_dir("/sys/class/dma_heap")? {
            let name = base_name(&entry?.path());
            if ALIASES.contains(&name.as_str()) {
                continue;
            }
            let heap = Heap::open(&name).with_context(|| name.clone())?;
            let seen = observe(&*importer, &heap)?;
            // A driver may attach and then refuse for reasons of its own; one that never attaches
            // and succeeds uses the CPU.
            let usable = !seen.attached.is_empty() || seen.result.is_ok();
            let linked = links.heaps.contains_key(&name);
            println!(
                "{}: {name}: usable {usable}, linked {linked}",
                importer.describe()
            );
            ensure!(
                usable || !linked,
                "{}: linked to {name}, which refuses it: {:?}",
                importer.describe(),
                seen.result
            );
            // Uncached memory works for a device that snoops, but is not offered to it.
            let offered = !name.ends_with("-uncached") || !links::is_strict(&links.first);
            // Nor is a strict heap to a driver that only uses the CPU of a device that does no DMA.
            let cpu_only = seen.attached.is_empty();
            ensure!(
                linked || !usable || !offered || (cpu_only && links::is_strict(&name)),
                "{}: could use {name}, and is not linked to it",
                importer.describe()
            );
        }
    }
    Ok(())
}

fn nodes_only(options: &Options) -> Result<()> {
    need_links(options)?;
    let mut expected = BTreeSet::new();
    for class in links::CLASSES {
        expected.append(&mut links::devices_of(class)?);
    }
    let seen = links::linked_devices()?;
    ensure!(
        seen == expected,
        "devices with nodes are {expected:#?}, and devices with links {seen:#?}"
    );
    Ok(())
}

fn rules(options: &Options) -> Result<()> {
    need_links(options)?;
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

fn bad_rules(options: &Options) -> Result<()> {
    need_links(options)?;
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
        // A heap that would refuse the device.
        let refused = fs::read_dir("/sys/class/dma_heap")?
            .filter_map(|entry| Some(base_name(&entry.ok()?.path())))
            .find(|name| {
                Heap::open(name).is_ok_and(|heap| {
                    observe(&**importer, &heap)
                        .is_ok_and(|seen| seen.result == Err(Errno::OPNOTSUPP))
                })
            });
        if let Some(refused) = refused {
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
    need_links(options)?;
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

/// Devices whose driver can be unbound from outside, with the file to write to and the name.
fn unbindable() -> Result<Vec<(PathBuf, PathBuf, String)>> {
    let mut found = Vec::new();
    for path in importers()?.into_keys() {
        // The driver of a virtio GPU is bound to a child of the device behind the node.
        let child = fs::read_dir(&path)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|child| base_name(child).starts_with("virtio"));
        let bound = child.unwrap_or_else(|| path.clone());
        let driver = fs::canonicalize(bound.join("driver"))?;
        if driver.join("unbind").exists() {
            found.push((path, driver, base_name(&bound)));
        }
    }
    if found.is_empty() {
        return skip("no importer can be unbound from its driver");
    }
    Ok(found)
}

fn unbind(options: &Options) -> Result<()> {
    need_links(options)?;
    for (path, driver, name) in unbindable()? {
        let before = Links::of(&path)?.with_context(|| format!("{name} has no links"))?;
        for round in 1..=3 {
            fs::write(driver.join("unbind"), &name).with_context(|| format!("unbinding {name}"))?;
            ensure!(
                Links::of(&path)?.is_none() && !path.join("dma_heap").exists(),
                "{name} has links without its driver ({round})"
            );
            fs::write(driver.join("bind"), &name).with_context(|| format!("binding {name}"))?;
            expect_back(&path, &before)?;
        }
    }
    Ok(())
}

/// The class may have to be found anew, which is done by somebody else than the binder.
fn expect_back(path: &Path, before: &Links) -> Result<()> {
    let back = wait_until(Duration::from_secs(5), || {
        Ok(Links::of(path)?.is_some_and(|links| links.order == before.order))
    })?;
    ensure!(
        back,
        "{}: expected links to {:?} again, got {:?}",
        path.display(),
        before.order,
        Links::of(path)?.map(|links| links.order)
    );
    Ok(())
}

fn pci_hotplug(options: &Options) -> Result<()> {
    need_links(options)?;
    let devices: Vec<_> = importers()?
        .into_keys()
        .filter(|path| path.join("remove").exists())
        .collect();
    if devices.is_empty() {
        return skip("there is no importer on PCI");
    }
    let before: Vec<_> = devices
        .iter()
        .map(|path| Links::of(path)?.with_context(|| format!("{} has no links", path.display())))
        .collect::<Result<_>>()?;
    for _ in 0..3 {
        for path in &devices {
            fs::write(path.join("remove"), "1")?;
            ensure!(!path.exists(), "{} is still there", path.display());
        }
        fs::write("/sys/bus/pci/rescan", "1")?;
        for (path, before) in devices.iter().zip(&before) {
            expect_back(path, before)?;
        }
    }
    Ok(())
}

fn modprobe(module: &str) -> Result<()> {
    let status = Command::new("modprobe")
        .arg(module)
        .status()
        .context("modprobe")?;
    ensure!(status.success(), "modprobe {module}: {status}");
    Ok(())
}

fn rmmod(module: &str) -> Result<()> {
    let name = CString::new(module)?;
    rustix::system::delete_module(&name, libc::O_NONBLOCK)
        .with_context(|| format!("unloading {module}"))
}

fn loaded(module: &str) -> bool {
    Path::new("/sys/module")
        .join(module)
        .join("refcnt")
        .exists()
}

/// Modules that can be unloaded with all that they need, and the class that goes with them.
const STACKS: &[(&str, &[&str], &str)] = &[
    (
        "vim2m",
        &[
            "vim2m",
            "v4l2_mem2mem",
            "videobuf2_vmalloc",
            "videobuf2_v4l2",
            "videodev",
        ],
        "video4linux",
    ),
    ("vgem", &["vgem", "drm_shmem_helper", "drm"], "drm"),
];

/// Unloads what it can of a stack, and says whether the class has gone.
fn unload(modules: &[&str], class: &str) -> Result<bool> {
    for module in modules {
        // Another driver may still need it.
        let holders = Path::new("/sys/module").join(module).join("holders");
        let free = fs::read_dir(holders).is_ok_and(|mut holders| holders.next().is_none());
        if loaded(module) && free {
            rmmod(module)?;
        }
    }
    Ok(!Path::new("/sys/class").join(class).exists())
}

fn subsystems(options: &Options) -> Result<()> {
    need_links(options)?;
    if releases_late() {
        return skip("with CONFIG_DEBUG_KOBJECT_RELEASE, unloading vim2m by itself is reported");
    }
    let mut tried = false;
    for (driver, modules, class) in STACKS {
        if modprobe(driver).is_err() {
            continue;
        }
        tried = true;
        for round in 1..=5 {
            let linked = || -> Result<bool> {
                Ok(links::linked_devices()?
                    .iter()
                    .any(|path| base_name(path).starts_with(driver)))
            };
            ensure!(
                wait_until(Duration::from_secs(5), linked)?,
                "{driver} is loaded ({round}), and its device has no links"
            );
            let alone = links::devices_of(class)?.len() == 1;
            let gone = unload(modules, class)?;
            ensure!(
                gone || !alone,
                "{driver} had the only device of class {class}, and the class cannot go"
            );
            println!(
                "{driver}: class {class} {}",
                if gone {
                    "has gone"
                } else {
                    "stays, as others use it"
                }
            );
            ensure!(
                !linked()?,
                "{driver} is not loaded, and there are links for it"
            );
            modprobe(driver)?;
        }
    }
    if !tried {
        return skip("neither vim2m nor vgem can be loaded here");
    }
    Ok(())
}

fn c_driver(options: &Options) -> Result<()> {
    need_links(options)?;
    let command_line = fs::read_to_string("/proc/cmdline")?;
    if !command_line
        .split_whitespace()
        .any(|word| word == "kunit.autorun=1")
    {
        return skip("KUnit is off: boot with kunit.enable=1 kunit.autorun=1");
    }
    const MODULE: &str = "dmabuf_coherency_link_test";
    let log = links::KernelLog::follow()?;
    if modprobe(MODULE).is_err() {
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
    Ok(())
}

/// The camera without hardware, and what captures from it, where this program is.
const CAMERA: &str = "/dmabuf_coherency_camera";
const CAPTURE: &str = "/capture";

/// The device behind the camera's node, if it is plugged.
fn camera() -> Result<Option<PathBuf>> {
    let mut devices = links::devices_of("video4linux")?.into_iter();
    Ok(devices.find(|path| links::driver_of(path).is_ok_and(|driver| driver == "uvcvideo")))
}

fn usb_camera(options: &Options) -> Result<()> {
    need_links(options)?;
    if !Path::new(CAMERA).exists() || !Path::new(CAPTURE).exists() {
        return skip(format!("there are no {CAMERA} and {CAPTURE}"));
    }
    for module in ["dummy_hcd", "raw_gadget", "uvcvideo"] {
        if modprobe(module).is_err() {
            return skip(format!("there is no module {module}"));
        }
    }
    for round in 1..=3 {
        let mut plugged = Command::new(CAMERA).spawn().context(CAMERA)?;
        let found = wait_until(Duration::from_secs(10), || {
            Ok(match camera()? {
                Some(path) => Links::of(&path)?.is_some(),
                None => false,
            })
        })?;
        ensure!(found, "the camera is plugged ({round}), and has no links");
        let path = camera()?.context("the camera has gone")?;
        let links = Links::of(&path)?.context("the links have gone")?;
        println!("{}: {}", path.display(), links.order.join(" "));
        // The CPU writes its frames, and whoever comes next has to be able to read them.
        ensure!(
            !links.order.iter().any(|heap| links::is_strict(heap)),
            "a device that does no DMA is linked to a strict heap: {:?}",
            links.order
        );
        let frames = Command::new(CAPTURE)
            .args(["--frames", "20", "--heap"])
            .arg(Heap::path(&links.first))
            .status()
            .context(CAPTURE)?;
        ensure!(frames.success(), "capturing into {}: {frames}", links.first);

        // Unplugged while its buffers are in use.
        let mut capture = Command::new(CAPTURE)
            .args(["--until-unplugged", "--heap"])
            .arg(Heap::path(&links.first))
            .spawn()
            .context(CAPTURE)?;
        std::thread::sleep(Duration::from_millis(500));
        let pid = rustix::process::Pid::from_child(&plugged);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        plugged.wait()?;
        let gone = wait_until(Duration::from_secs(10), || Ok(camera()?.is_none()))?;
        ensure!(gone, "the camera is unplugged ({round}), and still there");
        // The class forgets the node first, then we the device.
        let unlinked = wait_until(Duration::from_secs(10), || Ok(Links::of(&path)?.is_none()))?;
        ensure!(
            unlinked,
            "the camera is unplugged ({round}), and its links are still there"
        );
        let captured = capture.wait()?;
        ensure!(
            captured.success(),
            "capturing until it was unplugged: {captured}"
        );
    }
    Ok(())
}

/// Whether the kernel delays the release of objects, as a debug kernel does. vim2m's device is part
/// of the module, and such a kernel may free the module first.
fn releases_late() -> bool {
    let config = Command::new("zcat").arg("/proc/config.gz").output();
    config.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).contains("CONFIG_DEBUG_KOBJECT_RELEASE=y")
    })
}

fn rounds(options: &Options) -> Result<()> {
    need_links(options)?;
    let unbindable = unbindable()?;
    let before: BTreeMap<_, _> = importers()?
        .into_keys()
        .map(|path| Ok((path.clone(), Links::of(&path)?)))
        .collect::<Result<_>>()?;
    let can_reload = !releases_late() && modprobe("vim2m").is_ok();
    let uevents = Uevents::listen()?;
    let done = AtomicBool::new(false);

    let result = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| -> Result<usize> {
                    let mut seen = 0;
                    while !done.load(Ordering::Relaxed) {
                        // What is read may go meanwhile; that must harm nobody.
                        for path in links::linked_devices()? {
                            seen += usize::from(matches!(Links::of(&path), Ok(Some(_))));
                        }
                    }
                    Ok(seen)
                })
            })
            .collect();

        let work = || -> Result<()> {
            for round in 0..options.rounds {
                for (path, driver, name) in &unbindable {
                    fs::write(driver.join("unbind"), name)?;
                    ensure!(
                        Links::of(path)?.is_none(),
                        "round {round}: {name} kept its links"
                    );
                    fs::write(driver.join("bind"), name)?;
                }
                if can_reload {
                    rmmod("vim2m")?;
                    modprobe("vim2m")?;
                }
                uevents.drain()?;
            }
            Ok(())
        };
        let result = work();
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let seen = reader
                .join()
                .map_err(|_| anyhow::anyhow!("a reader died"))??;
            println!("a reader saw {seen} complete sets of links");
        }
        result
    });
    result?;
    for (path, before) in before {
        if let Some(before) = before {
            expect_back(&path, &before)?;
        }
    }
    Ok(())
}
