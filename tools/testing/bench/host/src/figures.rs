// SPDX-License-Identifier: GPL-2.0

//! Which charts there are.

use crate::chart::{Chart, Panel};
use anyhow::{Result, ensure};
use dmabuf_coherency_bench::results::{Axis, NO_LINKS, OPERATIONS, Operation, Report, operation};
use std::path::Path;

/// A chart that the documentation shows.
struct Documented {
    /// What its name ends with.
    suffix: &'static str,
    /// What the others are compared with.
    region: &'static str,
    /// Operations, and whether memory is scattered.
    panels: &'static [(&'static str, bool)],
}

const DOCUMENTED: [Documented; 3] = [
    Documented {
        suffix: "",
        region: "system",
        panels: &[
            ("alloc.warm", false),
            ("alloc.sustained", false),
            ("mmap.aligned", false),
            ("import.snooping", true),
            ("bracket.8.snooping", false),
            ("vmap", false),
        ],
    },
    Documented {
        suffix: "-growth",
        region: "system",
        panels: &[
            ("growth.alloc", false),
            ("growth.free", false),
            ("growth.attach", false),
            ("growth.map", false),
            ("growth.bracket", false),
            ("parallel", false),
            ("map.snooping", false),
        ],
    },
    Documented {
        suffix: "-links",
        region: NO_LINKS,
        panels: &[
            ("links.load", false),
            ("links.add", false),
            ("links.remove", false),
            ("links.search", false),
            ("links.rule", false),
        ],
    },
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

/// Draws the charts of a report that the documentation shows, in its directory.
pub fn draw_documented(report: &Report, directory: &Path) -> Result<()> {
    for documented in DOCUMENTED {
        let panel = |(name, scattered): &(&str, bool)| {
            let operation = operation(name)?;
            Some(Panel {
                operation,
                scattered: *scattered,
            })
        };
        let panels: Vec<Panel> = documented.panels.iter().filter_map(panel).collect();
        let chart = Chart {
            report,
            region: documented.region,
            panels: &panels,
        };
        let path = directory.join(format!(
            "performance{}-{}.svg",
            documented.suffix, report.arch
        ));
        let drawn = chart.draw(&path)?;
        ensure!(drawn, "there is nothing to draw in {}", path.display());
    }
    Ok(())
}
