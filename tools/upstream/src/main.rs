// SPDX-License-Identifier: GPL-2.0

//! Writes a patch series for Linux of `rust/kernel` into a directory, and checks it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use upstream::check::{self, Verdict};

fn main() -> Result<ExitCode> {
    let out = std::env::args_os().nth(1).map(PathBuf::from);
    let out = out.context("name a directory for the patches")?;
    let checks = check::all(&out, &mut |check| match &check.verdict {
        Verdict::Passed => println!("passed  {}", check.name),
        Verdict::Skipped(why) => println!("skipped {}: {why}", check.name),
        Verdict::Failed(why) => println!("FAILED  {}\n{why}", check.name),
    })?;
    let failed = checks
        .iter()
        .filter(|check| matches!(check.verdict, Verdict::Failed(_)))
        .count();
    println!(
        "{} checks, {failed} failed; the patches are in {}",
        checks.len(),
        out.display()
    );
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
