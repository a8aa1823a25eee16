// SPDX-License-Identifier: GPL-2.0

//! How much cheaper than the in-tree heaps the module's are to be, and whether
//! they are.

use crate::results::{Measurement, OPERATIONS, Operation, Report, baseline, operation};
use crate::table::{aligned, label, number};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What is not slower may be this much slower: so far do two runs agree.
const TOLERANCE: f64 = 0.99;

/// A goal: on each of the module's heaps that offers it, an operation is to be
/// `times` cheaper than on the in-tree heap.
struct Goal {
    /// How the names of its operations begin.
    operations: &'static str,
    /// What it is compared with, if not with the same operation.
    against: Option<&'static str>,
    scattered: bool,
    sizes: std::ops::RangeInclusive<u64>,
    times: f64,
    /// Whether the background thread's work counts.
    background: bool,
}

const ANY_SIZE: std::ops::RangeInclusive<u64> = 0..=u64::MAX;

const fn goal(operations: &'static str, sizes: std::ops::RangeInclusive<u64>, times: f64) -> Goal {
    Goal {
        operations,
        against: None,
        scattered: false,
        sizes,
        times,
        background: false,
    }
}

const fn counting_background(goal: Goal) -> Goal {
    Goal {
        background: true,
        ..goal
    }
}

const fn scattered(goal: Goal) -> Goal {
    Goal {
        scattered: true,
        ..goal
    }
}

/// No dearer than a bracket of the in-tree heap that has nothing to do.
const fn empty_bracket(operations: &'static str) -> Goal {
    Goal {
        against: Some("bracket.0"),
        ..goal(operations, ANY_SIZE, 1.0)
    }
}

const GOALS: &[Goal] = &[
    goal("alloc.warm", 0..=64 * KIB, 1.0),
    goal("alloc.warm", MIB..=MIB, 20.0),
    goal("alloc.warm", 8 * MIB..=32 * MIB, 50.0),
    counting_background(goal("alloc.cold", ANY_SIZE, 1.0)),
    counting_background(goal("alloc.sustained", ANY_SIZE, 1.0)),
    goal("mmap.aligned", 32 * MIB..=32 * MIB, 20.0),
    goal("mmap.unaligned", ANY_SIZE, 1.0),
    scattered(goal("import.", 8 * MIB..=8 * MIB, 3.0)),
    empty_bracket("bracket.0"),
    empty_bracket("bracket.1.snooping"),
    empty_bracket("bracket.8.snooping"),
    goal("bracket.1.nonsnooping", ANY_SIZE, 1.0),
    goal("bracket.8.nonsnooping", ANY_SIZE, 1.0),
    goal("vmap", 0..=4 * MIB, 10.0),
];

impl Goal {
    /// Whether this is the cost of what the goal is about.
    fn is_about(&self, row: &Measurement) -> bool {
        row.operation.starts_with(self.operations)
            && row.scattered == self.scattered
            && self.sizes.contains(&row.at)
            && operation(&row.operation).is_some()
    }

    fn title(&self, operation: &Operation) -> String {
        let label = |at: &u64| label(operation.axis, *at);
        let sizes = match (self.sizes.start(), self.sizes.end()) {
            (0, &u64::MAX) => "any size".into(),
            (0, end) => format!("up to {}", label(end)),
            (start, end) if start == end => label(end),
            (start, end) => format!("{} to {}", label(start), label(end)),
        };
        let scattered = if self.scattered { ", scattered" } else { "" };
        let background = if self.background {
            ", with background"
        } else {
            ""
        };
        format!("{}, {sizes}{scattered}{background}", operation.title)
    }

    /// How many times cheaper than on the in-tree heap it is.
    fn ratio(&self, row: &Measurement, all: &[Measurement]) -> Option<f64> {
        let base = baseline(&row.heap)?;
        let compared = self.against.unwrap_or(&row.operation);
        let other = all.iter().find(|other| {
            other.heap == base
                && other.operation == compared
                && (other.scattered, other.at) == (row.scattered, row.at)
        })?;
        Some(match self.background {
            true => other.total() / row.total(),
            false => other.median / row.median,
        })
    }
}

/// A table of all goals: what is wanted, and the least of what each heap
/// reaches at any of the sizes. What is missed is marked.
pub fn goals(report: &Report) -> String {
    let all = &report.measurements;
    let mut heaps: Vec<&str> = Vec::new();
    for row in all {
        let has_goal = GOALS.iter().any(|goal| goal.is_about(row));
        if has_goal && baseline(&row.heap).is_some() && !heaps.contains(&row.heap.as_str()) {
            heaps.push(&row.heap);
        }
    }
    let mut lines = vec![vec![
        "how many times cheaper, at least (! not reached)".to_owned(),
        "goal".into(),
    ]];
    lines[0].extend(heaps.iter().map(|heap| (*heap).to_owned()));
    for goal in GOALS {
        for operation in OPERATIONS {
            let about = |row: &&Measurement| row.operation == operation.name && goal.is_about(row);
            let rows: Vec<&Measurement> = all.iter().filter(about).collect();
            if rows.is_empty() {
                continue;
            }
            let mut line = vec![goal.title(operation), number(goal.times)];
            line.extend(heaps.iter().map(|heap| {
                let rows = rows.iter().filter(|row| row.heap == *heap);
                let ratios = rows.filter_map(|row| goal.ratio(row, all));
                ratios
                    .min_by(f64::total_cmp)
                    .map_or("- ".into(), |ratio| verdict(ratio, goal.times))
            }));
            lines.push(line);
        }
    }
    format!("\n{}", aligned(&lines, false))
}

fn verdict(ratio: f64, wanted: f64) -> String {
    let missed = if ratio < wanted * TOLERANCE { "!" } else { " " };
    format!("{}{missed}", number(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_is_marked() {
        assert_eq!(verdict(49.0, 50.0), "49.0!");
        assert_eq!(verdict(0.995, 1.0), "0.99 ");
        assert_eq!(verdict(0.98, 1.0), "0.98!");
    }

    #[test]
    fn goals_are_about_something_that_is_measured() {
        for goal in GOALS {
            let measured = |name: &str| name.starts_with(goal.operations);
            assert!(OPERATIONS.iter().any(|operation| measured(operation.name)));
        }
    }
}
