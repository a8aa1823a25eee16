// SPDX-License-Identifier: GPL-2.0

//! Results as tables: a block for each operation, a row for each heap, a column
//! for each size.

use crate::results::{Axis, Clock, Measurement, OPERATIONS, Operation, Report, baseline};
use std::fmt::Write as _;

/// How far a ratio must be from 1 to be coloured.
const NOTABLE: f64 = 1.02;

/// All of the report.
pub fn table(report: &Report, colour: bool) -> String {
    let mut text = format!(
        "{}, Linux {}\n{}\n",
        report.arch,
        report.kernel,
        unit(report)
    );
    for scattered in [false, true] {
        for operation in OPERATIONS {
            let rows: Vec<&Measurement> = report
                .measurements
                .iter()
                .filter(|row| row.operation == operation.name && row.scattered == scattered)
                .collect();
            if !rows.is_empty() {
                text += &block(operation, scattered, &rows, colour);
            }
        }
    }
    for skipped in &report.skipped {
        let _ = writeln!(
            text,
            "not measured: {} on {}: {}",
            skipped.operation, skipped.heap, skipped.reason
        );
    }
    text
}

/// What the numbers mean.
fn unit(report: &Report) -> String {
    let what = match report.clock {
        Clock::Instructions => "thousands of executed instructions",
        Clock::Wall => "microseconds of wall time",
    };
    format!(
        "{what}; x: how many times less than the in-tree heap of the region;\n\
         after +: more, by the module's background thread, and in brackets the ratio with that"
    )
}

fn block(operation: &Operation, scattered: bool, rows: &[&Measurement], colour: bool) -> String {
    let mut columns: Vec<u64> = rows.iter().map(|row| row.at).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut heaps: Vec<&str> = Vec::new();
    for row in rows {
        if !heaps.contains(&row.heap.as_str()) {
            heaps.push(&row.heap);
        }
    }
    let find = |heap: &str, at| rows.iter().find(|row| row.heap == heap && row.at == at);

    let title = match scattered {
        true => format!("{}; scattered memory", operation.title),
        false => operation.title.to_owned(),
    };
    let mut lines = vec![vec![title]];
    lines[0].extend(columns.iter().map(|at| label(operation.axis, *at)));
    for heap in heaps {
        let mut line = vec![format!("  {heap}")];
        line.extend(columns.iter().map(|at| {
            let compared = baseline(heap).and_then(|base| find(base, *at));
            find(heap, *at).map_or("-".into(), |row| cell(row, compared.copied()))
        }));
        lines.push(line);
    }
    format!("\n{}", aligned(&lines, colour))
}

/// The value, the ratio, and the background thread's part.
fn cell(row: &Measurement, compared: Option<&Measurement>) -> String {
    let mut text = number(row.median / 1e3);
    if let Some(compared) = compared {
        let _ = write!(text, " x{}", number(compared.median / row.median));
    }
    if let Some(background) = row.background.filter(|background| *background > 0.0) {
        let _ = write!(text, " +{}", number(background / 1e3));
        if let Some(compared) = compared {
            let _ = write!(text, " (x{})", number(compared.total() / row.total()));
        }
    }
    text
}

/// Three digits that matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v < 9.995 => format!("{value:.2}"),
        v if v < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Where on its axis a measurement is.
pub fn label(axis: Axis, at: u64) -> String {
    match axis {
        Axis::Bytes if at >= 1 << 20 => format!("{} MiB", at >> 20),
        Axis::Bytes => format!("{} KiB", at >> 10),
        Axis::Buffers | Axis::Attachments | Axis::Cpus | Axis::Devices => at.to_string(),
    }
}

/// The first column to the left, all others to the right.
pub(crate) fn aligned(lines: &[Vec<String>], colour: bool) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max();
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    let mut text = String::new();
    for line in lines {
        let _ = write!(text, "{:width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            let padded = format!("{cell:>width$}");
            text += "   ";
            text += &if colour { painted(&padded) } else { padded };
        }
        text.push('\n');
    }
    text
}

/// Green where ours is cheaper, red where it is dearer, the background thread
/// counted in.
fn painted(cell: &str) -> String {
    let ratio = cell.rsplit('x').next().filter(|_| cell.contains('x'));
    let digits = ratio.map(|text| text.split([' ', ')']).next().unwrap_or_default());
    match digits.and_then(|digits| digits.parse::<f64>().ok()) {
        Some(ratio) if ratio >= NOTABLE => format!("\x1b[32m{cell}\x1b[m"),
        Some(ratio) if ratio <= 1.0 / NOTABLE => format!("\x1b[31m{cell}\x1b[m"),
        _ => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(heap: &str, median: f64, background: Option<f64>) -> Measurement {
        Measurement {
            operation: "alloc.warm".into(),
            heap: heap.into(),
            scattered: false,
            at: 8 << 20,
            samples: 1,
            median,
            min: median,
            max: median,
            background,
            segments: None,
        }
    }

    #[test]
    fn ratios_say_how_many_times_less() {
        let theirs = measured("system", 8_000_000.0, None);
        let ours = measured("system-coherent", 100_000.0, Some(7_900_000.0));
        assert_eq!(cell(&theirs, None), "8000");
        assert_eq!(cell(&ours, Some(&theirs)), "100 x80.0 +7900 (x1.00)");
        assert!(painted("100 x80.0").starts_with("\x1b[32m"));
        assert!(painted("100 x0.50 +1").starts_with("\x1b[31m"));
        assert_eq!(
            painted("100 x80.0 +7900 (x1.00)"),
            "100 x80.0 +7900 (x1.00)"
        );
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            measured("system", 9_400.0, None),
            measured("system-coherent", 940.0, None),
        ];
        let rows: Vec<&Measurement> = rows.iter().collect();
        let expected = "\n\
            allocate, warm           8 MiB\n\
            \x20 system                  9.40\n\
            \x20 system-coherent   0.94 x10.0\n";
        assert_eq!(block(&OPERATIONS[0], false, &rows, false), expected);
    }
}
