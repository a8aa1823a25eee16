// SPDX-License-Identifier: GPL-2.0

//! Devices, drivers and modules come and go many times, while programs walk sysfs and listen to
//! events. Afterwards every link must be as before, and modules and heaps must have no more
//! references than before. The harness looks for lost memory.

use super::Test;
use crate::expect::skip;
use crate::hotplug::{bindings, expect_back, linked, on_pci, rescan_pci};
use crate::kernel_module::{self, modprobe, releases_late, rmmod};
use crate::links::{self, Links, Uevents};
use crate::memory::{eventually, settled_free, wait_until};
use crate::options::Options;
use crate::references::{self, References};
use crate::usb_camera::{self, Plugged};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    Test::new(
        "links.rounds_unbind",
        "many rounds of unbinding and binding drivers, with readers all the while",
        unbind,
    ),
    Test::new(
        "links.rounds_pci",
        "many rounds of removing and finding PCI devices, with readers all the while",
        pci,
    ),
    Test::new(
        "links.rounds_usb",
        "many rounds of plugging and unplugging a camera, with readers all the while",
        usb,
    ),
    Test::new(
        "links.rounds_reload",
        "many rounds of unloading and loading drivers, with readers all the while",
        reload,
    ),
];

/// Whether this round waits for its links before the next round begins. Every other round does not, so
/// that adding and removing links also overlap.
fn is_patient(round: usize) -> bool {
    round % 2 == 0
}

fn unbind(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let bindings = bindings()?;
    repeat(options, |round, before, _| {
        for binding in &bindings {
            binding.unbind()?;
            binding.bind()?;
            if is_patient(round) {
                expect_back(&binding.device, &before[&binding.device])?;
            }
        }
        Ok(())
    })
}

fn pci(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let devices = on_pci()?;
    repeat(options, |round, before, _| {
        for path in &devices {
            fs::write(path.join("remove"), "1")?;
            ensure!(!path.exists(), "{} is still there", path.display());
        }
        rescan_pci()?;
        for path in devices.iter().filter(|_| is_patient(round)) {
            expect_back(path, &before[path])?;
        }
        Ok(())
    })
}

fn usb(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    usb_camera::need()?;
    let mut order = None;
    repeat(options, |round, _, met| {
        let before = met.load(Ordering::Relaxed);
        let (camera, links) = Plugged::insert()?;
        // In every other round the camera stays until the listener has seen it.
        if !is_patient(round) {
            ensure!(
                eventually(|| Ok(met.load(Ordering::Relaxed) > before))?,
                "the camera has links, but the listener has seen none"
            );
        }
        let order = order.get_or_insert_with(|| links.order.clone());
        ensure!(
            *order == links.order,
            "expected links to {order:?} as for the first plug, got {:?}",
            links.order
        );
        camera.remove()
    })
}

/// Drivers whose devices exist as long as the driver is loaded, and the parameters to keep.
const DRIVERS: [(&str, &[&str]); 4] = [
    ("vivid", &["allocators"]),
    ("vkms", &[]),
    ("vgem", &[]),
    ("vim2m", &[]),
];

/// Those drivers that the kernel calls once more when it releases one of their devices.
const CALLED_LATE: [&str; 2] = ["vivid", "vim2m"];

fn reload(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let late = releases_late();
    if !late {
        // If there is no vim2m, the other drivers are enough.
        let _ = modprobe("vim2m", &[]);
    }
    let mut drivers = Vec::new();
    for (driver, parameters) in DRIVERS {
        let goes_early = late && CALLED_LATE.contains(&driver);
        if goes_early || !kernel_module::loaded(driver) {
            continue;
        }
        let directory = Path::new("/sys/module").join(driver).join("parameters");
        let value = |name: &&str| -> Result<String> {
            let value = fs::read_to_string(directory.join(name))?;
            Ok(format!("{name}={}", value.trim()))
        };
        let parameters: Vec<_> = parameters.iter().map(value).collect::<Result<_>>()?;
        drivers.push((driver, parameters));
    }
    if drivers.is_empty() {
        return skip("no driver is loaded that can be unloaded: load vivid, vkms or vgem");
    }
    repeat(options, |round, before, _| {
        for (driver, parameters) in &drivers {
            rmmod(driver)?;
            modprobe(driver, parameters)?;
        }
        for (path, before) in before.iter().filter(|_| is_patient(round)) {
            expect_back(path, before)?;
        }
        Ok(())
    })
}

