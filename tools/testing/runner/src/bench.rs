// SPDX-License-Identifier: GPL-2.0

//! That the benchmark measures everything. What it measures is no test.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::{BENCH, Kits};
use crate::results::Case;
use anyhow::{Context as _, Result};
use dmabuf_coherency_bench::results::{Axis, LINKS, OPERATIONS, Operation, Report};
use vm::Arch;

/// One heap of each kind.
const HEAPS: [&str; 4] = [
    "system",
    "system-coherent",
    "system-noncoherent",
    "system-uncached",
];

/// Whether `heap` refuses the device that `operation` is about.
fn is_refused(arch: Arch, heap: &str, operation: &str) -> bool {
    match heap {
        "system-coherent" => operation.ends_with(".nonsnooping"),
        "system-uncached" => arch == Arch::Arm64 && operation.ends_with(".snooping"),
        _ => false,
    }
}

pub fn groups() -> Vec<Group> {
    let group = |arch: Arch| {
        let about = "the benchmark measures every operation on every heap";
        Group::new(format!("{arch}-bench"), about, move |kits| run(kits, arch))
    };
    Arch::ALL.into_iter().map(group).collect()
}

fn run(kits: &Kits, arch: Arch) -> Result<Vec<Case>> {
    let heaps = format!(
        "insmod $DMABUF_COHERENCY_KO && modprobe dmabuf_importer && \
         exec /{BENCH} --rounds 1 --size 4K --size 1M --json{}",
        HEAPS.map(|heap| format!(" --heap {heap}")).concat()
    );
    let links = format!("exec /{BENCH} --devices 2 --json");
    let missing = |report: &Report| missing(report, arch);
    let mut cases = judged(kits, &Boot::new(arch, heaps), "bench.complete", missing)?;
    let boot = Boot::new(arch, links);
    cases.extend(judged(kits, &boot, "bench.links", missing_of_links)?);
    Ok(cases)
}

/// Measures, and looks for what is missing.
fn judged(
    kits: &Kits,
    boot: &Boot,
    name: &str,
    missing: impl Fn(&Report) -> Vec<String>,
) -> Result<Vec<Case>> {
    let outcome = boot.run(kits)?;
    let report: Report = serde_json::from_slice(&outcome.stdout).with_context(|| {
        let said = text(&outcome.stderr);
        format!(
            "expected JSON, got {}{said}{outcome}",
            text(&outcome.stdout)
        )
    })?;
    let missing = missing(&report);
    let problem = (!missing.is_empty()).then(|| {
        let repeat = boot.repeat(kits).unwrap_or_default();
        format!("not measured: {}\n{repeat}", missing.join(", "))
    });
    Ok(vec![
        Case::judged(name, problem),
        boot.health(kits, &outcome)?,
    ])
}

/// What was not measured although it could have been.
fn missing(report: &Report, arch: Arch) -> Vec<String> {
    let mut missing = Vec::new();
    for heap in HEAPS {
        for operation in OPERATIONS
            .iter()
            .filter(|operation| !is_of_links(operation))
        {
            if is_measured(report, operation, heap) == is_refused(arch, heap, operation.name) {
                missing.push(format!("{} on {heap}", operation.name));
            }
        }
    }
    missing
}

/// The same for links, which are measured in guests of their own.
fn missing_of_links(report: &Report) -> Vec<String> {
    let operations = OPERATIONS.iter().filter(|operation| is_of_links(operation));
    let missing = operations.filter(|operation| !is_measured(report, operation, LINKS));
    missing.map(|operation| operation.name.to_owned()).collect()
}

fn is_of_links(operation: &Operation) -> bool {
    operation.axis == Axis::Devices
}

fn is_measured(report: &Report, operation: &Operation, heap: &str) -> bool {
    let mut rows = report.measurements.iter();
    rows.any(|row| row.heap == heap && row.operation == operation.name)
}
