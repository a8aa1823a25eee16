// SPDX-License-Identifier: GPL-2.0

//! The tests that need no guest: `cargo test` of the workspace, and what is
//! said of kernels that the module cannot be built for.

use crate::group::Group;
use crate::results::{Case, Verdict};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn groups() -> Vec<Group> {
    vec![
        Group::new("host", "unit tests of the tools, on this machine", |_| {
            run()
        }),
        Group::new("kdir", "build trees that do not fit", |_| unfit()),
    ]
}

/// What is wrong with a build tree, by what its configuration says, and what
/// has to be said about it.
const UNFIT: &[(&str, &str, &str, &str)] = &[
    ("version", "7.2.9", "", "and the module is for 7.3"),
    ("rust", "7.3.4", "", "built without Rust"),
    ("gcc", "7.3.4", "CONFIG_RUST=y", "built with GCC"),
    (
        "heaps",
        "7.3.4",
        "CONFIG_RUST=y\nCONFIG_CC_IS_CLANG=y",
        "no DMA heaps",
    ),
    (
        "metadata",
        "7.3.4",
        "CONFIG_RUST=y\nCONFIG_CC_IS_CLANG=y\nCONFIG_DMABUF_HEAPS=y",
        "Rust metadata is missing",
    ),
];

/// `make KDIR=` says in a sentence what makes a tree unfit, and fails.
fn unfit() -> Result<Vec<Case>> {
    let root = std::env::temp_dir().join(format!("kdir.{}", std::process::id()));
    let mut cases = vec![refused("missing", &root, "there is no such directory")?];
    for (name, release, config, expected) in UNFIT {
        let tree = root.join(name);
        fs::create_dir_all(tree.join("include/config"))?;
        fs::write(tree.join("include/config/kernel.release"), release)?;
        fs::write(tree.join("include/config/auto.conf"), config)?;
        cases.push(refused(name, &tree, expected)?);
    }
    fs::create_dir_all(root.join("empty"))?;
    cases.push(refused("empty", &root.join("empty"), "not the build tree")?);
    fs::remove_dir_all(&root)?;
    Ok(cases)
}

fn refused(name: &str, tree: &Path, expected: &str) -> Result<Case> {
    let output = Command::new("make")
        .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/../../..")])
        .arg(format!("KDIR={}", tree.display()))
        .stdin(Stdio::null())
        .output()
        .context("running make")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let problem = (output.status.success() || !said.contains(expected)).then(|| {
        format!(
            "expected it to fail with `{expected}`, got {}:\n{said}",
            output.status
        )
    });
    Ok(Case::judged(format!("kdir.{name}"), problem))
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
