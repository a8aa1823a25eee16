// SPDX-License-Identifier: GPL-2.0

//! All groups of tests, and the loop that runs them.

use crate::group::Group;
use crate::kit::Kits;
use crate::results::{Case, Count, Verdict};
use crate::{
    attacks, bench, board, cachecheck, client, compliance, configs, deb, documents, host,
    kernel_selftest, libdmaheap, pipeline, sleep, stock, suite, survey, upstream, vm_tool,
};
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Which groups to run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Every test once on each architecture
    Usual,
    /// The other groups: guests that differ in one thing
    Other,
    /// Both the usual and the other groups
    All,
}

/// The usual groups.
const USUAL: [&str; 25] = [
    "x86_64-whole",
    "arm64-whole",
    "x86_64-bounce",
    "arm64-displays",
    "x86_64-vmap",
    "x86_64-above-4g",
    "arm64-noncoherent",
    "arm64-dmaheap",
    "x86_64-dmaheap",
    "x86_64-libdmaheap",
    "x86_64-documents",
    "arm64-documents",
    "arm64-pipeline",
    "x86_64-dmabuf-heaps",
    "arm64-dmabuf-heaps",
    "x86_64-vm",
    "kdir",
    "host",
    "x86_64-stress",
    "x86_64-attacks",
    "arm64-attacks",
    "x86_64-samples",
    "arm64-samples",
    "x86_64-sleep",
    "arm64-sleep",
];

/// Parts of the names of those that run only where they are named: they fetch or build other kernels,
/// systems, emulators or clients than ours, and take a quarter of an hour each for it.
const NAMED: [&str; 5] = ["-debian", "every-heap", "configs", "packages", "patched"];

fn is_usual(group: &Group) -> bool {
    USUAL.contains(&group.name.as_str())
}

/// All groups. Those that take long come first. For another kernel than the usual one, only
/// the groups that test the module.
fn all(kernel: &str) -> Vec<Group> {
    let usual = kernel == vm::DEFAULT;
    let mut groups = suite::groups(!usual);
    groups.extend(board::groups());
    groups.extend(pipeline::groups());
    groups.extend(client::groups());
    groups.extend(compliance::groups());
    groups.extend(kernel_selftest::groups());
    groups.extend(survey::groups());
    groups.extend(attacks::groups());
    groups.extend(sleep::groups());
    if usual {
        groups.extend(vm_tool::groups());
        groups.extend(bench::groups());
        groups.extend(cachecheck::groups());
        groups.extend(stock::groups());
        groups.extend(host::groups());
        groups.extend(libdmaheap::groups());
        groups.extend(configs::groups());
        groups.extend(deb::groups());
        groups.extend(documents::groups());
        groups.extend(upstream::groups());
    }
    groups
}

pub fn list(kernel: &str) {
    for group in all(kernel) {
        let usual = if is_usual(&group) { '*' } else { ' ' };
        println!("{usual} {:24} {}", group.name, group.about);
    }
}

/// Runs the groups that have one of `filters` in their names, or those of `choice` if there is no
/// filter, and counts the tests. Some groups wait most of the time, for a device or until memory is
/// given back. So one more group than there are CPUs runs at a time.
pub fn run(choice: Choice, filters: &[String], verbose: bool, kits: &Kits) -> Result<Count> {
    let mut groups = all(kits.kernel());
    for filter in filters {
        if !groups.iter().any(|group| group.name.contains(filter)) {
            bail!(
                "no group of tests has {filter} in its name: `tools/vm/vm runner test --list` \
                 shows all names"
            );
        }
    }
    groups.retain(|group| match choice {
        _ if !filters.is_empty() => filters.iter().any(|filter| group.name.contains(filter)),
        _ if NAMED.iter().any(|name| group.name.contains(name)) => false,
        Choice::Usual => is_usual(group),
        Choice::Other => !is_usual(group),
        Choice::All => true,
    });
    let workers = std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .saturating_add(1)
        .min(groups.len());
    println!("{} groups of tests, {workers} at a time", groups.len());
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let done = Mutex::new((0, Count::default()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (cases, elapsed) = group.run(kits);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    let count = Count::of(&cases);
                    done.0 += 1;
                    done.1 += count;
                    let number = format!("[{}/{}]", done.0, groups.len());
                    println!("{number:7} {:25} {count} ({elapsed:.1} s)", group.name);
                    for case in &cases {
                        show(case, verbose);
                    }
                }
            });
        }
    });
    println!("all groups took {:.0} s", start.elapsed().as_secs_f32());
    let (_, total) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(total)
}

/// Prints a test that did not simply pass. With `verbose` it prints every test.
fn show(case: &Case, verbose: bool) {
    let name = &case.name;
    let text = case.text.trim_end();
    match case.verdict {
        Verdict::Passed if !verbose => return,
        Verdict::Skipped => println!("        skipped {name}: {text}"),
        Verdict::Refused => println!("        refused {name}: {text}"),
        Verdict::Passed => println!("        passed  {name}"),
        Verdict::Failed => println!("        FAILED  {name}"),
    }
    if matches!(case.verdict, Verdict::Passed | Verdict::Failed) {
        for line in text.lines() {
            println!("                {line}");
        }
    }
}
