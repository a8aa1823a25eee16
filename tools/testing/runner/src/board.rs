// SPDX-License-Identifier: GPL-2.0

//! Tries the files that `make -C tools/testing install` makes for a board, in a guest
//! that has no other files of ours.

use crate::boot::{GUEST_TIMEOUT, text};
use crate::group::Group;
use crate::kit::Kits;
use crate::ktap::Output;
use crate::results::{Case, Verdict};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use vm::{Add, Arch, Guest};

pub fn groups() -> Vec<Group> {
    let group = |arch: Arch| {
        let about = "the tests as installed for a board, on each heap";
        Group::new(format!("{arch}-board"), about, move |kits| run(arch, kits))
    };
    Arch::ALL.map(group).into()
}

/// Removes our modules from where guests usually find them. The last run names a heap
/// that does not exist, so it must fail.
const SCRIPT: &str = "rm -r /lib/modules/*/updates; unset DMABUF_COHERENCY_KO; modprobe vgem; \
    cd /board && ./run.sh fence. map. mmap.memory_type module. && \
    [ ! -d /sys/module/dmabuf_importer ] && \
    ! HEAPS='missing system-coherent' ./run.sh alloc.seek";

/// Each region in each mode.
const HEAPS: [&str; 6] = [
    "default_cma_region-coherent",
    "default_cma_region-noncoherent",
    "default_cma_region-uncached",
    "system-coherent",
    "system-noncoherent",
    "system-uncached",
];

fn run(arch: Arch, kits: &Kits) -> Result<Vec<Case>> {
    let root = std::env::temp_dir().join(format!("board.{arch}.{}", std::process::id()));
    fs::create_dir_all(&root)?;
    let cases = try_in(&root, arch, kits);
    fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    cases
}

fn try_in(root: &Path, arch: Arch, kits: &Kits) -> Result<Vec<Case>> {
    let kit = kits.get(arch)?;
    let directory = root.join("board");
    let output = Command::new("make")
        .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/.."), "install"])
        .arg(format!(
            "KDIR={}",
            vm::kernel(arch, kits.kernel())?.tree.display()
        ))
        .arg(format!("INSTALL_PATH={}", directory.display()))
        .arg(format!("OUTPUT={}", root.join("build").display()))
        .stdin(Stdio::null())
        .output()
        .context("running make")?;
    let mut cases = vec![Case::judged(
        "board.install",
        (!output.status.success()).then(|| text(&output.stdout) + &text(&output.stderr)),
    )];
    if !output.status.success() {
        return Ok(cases);
    }
    let outcome = Guest::new(&kit.image)
        .command(["sh", "-c", SCRIPT])
        .mem("512M")
        .add_file(Add::new(directory, "board")?)
        .timeout(GUEST_TIMEOUT)
        .run()?;
    let said = text(&outcome.stdout) + &text(&outcome.stderr);
    // The second run starts with its plan, of two heaps.
    let (whole, second) = said.split_at(said.rfind("\n1..2\n").unwrap_or(said.len()));
    let expect = |output: Output, expected: &[(&str, Verdict)]| {
        let seen: Vec<_> = output
            .cases
            .iter()
            .map(|case| (case.name.as_str(), case.verdict))
            .collect();
        (output.problem().is_some() || seen != expected)
            .then(|| format!("expected {expected:?}, got {seen:?} in\n{said}"))
    };
    let passed = HEAPS.map(|heap| (heap, Verdict::Passed));
    let failed = [
        ("missing", Verdict::Failed),
        ("system-coherent", Verdict::Passed),
    ];
    cases.push(Case::judged(
        "board.run",
        expect(Output::parse(whole), &passed),
    ));
    cases.push(Case::judged(
        "board.failure",
        expect(Output::parse(second), &failed),
    ));
    let problem = (!outcome.is_healthy() || outcome.status != Some(0))
        .then(|| format!("status {:?}\n{outcome}", outcome.status));
    cases.push(Case::judged("guest.healthy", problem));
    Ok(cases)
}
