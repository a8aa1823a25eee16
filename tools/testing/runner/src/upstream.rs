// SPDX-License-Identifier: GPL-2.0

//! The abstractions as a patch series for Linux, whose kernel is built and tests itself: see
//! `tools/upstream`.

use crate::group::Group;
use crate::kit::Kits;
use crate::results::{Case, Verdict};
use anyhow::Result;
use upstream::check;

pub fn groups() -> Vec<Group> {
    let about = "the patch series for Linux: each patch builds, the kernel's tests of it run";
    vec![Group::new("x86_64-upstream", about, run)]
}

fn run(_: &Kits) -> Result<Vec<Case>> {
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