/// Runs `round` as often as the options say, while readers walk and listen. Afterwards everything must be
/// as before. `round` gets its number, the links before the first round, and how often the listener has
/// seen links.
fn repeat(
    options: &Options,
    mut round: impl FnMut(usize, &BTreeMap<PathBuf, Links>, &AtomicUsize) -> Result<()>,
) -> Result<()> {
    let links: BTreeMap<_, _> = links::linked_devices()?
        .into_iter()
        .map(|path| linked(&path).map(|links| (path, links)))
        .collect::<Result<_>>()?;
    // Round 0 makes what is made at first use, which is no leak.
    let met = AtomicUsize::new(0);
    round(0, &links, &met)?;
    let before = settled_for_long(&links)?;
    let start = Instant::now();

    let done = AtomicBool::new(false);
    let uevents = Uevents::listen()?;
    std::thread::scope(|scope| {
        let readers = [
            scope.spawn(|| walk(&done, links::linked_devices)),
            scope.spawn(|| walk(&done, links::devices)),
            scope.spawn(|| listen(&done, &uevents, &met)),
        ];
        let result = (1..=options.rounds).try_for_each(|number| {
            ensure!(
                !readers.iter().any(|reader| reader.is_finished()),
                "a reader has failed"
            );
            round(number, &links, &met).with_context(|| format!("in round {number}"))
        });
        done.store(true, Ordering::Relaxed);
        let seen = readers.map(|reader| reader.join().map_err(|_| anyhow!("a reader died"))?);
        let seen = seen.into_iter().collect::<Result<Vec<_>>>()?;
        result?;
        println!("the readers saw {seen:?} sets of links");
        ensure!(!seen.contains(&0), "a reader saw no links");
        Ok(())
    })?;
    println!(
        "{} rounds took {:.1} s",
        options.rounds,
        start.elapsed().as_secs_f32()
    );

    let mut left = None;
    eventually(|| {
        left = lost(&before, &settled(&links)?, options.rounds);
        Ok(left.is_none())
    })?;
    if let Some(lost) = left {
        bail!("{lost}");
    }
    let now = links::linked_devices()?;
    ensure!(
        now.iter().eq(links.keys()),
        "links of {:#?} have become links of {now:#?}",
        links.keys()
    );
    Ok(())
}

/// Finds something that has more references after the rounds than before, or fewer by one for each
/// round. It may have a few less: the kernel may have dropped a reference of its own, such as that of a
/// sysfs directory that somebody read.
fn lost(before: &References, after: &References, rounds: usize) -> Option<String> {
    before.iter().find_map(|(what, before)| {
        let after = after.get(what).map_or(&[][..], Vec::as_slice);
        let right = before.len() == after.len()
            && before
                .iter()
                .zip(after)
                .all(|(before, after)| after <= before && before - after < rounds.max(2));
        (!right)
            .then(|| format!("{what}: there were {before:?} references, and there are {after:?}"))
    })
}

/// References to modules and to heaps. Waits until all links are as before and the kernel's caches are
/// dropped.
fn settled(links: &BTreeMap<PathBuf, Links>) -> Result<References> {
    for (path, links) in links {
        expect_back(path, links)?;
    }
    settled_free()?;
    let mut found = references::of_heaps()?;
    found.extend(references::of_modules()?);
    Ok(found)
}

/// The same, once the numbers have stopped changing. The kernel drops some references only after a while.
fn settled_for_long(links: &BTreeMap<PathBuf, Links>) -> Result<References> {
    let mut found = settled(links)?;
    wait_until(Duration::from_secs(10), || {
        std::thread::sleep(Duration::from_millis(500));
        let earlier = std::mem::replace(&mut found, settled(links)?);
        Ok(earlier == found)
    })?;
    Ok(found)
}

/// Reads the links of all devices that `find` finds, again and again. Devices may go meanwhile, and that
/// must do no harm.
fn walk(done: &AtomicBool, find: impl Fn() -> Result<BTreeSet<PathBuf>>) -> Result<usize> {
    let mut seen = 0;
    while !done.load(Ordering::Relaxed) {
        for path in find()? {
            seen += usize::from(Links::of(&path)?.is_some());
        }
    }
    Ok(seen)
}

/// Does what udev does: it gets events of devices, and reads their links. Counts in `met` how often there
/// were links.
fn listen(done: &AtomicBool, uevents: &Uevents, met: &AtomicUsize) -> Result<usize> {
    while !done.load(Ordering::Relaxed) {
        let events = uevents.drain()?;
        for (_, path) in events.iter().filter_map(|event| event.split_once('@')) {
            let device = Path::new("/sys").join(path.trim_start_matches('/'));
            if Links::of(&device)?.is_some() {
                met.fetch_add(1, Ordering::Relaxed);
            }
        }
        if events.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(met.load(Ordering::Relaxed))
}
