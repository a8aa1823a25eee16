// SPDX-License-Identifier: GPL-2.0

//! Results as charts: a grid of small ones, one for each operation, with a line for each heap, both
//! axes logarithmic. They are SVG without a background, for bright pages and dark ones.

use anyhow::{Context as _, Result};
use dmabuf_coherency_bench::results::{Axis, Clock, Measurement, Operation, Report, baseline};
use dmabuf_coherency_bench::table::label;
use std::fmt::Write as _;
use std::path::Path;

const COLUMNS: usize = 3;
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 260.0;
/// Height of the title and the legend.
const HEAD: f64 = 84.0;
/// Where the axes of a panel lie in it.
const LEFT: f64 = 66.0;
const RIGHT: f64 = WIDTH - 26.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = HEIGHT - 48.0;
/// Labels of an axis need this much room.
const ROOM: f64 = 46.0;

/// Widths of lines, the in-tree heap's first: where several heaps cost the same, all are seen.
const LINES: [f64; 4] = [9.0, 6.0, 4.0, 2.0];

/// Colours that can be told apart, also by those who do not see all of them. Each has a contrast of
/// 3:1 at least, on white and on black.
const STYLE: &str = "\
text { fill: #24292f; font: 12px sans-serif }
.head { font-size: 16px }
.axis, .grid { fill: none; stroke: #57606a }
.grid { stroke-opacity: 0.25 }
.line { fill: none; stroke-linejoin: round }
.thread { stroke-dasharray: 7 5 }
.a { stroke: #8c959f } .b { stroke: #0072b2 } .c { stroke: #d55e00 } .d { stroke: #00845f }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.axis, .grid { stroke: #9ea7b3 }
.a { stroke: #7d8590 } .b { stroke: #58a6ff } .c { stroke: #f0883e } .d { stroke: #3fb950 }
}
";
const CLASSES: [char; 4] = ['a', 'b', 'c', 'd'];

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
        std::fs::write(path, self.svg(&panels)).with_context(|| path.display().to_string())?;
        Ok(true)
    }

    fn svg(&self, panels: &[&Panel]) -> String {
        let rows = panels.len().div_ceil(COLUMNS);
        let width = WIDTH * panels.len().min(COLUMNS) as f64;
        let height = HEAD + HEIGHT * rows as f64;
        let unit = self.unit();
        let titles: Vec<String> = panels.iter().map(|panel| panel.title()).collect();
        let heaps = self.heaps().join(", ");
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
             <!-- {licence} -->\n\
             <title id=\"title\">Costs on {arch}, in {unit}</title>\n\
             <desc id=\"desc\">Charts with logarithmic axes, a line for each of {heaps}: {titles}. \
             The tables have all figures.</desc>\n<style>\n{STYLE}</style>\n",
            // That of this file.
            licence = include_str!("chart.rs")
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("// "),
            arch = self.report.arch,
            titles = titles.join("; "),
        );
        self.head(&mut svg);
        for (index, panel) in panels.iter().enumerate() {
            let x = WIDTH * (index % COLUMNS) as f64;
            let y = HEAD + HEIGHT * (index / COLUMNS) as f64;
            let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
            self.panel(&mut svg, panel);
            svg += "</g>\n";
        }
        svg + "</svg>\n"
    }

    fn unit(&self) -> &'static str {
        match self.report.clock {
            Clock::Instructions => "executed instructions",
            Clock::Wall => "nanoseconds",
        }
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

    fn has_thread(&self) -> bool {
        let mut rows = self.panels.iter().flat_map(|panel| self.rows(panel));
        rows.any(|row| row.background.is_some_and(|work| work > 0.0))
    }

    /// The title and the legend.
    fn head(&self, svg: &mut String) {
        let title = format!("{}: {}; lower is better", self.report.arch, self.unit());
        text(svg, (12.0, 22.0), "class=\"head\"", &title);
        let mut left = 12.0;
        let styles = LINES.iter().zip(CLASSES);
        for (heap, (width, class)) in self.heaps().iter().zip(styles) {
            let line = [(left, 43.0), (left + 26.0, 43.0)];
            polyline(svg, &line, &format!("line {class}"), *width);
            text(svg, (left + 34.0, 47.0), "", heap);
            left += 62.0 + 7.0 * heap.len() as f64;
        }
        let mut notes =
            "Where lines lie on each other, the wider ones are seen at the edges.".to_owned();
        if self.has_thread() {
            notes += " Dashed: with the work of the background thread.";
        }
        text(svg, (12.0, 70.0), "", &notes);
    }

    fn panel(&self, svg: &mut String, panel: &Panel) {
        let rows = self.rows(panel);
        let axis = panel.operation.axis;
        let (base, what) = match axis {
            Axis::Bytes => (16.0, "size of the buffer"),
            Axis::Buffers => (10.0, "live buffers"),
            Axis::Attachments => (10.0, "attachments"),
            Axis::Cpus => (2.0, "CPUs"),
            Axis::Devices => (10.0, "devices with links"),
        };
        let across = Scale::new(rows.iter().map(|row| row.at as f64), LEFT, RIGHT);
        let costs = rows.iter().flat_map(|row| [row.median, row.total()]);
        let up = Scale::new(costs, BOTTOM, TOP).in_decades();

        let middle = (LEFT + RIGHT) / 2.0;
        text(
            svg,
            (middle, 16.0),
            "text-anchor=\"middle\"",
            &panel.title(),
        );
        text(svg, (middle, BOTTOM + 38.0), "text-anchor=\"middle\"", what);
        let turned = format!(
            "text-anchor=\"middle\" transform=\"rotate(-90 12 {y})\"",
            y = (TOP + BOTTOM) / 2.0
        );
        let unit = self.unit().trim_start_matches("executed ");
        text(svg, (12.0, (TOP + BOTTOM) / 2.0), &turned, unit);
        for value in across.ticks(base, ROOM) {
            let x = across.place(value);
            polyline(svg, &[(x, BOTTOM), (x, TOP)], "grid", 1.0);
            let at = label(axis, value as u64);
            text(svg, (x, BOTTOM + 18.0), "text-anchor=\"middle\"", &at);
        }
        for value in up.ticks(10.0, 14.0) {
            let y = up.place(value);
            polyline(svg, &[(LEFT, y), (RIGHT, y)], "grid", 1.0);
            text(
                svg,
                (LEFT - 6.0, y + 4.0),
                "text-anchor=\"end\"",
                &short(value),
            );
        }
        let corner = [(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)];
        polyline(svg, &corner, "axis", 1.0);
        let styles = LINES.iter().zip(CLASSES);
        for (heap, (width, class)) in self.heaps().iter().zip(styles) {
            let mut rows: Vec<_> = rows.iter().filter(|row| row.heap == *heap).collect();
            rows.sort_by_key(|row| row.at);
            let line = |cost: &dyn Fn(&Measurement) -> f64| -> Vec<(f64, f64)> {
                let point =
                    |row: &&&Measurement| (across.place(row.at as f64), up.place(cost(row)));
                rows.iter().map(point).collect()
            };
            let alone = line(&|row| row.median);
            let with_thread = line(&Measurement::total);
            polyline(svg, &alone, &format!("line {class}"), *width);
            if alone != with_thread {
                polyline(svg, &with_thread, &format!("line thread {class}"), 2.0);
            }
        }
    }
}

