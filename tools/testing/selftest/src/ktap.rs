// SPDX-License-Identifier: GPL-2.0

//! The Kernel Test Anything Protocol, version 1, as kselftest prints it.

/// How a test ended.
#[derive(Clone, Debug)]
pub enum Verdict {
    Passed,
    Failed,
    Skipped(String),
}

/// Prints results, and counts them.
#[derive(Default)]
pub struct Report {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    /// Starts the output of `plan` tests.
    pub fn start(plan: usize) -> Self {
        println!("KTAP version 1\n1..{plan}");
        Self::default()
    }

    /// Prints something that is no result.
    pub fn diagnose(&self, text: &str) {
        for line in text.lines() {
            println!("# {line}");
        }
    }

    pub fn result(&mut self, name: &str, verdict: &Verdict) {
        let count = match verdict {
            Verdict::Passed => &mut self.passed,
            Verdict::Failed => &mut self.failed,
            Verdict::Skipped(_) => &mut self.skipped,
        };
        *count += 1;
        let number = self.passed + self.failed + self.skipped;
        match verdict {
            Verdict::Passed => println!("ok {number} {name}"),
            Verdict::Failed => println!("not ok {number} {name}"),
            Verdict::Skipped(reason) => println!("ok {number} {name} # SKIP {reason}"),
        }
    }

    /// Prints the totals. Returns kselftest's exit status for them.
    pub fn finish(self) -> u8 {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        println!("# Totals: pass:{passed} fail:{failed} xfail:0 xpass:0 skip:{skipped} error:0");
        match (passed, failed) {
            (0, 0) => SKIPPED,
            (_, 0) => PASSED,
            _ => FAILED,
        }
    }
}

/// The exit statuses of kselftest.
pub const PASSED: u8 = 0;
pub const FAILED: u8 = 1;
pub const SKIPPED: u8 = 4;
