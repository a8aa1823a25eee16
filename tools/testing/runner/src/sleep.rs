// SPDX-License-Identifier: GPL-2.0

//! Guests that suspend and hibernate.
//!
//! The virtio ports of a guest are devices that sleep as well. When Linux 7.3 wakes up, it asks for
//! their state before it has given the host buffers for the answer. QEMU drops the answer, and then
//! no port takes output any more. So these guests report through the kernel's messages, and end.

use crate::boot::Boot;
use crate::group::Group;
use crate::kit::{Kits, SELFTEST};
use crate::ktap::Output;
use crate::results::{Case, Verdict};
use anyhow::{Context as _, Result};
use std::fs;
use vm::{Arch, Outcome};

/// A heap of each mode.
const HEAPS: [&str; 3] = ["system-coherent", "system-noncoherent", "system-uncached"];

/// The mark before the lines of the tests among the kernel's messages.
const MARK: &str = "sleep: ";

/// Keeps the console awake, and lets it take all that is written to it.
const APPEND: &str = "no_console_suspend printk.devkmsg=on";

pub fn groups() -> Vec<Group> {
    let group = |arch: Arch| {
        let about = "buffers outlive each step of suspend, and hibernation";
        Group::new(format!("{arch}-sleep"), about, move |kits| run(kits, arch))
    };
    Arch::ALL.into_iter().map(group).collect()
}

/// Runs `load` and then `tests`, and powers the guest off.
pub fn script(load: &str, tests: &str) -> String {
    // The tests find no ports in an empty directory, so they go through all steps of sleep.
    format!(
        "{load} && mount -t tmpfs none /sys/class/virtio-ports || exit
        {{ {tests}; }} >/run/said 2>&1
        while read -r line; do echo \"{MARK}$line\" >/dev/kmsg; done </run/said
        poweroff -f"
    )
}

/// The output of the tests.
pub fn said(outcome: &Outcome) -> Result<String> {
    let console = fs::read(&outcome.console).context("the console")?;
    let console = String::from_utf8_lossy(&console);
    let lines = console.lines().filter_map(|line| line.split_once(MARK));
    let lines: Vec<_> = lines.map(|(_, line)| line.trim_end()).collect();
    Ok(lines.join("\n"))
}

fn run(kits: &Kits, arch: Arch) -> Result<Vec<Case>> {
    let tests = HEAPS.map(|heap| format!("/{SELFTEST} --heap {heap} --rounds 2 power."));
    let boot = Boot {
        mem: 1024,
        append: APPEND,
        ..Boot::new(
            arch,
            script("insmod $DMABUF_COHERENCY_KO", &tests.join("; ")),
        )
    };
    let mut outcome = boot.run(kits)?;
    // The guest is meant to power off by itself.
    outcome.died = false;
    let said = said(&outcome)?;
    let mut parts = said.split("KTAP version 1\n").skip(1);
    let mut cases = Vec::new();
    for heap in HEAPS {
        let output = Output::parse(parts.next().unwrap_or_default());
        cases.push(Case::judged(format!("[{heap}] complete"), output.problem()));
        let named = |case: Case| {
            let name = format!("[{heap}] {}", case.name);
            match case.verdict {
                Verdict::Skipped => {
                    Case::judged(name, Some(format!("expected it to run: {}", case.text)))
                }
                _ => Case { name, ..case },
            }
        };
        cases.extend(output.cases.into_iter().map(named));
    }
    cases.push(boot.health(kits, &outcome)?);
    Ok(cases)
}
