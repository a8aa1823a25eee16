// SPDX-License-Identifier: GPL-2.0

//! The weather: changes around the workers. Devices come and go, rules for links and limits change,
//! and memory gets short.

use super::action;
use super::state::{Usage, heap_names};
use super::tally::{Outcome, Tally};
use super::worker::Said;
use crate::expect::{Skip, expect_errno, outcome};
use crate::heap::Heap;
use crate::heap_files::Files;
use crate::hotplug::{Binding, bindings, expect_back, linked, on_pci, rescan_pci};
use crate::mapping::page_size;
use crate::memory::eventually;
use crate::options::is_ours;
use crate::process::Helper;
use crate::rules::Rules;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use dmabuf_coherency_selftest::cgroup::Group;
use fastrand::Rng;
use rustix::io::Errno;
use rustix::process::Signal;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

#[derive(Args, Clone, Debug)]
pub struct Weather {
    #[arg(long)]
    pub seed: u64,
    #[arg(long)]
    pub round: u64,
    #[arg(long)]
    pub changes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Driver,
    Pci,
    GoodRules,
    BadRules,
    Limit,
    Pressure,
    Groups,
    Reclaim,
}

const CHANGES: [Change; 8] = [
    Change::Driver,
    Change::Pci,
    Change::GoodRules,
    Change::BadRules,
    Change::Limit,
    Change::Pressure,
    Change::Groups,
    Change::Reclaim,
];

const GOOD_RULES: [&str; 4] = [
    "",
    "vivid=pieces/any:system",
    "vivid=default_cma_region-noncoherent:default_cma_region,bochs-drm=system",
    "nobody=system:system-noncoherent",
];

const BAD_RULES: [&str; 6] = [
    "vivid",
    "vivid=",
    "vivid=system,vivid=system",
    "vivid=no such heap",
    "vivid=system::system",
    // That heap does not give one piece.
    "vivid=pieces/one:system",
];

impl Weather {
    pub fn run(&self) -> Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut rng = action::rng(self.seed, self.round, u64::MAX);
        let mut recent = Vec::new();
        let mut tally = Tally::default();
        let mut result = Ok(());
        for number in 0..self.changes {
            let change = CHANGES[rng.usize(..CHANGES.len())];
            recent.push(format!("{number}: {change:?}"));
            match make(change, &mut rng) {
                Ok(outcome) => tally.add(change, outcome),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let said = match result {
            Ok(()) => Said::Through {
                usage: Usage::new(),
                tally,
            },
            Err(error) => Said::Failed {
                why: format!("the changes around the workers: {error:#}"),
                recent,
            },
        };
        println!("{}", serde_json::to_string(&said)?);
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }
}

fn make(change: Change, rng: &mut Rng) -> Result<Outcome> {
    let result = match change {
        Change::Driver => driver(rng),
        Change::Pci => pci(),
        Change::GoodRules => good_rules(rng),
        Change::BadRules => bad_rules(rng),
        Change::Limit => limit(rng),
        Change::Pressure => pressure(rng),
        Change::Groups => groups(rng),
        Change::Reclaim => reclaim(),
    };
    match result {
        // This machine does not have what would change.
        Err(error) if error.is::<Skip>() => Ok(Outcome::Idle),
        result => result
            .map(|()| Outcome::Done)
            .with_context(|| format!("{change:?}")),
    }
}

/// Unbinds a driver from its device, and binds it again.
fn driver(rng: &mut Rng) -> Result<()> {
    let bindings = bindings()?;
    let binding: &Binding = &bindings[rng.usize(..bindings.len())];
    let before = linked(&binding.device)?;
    binding.unbind()?;
    binding.bind()?;
    expect_back(&binding.device, &before)
}

fn pci() -> Result<()> {
    let devices = on_pci()?;
    let before = devices
        .iter()
        .map(|path| linked(path))
        .collect::<Result<Vec<_>>>()?;
    for path in &devices {
        fs::write(path.join("remove"), "1")?;
    }
    rescan_pci()?;
    for (path, before) in devices.iter().zip(&before) {
        expect_back(path, before)?;
    }
    Ok(())
}

fn good_rules(rng: &mut Rng) -> Result<()> {
    let rules = Rules::save()?;
    let text = GOOD_RULES[rng.usize(..GOOD_RULES.len())];
    rules.set(text)?;
    let seen = rules.get()?;
    ensure!(seen == text, "expected the rules {text:?}, got {seen:?}");
    Ok(())
}

fn bad_rules(rng: &mut Rng) -> Result<()> {
    let rules = Rules::save()?;
    let before = rules.get()?;
    let text = BAD_RULES[rng.usize(..BAD_RULES.len())];
    expect_errno(text, rules.try_set(text), Errno::INVAL)?;
    let seen = rules.get()?;
    ensure!(seen == before, "{text:?} changed the rules to {seen:?}");
    Ok(())
}

fn our_heap(rng: &mut Rng) -> Result<String> {
    let mut heaps = heap_names()?;
    heaps.retain(|heap| is_ours(heap));
    Ok(heaps.swap_remove(rng.usize(..heaps.len())))
}

/// Sets a heap's limit for a while. All workers may hit it.
fn limit(rng: &mut Rng) -> Result<()> {
    let name = our_heap(rng)?;
    let files = Files::of(&name);
    let heap = Heap::open(&name)?;
    files.set_limit(1 << rng.u32(13..23))?;
    for _ in 0..20 {
        match heap.alloc(1 << rng.u32(12..23)) {
            Ok(_) | Err(Errno::NOMEM) => (),
            seen => bail!("allocating at a limit: {}", outcome(&seen)),
        }
    }
    files.set_limit(4096)?;
    std::thread::sleep(Duration::from_millis(50));
    let seen = heap.alloc(8192).map(drop);
    expect_errno("allocating more than the limit", seen, Errno::NOMEM)
}

/// Fills a control group for which the module keeps memory, up to its limit.
fn pressure(rng: &mut Rng) -> Result<()> {
    const LIMIT: usize = 12 << 20;
    let group = Group::new("memory")?;
    group.write("memory.max", &LIMIT.to_string())?;
    let helper = Helper::Press {
        heap: our_heap(rng)?,
        group: group.path().to_owned(),
        len: LIMIT * 2 / 3,
    };
    let mut helper = helper.spawn()?;
    let mut status = None;
    eventually(|| {
        status = helper.ended()?;
        Ok(status.is_some())
    })?;
    let status = status.context("a process under memory pressure did not end in time")?;
    ensure!(
        status.success() || status.signal() == Some(Signal::KILL.as_raw()),
        "a process under memory pressure ended with {status}"
    );
    Ok(())
}

/// Control groups come and go, some before the buffer that was allocated in them.
fn groups(rng: &mut Rng) -> Result<()> {
    const COUNT: usize = 25;
    let heap = Heap::open(&our_heap(rng)?)?;
    for _ in 0..COUNT {
        let group = Group::new("memory")?;
        let member = group.join()?;
        let buffer = match heap.alloc(page_size() << rng.u32(..6)) {
            Err(Errno::NOMEM) => None,
            buffer => Some(buffer.context("allocating in a control group")?),
        };
        drop(member);
        if rng.bool() {
            drop(buffer);
            drop(group);
        } else {
            drop(group);
            drop(buffer);
        }
    }
    Ok(())
}

/// The kernel wants back whatever is kept, quietly.
fn reclaim() -> Result<()> {
    for request in ["4", "2"] {
        fs::write("/proc/sys/vm/drop_caches", request)?;
    }
    Ok(())
}