/// A logarithmic axis: values, and where the first and the last lie.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, 1.0_f64), |(low, high), value| {
            (low.min(value.max(1.0)), high.max(value))
        });
        let high = high.max(low * 1.1);
        Self {
            low,
            high,
            from,
            to,
        }
    }

    /// The same from a power of ten to another.
    fn in_decades(self) -> Self {
        Self {
            low: 10_f64.powf(self.low.log10().floor()),
            high: 10_f64.powf(self.high.log10().ceil()),
            ..self
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value.max(1.0) / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// Powers of a base times the first value, and the last value; each has `room` to the next.
    fn ticks(&self, base: f64, room: f64) -> Vec<f64> {
        let free = |value: f64| (self.place(value) - self.to).abs() > room;
        let powers = std::iter::successors(Some(self.low), |value| Some(value * base));
        let mut ticks: Vec<f64> = powers
            .take_while(|value| *value < self.high)
            .filter(|value| free(*value))
            .collect();
        ticks.push(self.high);
        ticks
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), attributes: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>"
    );
}

fn polyline(svg: &mut String, points: &[(f64, f64)], class: &str, width: f64) {
    let points: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let points = points.join(" ");
    let width = format!("stroke-width=\"{width}\"");
    let _ = writeln!(
        svg,
        "<polyline class=\"{class}\" {width} points=\"{points}\"/>"
    );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tick_is_shown() {
        let scale = Scale::new([4096.0, 8.0 * 1024.0 * 1024.0].into_iter(), 0.0, 300.0);
        let ticks = scale.ticks(16.0, 40.0);
        assert_eq!(ticks, [4096.0, 65536.0, 1048576.0, 8388608.0]);
        assert_eq!(scale.place(8388608.0).round(), 300.0);
        // One that would touch the last is left out.
        assert_eq!(scale.ticks(16.0, 100.0).len(), 3);
    }

    #[test]
    fn decades_are_whole() {
        let scale = Scale::new([340.0, 72_301_000.0].into_iter(), 0.0, 1.0).in_decades();
        assert_eq!((scale.low.round(), scale.high.round()), (100.0, 1e8));
    }

    /// How much brighter the brighter of two colours is, as contrast is defined for the web.
    fn contrast(a: u32, b: u32) -> f64 {
        let light = |colour: u32| {
            let part = |shift: u32| {
                let value = f64::from(colour >> shift & 0xff) / 255.0;
                if value <= 0.04045 {
                    value / 12.92
                } else {
                    ((value + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * part(16) + 0.7152 * part(8) + 0.0722 * part(0)
        };
        let (a, b) = (light(a), light(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn colours_stand_out() {
        let (bright, dark) = STYLE.split_once("@media").unwrap();
        for (style, page) in [(bright, 0xff_ffff), (dark, 0x0d_1117)] {
            for colour in style.split('#').skip(1) {
                let colour = u32::from_str_radix(&colour[..6], 16).unwrap();
                assert!(contrast(colour, page) >= 3.0, "{colour:06x}");
            }
        }
    }
}
