// SPDX-License-Identifier: GPL-2.0

//! The results of tests.

use std::fmt;
use std::ops::AddAssign;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// The heap refused the device, as it must, and the author of the test did not expect
    /// that. Counts as passed, and is always shown.
    Refused,
    Failed,
    Skipped,
}

/// A test that was run.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub name: String,
    pub verdict: Verdict,
    /// Its output, or the reason why it was skipped.
    pub text: String,
}

impl Case {
    pub fn new(name: impl Into<String>, verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verdict,
            text: text.into(),
        }
    }

    /// Passed if `problem` is nothing.
    pub fn judged(name: impl Into<String>, problem: Option<String>) -> Self {
        match problem {
            Some(text) => Self::new(name, Verdict::Failed, text),
            None => Self::new(name, Verdict::Passed, ""),
        }
    }
}

/// Numbers of tests. Displayed as the line that ends `make test`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Count {
    pub fn of(cases: &[Case]) -> Self {
        let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
        Self {
            passed: count(Verdict::Passed) + count(Verdict::Refused),
            failed: count(Verdict::Failed),
            skipped: count(Verdict::Skipped),
        }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let cases = [
            Case::judged("a", None),
            Case::judged("b", Some("no".into())),
            Case::new("c", Verdict::Skipped, ""),
            Case::judged("d", None),
        ];
        assert_eq!(
            Count::of(&cases).to_string(),
            "2 passed, 1 failed, 1 skipped"
        );
    }
}
