// SPDX-License-Identifier: GPL-2.0

//! The tests of `tools/vm`. It must pass on the output and status of a command, and
//! notice every kind of trouble in a guest.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::Kits;
use crate::results::Case;
use anyhow::Result;
use std::time::Duration;
use vm::{Arch, Kind, Outcome};

/// A guest that runs a script, and its expected end.
struct Check {
    name: &'static str,
    script: &'static str,
    append: &'static str,
    seconds: u64,
    expected: Expected,
}

/// How a guest must end.
#[derive(Debug, PartialEq)]
struct Expected {
    status: Option<i32>,
    died: bool,
    timed_out: bool,
    /// Reports that must be there. The first of them must come first. More may follow, as
    /// after an oops. An empty list means that there must be none.
    kinds: &'static [Kind],
}

impl Expected {
    const fn status(status: i32) -> Self {
        Self {
            status: Some(status),
            died: false,
            timed_out: false,
            kinds: &[],
        }
    }

    const fn reports(kinds: &'static [Kind]) -> Self {
        Self {
            kinds,
            ..Self::status(0)
        }
    }

    /// How an outcome differs from this.
    fn problem(&self, outcome: &Outcome) -> Option<String> {
        let seen: Vec<Kind> = outcome.reports.iter().map(|report| report.kind).collect();
        let reports = if self.kinds.is_empty() {
            seen.is_empty()
        } else {
            seen.first() == self.kinds.first() && self.kinds.iter().all(|kind| seen.contains(kind))
        };
        let ended = (outcome.status, outcome.died, outcome.timed_out);
        if reports && ended == (self.status, self.died, self.timed_out) {
            return None;
        }
        Some(format!(
            "expected {self:?}\ngot status {:?}, died {}, timed out {}, reports {seen:?}\n{}{}\n{outcome}",
            outcome.status,
            outcome.died,
            outcome.timed_out,
            text(&outcome.stdout),
            text(&outcome.stderr)
        ))
    }
}

/// A guest that ends before its command is done.
const DEAD: Expected = Expected {
    status: None,
    died: true,
    timed_out: false,
    kinds: &[],
};

/// LKDTM, the kernel's own module for that, provokes trouble. For reports that this kernel
/// is not configured for, the script prints the first line.
const CHECKS: &[Check] = &[
    Check {
        name: "vm.clean",
        script: "echo out; echo err >&2",
        append: "",
        seconds: 600,
        expected: Expected::status(0),
    },
    Check {
        name: "vm.status",
        script: "exit 7",
        append: "",
        seconds: 600,
        expected: Expected::status(7),
    },
    Check {
        name: "vm.timeout",
        script: "sleep 1000",
        append: "",
        seconds: 8,
        expected: Expected {
            status: None,
            died: false,
            timed_out: true,
            kinds: &[],
        },
    },
    Check {
        name: "vm.death",
        script: "poweroff -f; sleep 1000",
        append: "",
        seconds: 600,
        expected: DEAD,
    },
    Check {
        name: "vm.warning",
        script: "modprobe lkdtm; echo WARNING >/sys/kernel/debug/provoke-crash/DIRECT",
        append: "",
        seconds: 600,
        expected: Expected::reports(&[Kind::Warning]),
    },
    Check {
        name: "vm.bug",
        script: "modprobe lkdtm; (echo BUG >/sys/kernel/debug/provoke-crash/DIRECT); true",
        append: "",
        seconds: 600,
        expected: Expected::reports(&[Kind::Bug]),
    },
    Check {
        name: "vm.oops",
        script: "modprobe lkdtm; (echo EXCEPTION >/sys/kernel/debug/provoke-crash/DIRECT); true",
        append: "",
        seconds: 600,
        expected: Expected::reports(&[Kind::Oops]),
    },
    Check {
        name: "vm.panic",
        script: "modprobe lkdtm; echo PANIC >/sys/kernel/debug/provoke-crash/DIRECT",
        append: "",
        seconds: 600,
        expected: Expected {
            kinds: &[Kind::Panic],
            ..DEAD
        },
    },
    Check {
        name: "vm.hung_task",
        script: "modprobe lkdtm; (echo HUNG_TASK >/sys/kernel/debug/provoke-crash/DIRECT) & sleep 8",
        append: "sysctl.kernel.hung_task_timeout_secs=2",
        seconds: 600,
        expected: Expected::reports(&[Kind::Hung]),
    },
    // This kernel is not configured for these reports, so the script prints their first lines.
    Check {
        name: "vm.lockdep",
        script: "echo 'WARNING: possible circular locking dependency detected' >/dev/kmsg",
        append: "",
        seconds: 600,
        expected: Expected::reports(&[Kind::Lockdep]),
    },
    Check {
        name: "vm.sanitizers",
        script: "echo 'BUG: KASAN: slab-use-after-free in f+0x1a/0x30 [m]' >/dev/kmsg; \
            echo 'UBSAN: array-index-out-of-bounds in a.c:4:16' >/dev/kmsg; \
            echo 'kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)' >/dev/kmsg",
        append: "",
        seconds: 600,
        expected: Expected::reports(&[Kind::Kasan, Kind::Ubsan, Kind::Kmemleak]),
    },
];

pub fn groups() -> Vec<Group> {
    let group = |arch: Arch| {
        let about = "the tool vm notices trouble in guests, and raises no false alarm";
        Group::new(format!("{arch}-vm"), about, move |kits| run(kits, arch))
    };
    Arch::ALL.into_iter().map(group).collect()
}

fn run(kits: &Kits, arch: Arch) -> Result<Vec<Case>> {
    CHECKS.iter().map(|check| check.run(kits, arch)).collect()
}

impl Check {
    fn run(&self, kits: &Kits, arch: Arch) -> Result<Case> {
        let boot = Boot {
            append: self.append,
            mem: 256,
            timeout: Duration::from_secs(self.seconds),
            ..Boot::new(arch, self.script)
        };
        let outcome = boot.run(kits)?;
        let mut problem = self.expected.problem(&outcome);
        let streams = (text(&outcome.stdout), text(&outcome.stderr));
        if self.name == "vm.clean" && streams != ("out\n".into(), "err\n".into()) {
            problem = Some(format!("expected `out` and `err`, got {streams:?}"));
        }
        let repeat = boot.repeat(kits)?;
        Ok(Case::judged(
            self.name,
            problem.map(|problem| format!("{problem}\n{repeat}")),
        ))
    }
}
