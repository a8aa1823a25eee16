// SPDX-License-Identifier: GPL-2.0

//! Which charts there are.

use crate::chart::{Chart, Panel};
use anyhow::{Result, ensure};
use dmabuf_coherency_bench::results::{Axis, NO_LINKS, OPERATIONS, Operation, Report, operation};
use std::path::Path;

/// The panels that the README shows.
const OVERVIEW: [(&str, bool); 6] = [
    ("alloc.warm", false),
    ("alloc.sustained", false),
    ("mmap.aligned", false),
    ("import.snooping", true),
    ("bracket.8.snooping", false),
    ("vmap", false),
];

/// Draws all charts of a report. Their names begin with `prefix`.
pub fn draw(report: &Report, prefix: &Path) -> Result<()> {
    let panels = |wanted: &dyn Fn(&Operation) -> bool, scattered| -> Vec<Panel> {
        let operations = OPERATIONS.iter().filter(|operation| wanted(operation));
        let panel = |operation| Panel {
            operation,
            scattered,
        };
        operations.map(panel).collect()
    };
    let sized = |operation: &Operation| operation.axis == Axis::Bytes;
    let growth = panels(&|operation| !sized(operation), false);
    let draw = |region, suffix: &str, panels: &[Panel]| {
        let path = format!("{}-{suffix}.svg", prefix.display());
        let chart = Chart {
            report,
            region,
            panels,
        };
        chart.draw(Path::new(&path))
    };
    for region in ["system", "default_cma_region"] {
        draw(region, region, &panels(&sized, false))?;
        draw(
            region,
            &format!("{region}-scattered"),
            &panels(&sized, true),
        )?;
        draw(region, &format!("{region}-growth"), &growth)?;
    }
    draw(NO_LINKS, "links", &growth)?;
    Ok(())
}

/// Draws the chart of a report that the README shows.
pub fn draw_overview(report: &Report, path: &Path) -> Result<()> {
    let panel = |(name, scattered): (&str, bool)| {
        let operation = operation(name)?;
        Some(Panel {
            operation,
            scattered,
        })
    };
    let panels: Vec<Panel> = OVERVIEW.into_iter().filter_map(panel).collect();
    let chart = Chart {
        report,
        region: "system",
        panels: &panels,
    };
    let drawn = chart.draw(path)?;
    ensure!(drawn, "there is nothing to draw in {}", path.display());
    Ok(())
}
