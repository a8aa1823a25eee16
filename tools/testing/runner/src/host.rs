// SPDX-License-Identifier: GPL-2.0

//! The tests that need no guest: `cargo test` of the workspace.

use crate::group::Group;
use crate::results::{Case, Verdict};
use anyhow::{Context as _, Result};
use std::process::{Command, Stdio};

pub fn groups() -> Vec<Group> {
    vec![Group::new(
        "host",
        "unit tests of the tools, on this machine",
        |_| run(),
    )]
}

fn run() -> Result<Vec<Case>> {
    let cargo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vm/cargo");
    let output = Command::new(cargo)
        .args(["test", "--locked", "--workspace"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {cargo}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut cases = parse(&text);
    let complaint = || format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let problem = if !output.status.success() {
        Some(complaint())
    } else if cases.is_empty() {
        Some(format!("expected tests, there were none:\n{}", complaint()))
    } else {
        None
    };
    cases.push(Case::judged("cargo test", problem));
    Ok(cases)
}

/// Reads the results of Rust's test programs.
fn parse(text: &str) -> Vec<Case> {
    let results = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.rsplit_once(" ... "));
    results
        .filter_map(|(name, result)| {
            let verdict = match result.split(',').next()? {
                "ok" => Verdict::Passed,
                "ignored" => Verdict::Skipped,
                "FAILED" => Verdict::Failed,
                _ => return None,
            };
            Some(Case::new(name, verdict, ""))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_libtest_are_read() {
        let text = "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\n\
            test d ... ignored, too slow\n\ntest result: FAILED. 1 passed; 1 failed\n";
        let verdicts: Vec<_> = parse(text).into_iter().map(|case| case.verdict).collect();
        assert_eq!(
            verdicts,
            [Verdict::Passed, Verdict::Failed, Verdict::Skipped]
        );
    }
}
