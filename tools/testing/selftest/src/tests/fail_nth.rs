// SPDX-License-Identifier: GPL-2.0

//! Calls for which the kernel has no memory, or cannot copy. Each place in a call that
//! may fail is made to fail, one after the other, as iommufd's own test does it. The
//! harness looks for leaks afterwards, as with every test.

use super::Test;
use crate::expect::{outcome, skip};
use crate::faults::{Faults, MANY};
use crate::heap::{Buffer, END, Heap, READ, Request, WRITE};
use crate::links::{Links, linked_devices};
use crate::mapping::{Mapping, page_size};
use crate::options::{Options, is_ours};
use crate::query::{self, Query};
use crate::rules::Rules;
use crate::test_importer::{Direction, Importer, Kind, Setup};
use anyhow::{Context as _, Result, bail, ensure};
use dmabuf_coherency_selftest::cgroup::Group;
use rustix::fd::{AsFd as _, AsRawFd as _};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;

pub const TESTS: &[Test] = &[
    Test::new("fail_nth.alloc", "allocating on each heap", alloc),
    Test::new(
        "fail_nth.group",
        "allocating for the first time in a control group",
        group,
    ),
    Test::new("fail_nth.mmap", "mapping into user space", mmap),
    Test::new("fail_nth.attach", "attaching each kind of device", attach),
    Test::new("fail_nth.map", "mapping for each kind of device", map),
    Test::new("fail_nth.vmap", "mapping into the kernel", vmap),
    Test::new("fail_nth.sync", "the brackets around CPU access", sync),
    Test::new("fail_nth.query", "asking what a buffer is", query),
    Test::new("fail_nth.links", "changing the links of all devices", links),
    Test::new("fail_nth.load", "loading the module", load),
];

/// The kernel had no memory, or could not access the caller's memory.
const EITHER: &[Errno] = &[Errno::NOMEM, Errno::FAULT];

/// Runs `body` for each of the module's heaps.
fn each_heap(mut body: impl FnMut(&str, &Heap) -> Result<()>) -> Result<()> {
    let mut seen = 0;
    for entry in fs::read_dir("/dev/dma_heap")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_ours(&name) {
            body(&name, &Heap::open(&name)?).with_context(|| name.clone())?;
            seen += 1;
        }
    }
    ensure!(seen > 0, "expected heaps of the module in /dev/dma_heap");
    Ok(())
}

/// Runs `body` for each of the module's heaps, with a buffer and each device that may
/// attach to it. There are two at most: one snoops, and one does not.
fn each_device(mut body: impl FnMut(&Buffer, &Importer) -> Result<()>) -> Result<()> {
    each_heap(|_, heap| {
        let buffer = heap.alloc(1 << 20)?;
        for setup in [Setup::SNOOPING, Setup::NOT_SNOOPING] {
            let importer = Importer::new(&setup)?;
            match importer.attach(&buffer, Kind::Static) {
                Ok(attachment) => importer.detach(attachment)?,
                Err(Errno::OPNOTSUPP) => continue,
                Err(errno) => bail!("attaching: {}", outcome::<()>(&Err(errno))),
            }
            body(&buffer, &importer).with_context(|| format!("{setup:?}"))?;
        }
        Ok(())
    })
}

fn alloc(_: &Options) -> Result<()> {
    let faults = Faults::new()?;
    each_heap(|name, heap| {
        for size in [page_size(), 1 << 20] {
            faults.sweep(
                &format!("{name}, {size} bytes"),
                EITHER,
                || heap.request(&Request::new(size as u64)),
                |buffer| {
                    ensure!(
                        buffer.size() == size,
                        "expected {size} bytes, got {}",
                        buffer.size()
                    );
                    buffer.map()?.expect_zeroed("its memory")
                },
            )?;
        }
        Ok(())
    })
}

fn group(_: &Options) -> Result<()> {
    let faults = Faults::new()?;
    each_heap(|name, heap| {
        for nth in 1..MANY {
            // Only the first allocation in a group finds nothing in the pool, so each attempt has a
            // group of its own.
            let group = Group::new("memory")?;
            let member = group.join()?;
            let (seen, hit) = faults.run(nth, || heap.alloc(3 * page_size()))?;
            drop(member);
            match seen {
                Ok(buffer) => buffer.map()?.expect_zeroed("its memory")?,
                Err(errno) if hit && EITHER.contains(&errno) => (),
                Err(errno) => bail!("fault {nth}: got {}", outcome::<()>(&Err(errno))),
            }
            if !hit {
                println!("{name}: {} faults", nth - 1);
                return Ok(());
            }
        }
        bail!("the call failed at more than {MANY} faults, one after the other")
    })
}

fn mmap(_: &Options) -> Result<()> {
    let faults = Faults::new()?;
    each_heap(|name, heap| {
        let buffer = heap.alloc(4 << 20)?;
        let expected = &[Errno::NOMEM];
        faults.sweep(name, expected, || buffer.map(), |_| Ok(()))?;
        // A huge entry, if there are huge entries, and pages after it.
        let address = Mapping::anonymous(3 * buffer.size())?
            .address()
            .next_multiple_of(buffer.size());
        let len = buffer.size() - page_size();
        let map = || Mapping::at(&buffer, len, address);
        faults.sweep(&format!("{name}, in part"), expected, map, |_| Ok(()))
    })
}

