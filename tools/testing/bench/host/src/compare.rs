// SPDX-License-Identifier: GPL-2.0

//! What differs between two runs.

use dmabuf_coherency_bench::results::{Measurement, Report};
use dmabuf_coherency_bench::table::number;
use std::fmt::Write as _;

/// Two runs of the same code agree so far.
const AGREEMENT: f64 = 0.01;

/// Less than this no clock tells apart: that of arm64 counts every 16
/// nanoseconds.
const RESOLUTION: f64 = 16.0;

/// How many differences are shown.
const SHOWN: usize = 40;

/// How many measurements agree, and the largest differences.
pub fn compare(old: &Report, new: &Report) -> String {
    let mut differences: Vec<(f64, &Measurement, &Measurement)> = Vec::new();
    for now in &new.measurements {
        let same = |then: &&Measurement| then.is_like(now) && then.heap == now.heap;
        let then = old.measurements.iter().find(same);
        differences.extend(then.map(|then| (difference(then, now), then, now)));
    }
    differences.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
    let all = differences.len();
    differences.retain(|(difference, then, now)| {
        difference.abs() > AGREEMENT && (now.total() - then.total()).abs() > RESOLUTION
    });
    let mut text = format!(
        "{}: {} of {all} measurements agree within {} %\n",
        new.arch,
        all - differences.len(),
        AGREEMENT * 100.0
    );
    for (difference, then, now) in differences.iter().take(SHOWN) {
        let scattered = if now.scattered { ", scattered" } else { "" };
        let _ = writeln!(
            text,
            "  {:+7.1} %  {} at {}{scattered} on {}: {} -> {}",
            difference * 100.0,
            now.operation,
            now.at,
            now.heap,
            number(then.total() / 1e3),
            number(now.total() / 1e3)
        );
    }
    text
}

/// How much more it costs now, as a part of what it cost then.
fn difference(then: &Measurement, now: &Measurement) -> f64 {
    (now.total() - then.total()) / then.total().max(1.0)
}
