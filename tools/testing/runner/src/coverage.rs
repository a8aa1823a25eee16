// SPDX-License-Identifier: GPL-2.0

//! Which lines of the module's code the tests reach.

use crate::kit::Kit;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use vm::{Line, Outcome};

/// How the lines of a guest's standard error begin that report coverage.
const PREFIX: &str = "reached ";

/// Runs the script in its first argument. Then it reports which of the module's code has
/// been reached, if the module is loaded.
pub const TELL: &str = r#"sh -c "$0"; status=$?
reached=/sys/module/dmabuf_coherency/parameters/reached
[ -e $reached ] && echo 0 >$reached
while [ -e $reached ] && some=$(cat $reached) && [ "$some" ]; do
	echo "$some" | sed 's/^/reached /' >&2
done
exit $status"#;

/// Whether each line has been reached in some guest, on some architecture.
#[derive(Default)]
pub struct Coverage {
    lines: Mutex<BTreeMap<Line, bool>>,
}

impl Coverage {
    /// Takes the reports of a guest out of its standard error.
    pub fn take(&self, kit: &Kit, outcome: &mut Outcome) -> Result<()> {
        let stderr = String::from_utf8_lossy(&outcome.stderr).into_owned();
        let (told, rest): (Vec<&str>, Vec<&str>) =
            stderr.lines().partition(|line| line.starts_with(PREFIX));
        outcome.stderr = rest.join("\n").into_bytes();
        let numbers = told.iter().map(|line| line[PREFIX.len()..].parse());
        let reached: BTreeSet<i64> = numbers.collect::<Result<_, _>>().context("coverage")?;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, line) in kit.blocks()? {
            *lines.entry(line.clone()).or_default() |= reached.contains(number);
        }
        Ok(())
    }

    /// A table of all files, with the lines that were not reached. A line that has
    /// several basic blocks counts as reached if one of them was.
    pub fn table(&self) -> Result<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = BTreeMap::<&str, (usize, Vec<u32>)>::new();
        for ((file, line), reached) in lines.iter() {
            let (all, missed) = files.entry(file).or_default();
            *all += 1;
            if !reached {
                missed.push(*line);
            }
        }
        let mut table = format!("{:32} {:>9} {:>5}  NOT REACHED\n", "FILE", "LINES", "");
        let mut total = (0, 0);
        for (file, (all, missed)) in files {
            let reached = all - missed.len();
            total = (total.0 + reached, total.1 + all);
            let numbers: Vec<String> = missed.iter().map(u32::to_string).collect();
            row(&mut table, file, reached, all, &numbers.join(" "))?;
        }
        row(&mut table, "all", total.0, total.1, "")?;
        Ok(table)
    }
}

fn row(table: &mut String, file: &str, reached: usize, all: usize, missed: &str) -> Result<()> {
    let percent = 100 * reached / all.max(1);
    let lines = format!("{reached}/{all}");
    let row = format!("{file:32} {lines:>9} {percent:>4}%  {missed}");
    Ok(writeln!(table, "{}", row.trim_end())?)
}
