// SPDX-License-Identifier: GPL-2.0

//! The abstractions as a patch series for Linux. The kernel with these patches is built, and tests
//! itself: see `tools/upstream`.

use crate::group::Group;
use crate::kit::Kits;
use crate::results::{Case, Verdict};
use anyhow::Result;
use std::process::Command;
use upstream::check;

pub fn groups() -> Vec<Group> {
    let about =
        "the patch series for Linux: each patch builds, and the kernel's own tests of it pass";
    vec![Group::new("x86_64-upstream", about, run)]
}

/// The programs that set-up does not bring, and where they come from.
const PROGRAMS: [(&str, &str); 3] = [
    ("git", "Debian's package git"),
    (
        "rustfmt",
        "Debian's package rustfmt, or rustup component add rustfmt",
    ),
    (
        "clippy-driver",
        "Debian's package rust-clippy, or rustup component add clippy",
    ),
];

/// Why this cannot run here.
fn lack() -> Option<String> {
    // rustup has a program of each name, which fails if the component is missing.
    let works = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    let (program, source) = PROGRAMS.iter().find(|(program, _)| !works(program))?;
    Some(format!("there is no {program}: install {source}"))
}

fn run(_: &Kits) -> Result<Vec<Case>> {
    if let Some(lack) = lack() {
        return Ok(vec![Case::new("upstream", Verdict::Skipped, lack)]);
    }
    let out = vm::cache_dir()?.join("upstream/patches");
    let checks = check::all(&out, &mut |_| ())?;
    let case = |check: check::Check| {
        let name = format!("upstream.{}", check.name);
        match check.verdict {
            check::Verdict::Passed => Case::new(name, Verdict::Passed, ""),
            check::Verdict::Skipped(why) => Case::new(name, Verdict::Skipped, why),
            check::Verdict::Failed(why) => Case::new(name, Verdict::Failed, why),
        }
    };
    Ok(checks.into_iter().map(case).collect())
}
