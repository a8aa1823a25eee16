// SPDX-License-Identifier: GPL-2.0

//! That the benchmark measures everything. What it measures is no test.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::{BENCH, Kits};
use crate::results::Case;
use anyhow::{Context as _, Result};
use dmabuf_coherency_bench::results::{OPERATIONS, Report};
use vm::Arch;

/// One heap of each kind.
const HEAPS: [&str; 4] = [
    "system",
    "system-coherent",
    "system-noncoherent",
    "system-uncached",
];

/// What is not for heaps that refuse devices.
const NEEDS_ANY_DEVICE: &str = "nonsnooping";

pub fn groups() -> Vec<Group> {
    let group = |arch: Arch| {
        let about = "the benchmark measures every operation on every heap";
        Group::new(format!("{arch}-bench"), about, move |kits| run(kits, arch))
    };
    Arch::ALL.into_iter().map(group).collect()
}

fn run(kits: &Kits, arch: Arch) -> Result<Vec<Case>> {
    let script = format!(
        "insmod $DMABUF_COHERENCY_KO && modprobe dmabuf_importer && \
         exec /{BENCH} --rounds 1 --size 4K --size 1M --json{}",
        HEAPS.map(|heap| format!(" --heap {heap}")).concat()
    );
    let boot = Boot::new(arch, script);
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
        Case::judged("bench.complete", problem),
        boot.health(kits, &outcome)?,
    ])
}

/// What was not measured although it could have been.
fn missing(report: &Report) -> Vec<String> {
    let mut missing = Vec::new();
    for heap in HEAPS {
        for operation in OPERATIONS {
            let refused = heap.ends_with("-coherent") && operation.name.contains(NEEDS_ANY_DEVICE);
            let mut rows = report.measurements.iter();
            let found = rows.any(|row| row.heap == heap && row.operation == operation.name);
            if found == refused {
                missing.push(format!("{} on {heap}", operation.name));
            }
        }
    }
    missing
}