fn attach(_: &Options) -> Result<()> {
    let faults = Faults::new()?;
    each_device(|buffer, importer| {
        for kind in Kind::ALL {
            faults.sweep(
                &format!("{kind:?}"),
                EITHER,
                || importer.attach(buffer, kind),
                |attachment| Ok(importer.detach(attachment)?),
            )?;
        }
        Ok(())
    })
}

fn map(_: &Options) -> Result<()> {
    let faults = Faults::new()?;
    each_device(|buffer, importer| {
        let attachment = importer.attach(buffer, Kind::Static)?;
        for direction in Direction::ALL {
            faults.sweep(
                &format!("{direction:?}"),
                EITHER,
                || importer.map(attachment, direction),
                |mapped| Ok(importer.unmap(&mapped)?),
            )?;
        }
        // If the kernel could not return the handle of a mapping, closing the importer undoes it.
        Ok(())
    })
}

fn vmap(_: &Options) -> Result<()> {
    let faults = Faults::new()?;
    let importer = Importer::new(&Setup::SNOOPING)?;
    each_heap(|name, heap| {
        let buffer = heap.alloc(1 << 20)?;
        faults.sweep(
            name,
            EITHER,
            || importer.vmap(&buffer),
            |mapped| Ok(importer.vunmap(&mapped)?),
        )
    })
}

fn sync(_: &Options) -> Result<()> {
    let faults = Faults::new()?;
    each_device(|buffer, importer| {
        let attachment = importer.attach(buffer, Kind::Static)?;
        let mapped = importer.map(attachment, Direction::Bidirectional)?;
        let both = u64::from(READ | WRITE);
        for flags in [both, both | u64::from(END)] {
            faults.sweep("bracket", EITHER, || buffer.sync(flags), |()| Ok(()))?;
        }
        importer.unmap(&mapped)?;
        Ok(importer.detach(attachment)?)
    })
}

fn query(_: &Options) -> Result<()> {
    let faults = Faults::new()?;
    let node = query::open()?;
    each_heap(|name, heap| {
        let buffer = heap.alloc(1)?;
        let question = Query::about(buffer.as_fd().as_raw_fd());
        faults.sweep(
            name,
            EITHER,
            || question.answer(&node),
            |answer| {
                ensure!(answer.heap()? == name, "got {answer:?}");
                Ok(())
            },
        )
    })
}

/// The links of these devices.
fn links_of(devices: &BTreeSet<PathBuf>) -> Result<Vec<Option<Links>>> {
    devices.iter().map(|device| Links::of(device)).collect()
}

fn links(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let faults = Faults::new()?;
    let rules = Rules::save()?;
    // Finding the devices takes far longer than reading their links.
    let devices = linked_devices()?;
    let Some(device) = devices.first() else {
        return skip("no device here has links: load vgem");
    };
    let driver = crate::links::driver_of(device)?;
    let before = links_of(&devices)?;
    rules.set(&format!("{driver}=system"))?;
    let changed = links_of(&devices)?;
    ensure!(before != changed, "the rule for {driver} changes nothing");
    let set = |rule: &str, expected: &[_]| {
        rules.set(rule)?;
        let seen = links_of(&devices)?;
        ensure!(seen == expected, "expected {expected:?}, got {seen:?}");
        Ok(())
    };
    let rule = format!("{driver}=system");
    for nth in 1..MANY {
        set("", &before)?;
        let (seen, hit) = faults.run(nth, || rules.try_set(&rule))?;
        if seen.is_err_and(|errno| !(hit && EITHER.contains(&errno))) {
            bail!("fault {nth}: got {}", outcome::<()>(&seen));
        }
        // A link that could not be made is missing until the next write.
        set(&rule, &changed).with_context(|| format!("after fault {nth}"))?;
        if !hit {
            println!("{} faults", nth - 1);
            let found = linked_devices()?;
            ensure!(
                found == devices,
                "expected links of {devices:?}, got {found:?}"
            );
            return Ok(());
        }
    }
    bail!("the call failed at more than {MANY} faults, one after the other")
}

fn load(options: &Options) -> Result<()> {
    if fs::exists("/sys/module/dmabuf_coherency")? {
        return skip(
            "the module is loaded already, and cannot be unloaded: boot without loading it",
        );
    }
    let Some(path) = &options.module else {
        return skip("the module's file is not known: give --module or DMABUF_COHERENCY_KO");
    };
    let faults = Faults::new()?;
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let insert = |parameters| rustix::system::finit_module(&file, parameters, 0);
    // Faults before the module's own code runs do not concern it. Loading with a parameter that it
    // refuses counts them, as that comes almost as far.
    let loader = faults.count(|| insert(c"links=?"))?;
    for number in options.skip_faults.. {
        let (seen, hit) = faults.run(loader + number, || insert(c""))?;
        match seen {
            Err(Errno::NOMEM) if hit => {}
            Err(errno) => bail!("fault {number}: got {}", outcome::<()>(&Err(errno))),
            Ok(()) if hit => {
                println!("fault {number} does not keep it from loading");
                println!("go on with --skip-faults {}", number + 1);
                break;
            }
            Ok(()) => {
                println!("{number} faults, and no more");
                break;
            }
        }
    }
    // Once the module has made its first heap, it stays, and works as far as it can.
    each_heap(|_, heap| heap.alloc(1 << 20)?.map()?.expect_zeroed("after all that"))
}
