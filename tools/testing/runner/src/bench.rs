// SPDX-License-Identifier: GPL-2.0

//! Checks that the benchmark measures every operation. The figures themselves are not
//! judged.

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

/// Whether `heap` refuses the device of `operation`.
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
    let on_heaps = |what: &str| {
        format!(
            "insmod $DMABUF_COHERENCY_KO && modprobe dmabuf_importer && \
             exec /{BENCH} --rounds 1 {what} --json{}",
            HEAPS.map(|heap| format!(" --heap {heap}")).concat()
        )
    };
    let heaps = on_heaps("--size 4K --size 1M");
    let links = format!("exec /{BENCH} --devices 2 --json");
    let missing = |report: &Report| missing(report, arch);
    let mut cases = judged(kits, &Boot::new(arch, heaps), "bench.complete", missing)?;
    let boot = Boot::new(arch, on_heaps("--parallel"));
    let missing = |report: &Report| missing_of(report, Axis::Cpus, &HEAPS);
    cases.extend(judged(kits, &boot, "bench.parallel", missing)?);
    let missing = |report: &Report| missing_of(report, Axis::Devices, &[LINKS]);
    let boot = Boot::new(arch, links);
    cases.extend(judged(kits, &boot, "bench.links", missing)?);
    Ok(cases)
}

/// Measures, and looks for measurements that are missing.
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

/// Operations that were not measured although the heap takes the device, or measured
/// although it does not.
fn missing(report: &Report, arch: Arch) -> Vec<String> {
    let mut missing = Vec::new();
    for heap in HEAPS {
        for operation in OPERATIONS
            .iter()
            .filter(|operation| !OWN_GUESTS.contains(&operation.axis))
        {
            if is_measured(report, operation, heap) == is_refused(arch, heap, operation.name) {
                missing.push(format!("{} on {heap}", operation.name));
            }
        }
    }
    missing
}

/// Operations against these axes are measured in separate guests.
const OWN_GUESTS: [Axis; 2] = [Axis::Cpus, Axis::Devices];

/// Operations against `axis` that were not measured.
fn missing_of(report: &Report, axis: Axis, heaps: &[&str]) -> Vec<String> {
    let operations = OPERATIONS.iter().filter(|operation| operation.axis == axis);
    let each = operations.flat_map(|operation| heaps.iter().map(move |heap| (operation, heap)));
    each.filter(|(operation, heap)| !is_measured(report, operation, heap))
        .map(|(operation, heap)| format!("{} on {heap}", operation.name))
        .collect()
}

fn is_measured(report: &Report, operation: &Operation, heap: &str) -> bool {
    let mut rows = report.measurements.iter();
    rows.any(|row| row.heap == heap && row.operation == operation.name)
}
