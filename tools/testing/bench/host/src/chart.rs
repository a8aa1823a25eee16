// SPDX-License-Identifier: GPL-2.0

//! Results as charts: a grid of small ones, one for each operation, with a line
//! for each heap, both axes logarithmic.

use anyhow::{Result, anyhow};
use dmabuf_coherency_bench::results::{Axis, Clock, Measurement, Operation, Report, baseline};
use dmabuf_coherency_bench::table::label;
use plotters::prelude::*;
use std::path::Path;

const COLUMNS: usize = 3;
const WIDTH: u32 = 330;
const HEIGHT: u32 = 240;
/// Height of the title and the legend.
const HEAD: u32 = 58;

/// Colours that can be told apart, also by those who do not see all of them, and
/// the widths of lines: where several heaps cost the same, all are seen. The
/// in-tree heap's come first.
const STYLES: [(RGBColor, u32); 4] = [
    (RGBColor(190, 190, 190), 9),
    (RGBColor(0, 114, 178), 6),
    (RGBColor(213, 94, 0), 4),
    (RGBColor(0, 158, 115), 2),
];

/// What one chart shows.
pub struct Chart<'a> {
    pub report: &'a Report,
    /// The in-tree heap; shown with those that are compared with it.
    pub region: &'a str,
    pub panels: &'a [Panel],
}

/// An operation, with memory as it is after boot or scattered.
#[derive(Clone, Copy)]
pub struct Panel {
    pub operation: &'static Operation,
    pub scattered: bool,
}

impl Panel {
    fn title(&self) -> String {
        let scattered = if self.scattered { "; scattered" } else { "" };
        format!("{}{scattered}", self.operation.title)
    }
}

impl Chart<'_> {
    /// Draws it as SVG. Returns whether there was anything to draw.
    pub fn draw(&self, path: &Path) -> Result<bool> {
        let shown = |panel: &&Panel| !self.rows(panel).is_empty();
        let panels: Vec<&Panel> = self.panels.iter().filter(shown).collect();
        if panels.is_empty() {
            return Ok(false);
        }
        let rows = panels.len().div_ceil(COLUMNS);
        let columns = panels.len().min(COLUMNS);
        let size = (WIDTH * columns as u32, HEAD + HEIGHT * rows as u32);
        let root = SVGBackend::new(path, size).into_drawing_area();
        let draw = || -> Result<(), Box<dyn std::error::Error>> {
            root.fill(&WHITE)?;
            let (head, body) = root.split_vertically(HEAD);
            self.draw_head(&head)?;
            for (area, panel) in body.split_evenly((rows, columns)).iter().zip(&panels) {
                self.draw_panel(area, panel)?;
            }
            root.present()?;
            Ok(())
        };
        draw().map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
        Ok(true)
    }

    /// The heaps that are shown, the in-tree heap first.
    fn heaps(&self) -> Vec<&str> {
        let mut heaps: Vec<&str> = Vec::new();
        for row in &self.report.measurements {
            let heap = row.heap.as_str();
            if baseline(heap).unwrap_or(heap) == self.region && !heaps.contains(&heap) {
                heaps.push(heap);
            }
        }
        heaps.sort_by_key(|heap| baseline(heap).is_some());
        heaps
    }

    /// What a panel shows.
    fn rows(&self, panel: &Panel) -> Vec<&Measurement> {
        let heaps = self.heaps();
        let shown = |row: &&Measurement| {
            row.operation == panel.operation.name
                && row.scattered == panel.scattered
                && heaps.contains(&row.heap.as_str())
        };
        self.report.measurements.iter().filter(shown).collect()
    }

    fn draw_head<DB: DrawingBackend>(
        &self,
        head: &DrawingArea<DB, plotters::coord::Shift>,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        DB::ErrorType: 'static,
    {
        let unit = match self.report.clock {
            Clock::Instructions => "executed instructions under emulation",
            Clock::Wall => "nanoseconds",
        };
        let title = format!("{}: {unit}; lower is better", self.report.arch);
        head.draw(&Text::new(title, (12, 8), ("sans-serif", 17)))?;
        let mut left = 12;
        for (heap, (colour, width)) in self.heaps().iter().zip(STYLES) {
            let half = width as i32 / 2;
            head.draw(&Rectangle::new(
                [(left, 40 - half), (left + 22, 41 + half)],
                colour.filled(),
            ))?;
            head.draw(&Text::new(*heap, (left + 28, 33), ("sans-serif", 14)))?;
            left += 50 + 8 * heap.len() as i32;
        }
        Ok(())
    }

    fn draw_panel<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, plotters::coord::Shift>,
        panel: &Panel,
    ) -> Result<(), Box<dyn std::error::Error>>
    where
        DB::ErrorType: 'static,
    {
        let rows = self.rows(panel);
        let axis = panel.operation.axis;
        let (left, right) = limits(rows.iter().map(|row| row.at as f64));
        let (bottom, top) = limits(rows.iter().map(|row| value(row)));
        let (bottom, top) = (decade(bottom, f64::floor), decade(top, f64::ceil));
        let base = match axis {
            Axis::Bytes => 16.0,
            _ => 10.0,
        };
        let mut chart = ChartBuilder::on(area)
            .caption(panel.title(), ("sans-serif", 14))
            .margin(8)
            .margin_right(20)
            .x_label_area_size(22)
            .y_label_area_size(46)
            .build_cartesian_2d(
                (left..right).log_scale().base(base),
                (bottom..top).log_scale(),
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(6)
            .y_labels(8)
            .x_label_formatter(&|at| label(axis, *at as u64))
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        for (heap, (colour, width)) in self.heaps().iter().zip(STYLES) {
            let mut points: Vec<(f64, f64)> = rows
                .iter()
                .filter(|row| row.heap == *heap)
                .map(|row| (row.at as f64, value(row).max(1.0)))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(width)))?;
            let dot = |point| Circle::new(point, 1 + width / 2, colour.filled());
            chart.draw_series(points.into_iter().map(dot))?;
        }
        Ok(())
    }
}

/// What is drawn: the background thread's work counts, except where it was done
/// before anybody waited.
fn value(row: &Measurement) -> f64 {
    match row.operation.as_str() {
        "alloc.warm" => row.median,
        _ => row.total(),
    }
}

/// The smallest and the largest, which is larger.
fn limits(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, 1.0_f64), |(low, high), value| {
        (low.min(value.max(1.0)), high.max(value))
    });
    (low, high.max(low * 1.1))
}

/// The power of ten below or above.
fn decade(value: f64, round: fn(f64) -> f64) -> f64 {
    10_f64.powf(round(value.log10()))
}

/// 1500 as 1.5 k.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{} G", v / 1e9),
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e3 => format!("{} k", v / 1e3),
        v => v.to_string(),
    }
}
