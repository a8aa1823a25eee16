// SPDX-License-Identifier: GPL-2.0

//! Reads the output of kselftests: TAP 13 and KTAP 1 without nesting.

use crate::results::{Case, Verdict};

/// A test program's output.
#[derive(Debug, Default)]
pub struct Output {
    /// How many results its plan promises.
    pub planned: Option<usize>,
    pub cases: Vec<Case>,
    /// The diagnostics after the last result.
    pub rest: String,
}

impl Output {
    /// Reads output. The diagnostics before a result belong to that result.
    pub fn parse(text: &str) -> Self {
        let mut output = Self::default();
        let mut said = String::new();
        for line in text.lines() {
            if let Some(case) = result(line) {
                let said = std::mem::take(&mut said);
                let text = if case.verdict == Verdict::Skipped {
                    case.text
                } else {
                    said
                };
                output.cases.push(Case { text, ..case });
            } else if let Some(plan) = line.strip_prefix("1..") {
                output.planned = plan
                    .split_whitespace()
                    .next()
                    .and_then(|count| count.parse().ok());
            } else if let Some(diagnostic) = line.strip_prefix("# ") {
                said.push_str(diagnostic);
                said.push('\n');
            }
        }
        output.rest = said;
        output
    }

    /// What is wrong with the output as a whole.
    pub fn problem(&self) -> Option<String> {
        match self.planned {
            None => Some("expected the output of a test program, got none".into()),
            Some(planned) if planned != self.cases.len() => {
                let seen = self.cases.len();
                Some(format!(
                    "expected {planned} results, got {seen}. After the last one it said:\n{}",
                    self.rest
                ))
            }
            Some(_) => None,
        }
    }
}

/// Parses `ok 1 name # SKIP reason` and the like.
fn result(line: &str) -> Option<Case> {
    let (good, rest) = match line.strip_prefix("not ") {
        Some(rest) => (false, rest),
        None => (true, line),
    };
    let (number, rest) = rest.strip_prefix("ok ")?.split_once(' ')?;
    number.parse::<usize>().ok()?;
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    Some(match rest.split_once("# SKIP") {
        Some((name, reason)) => Case::new(name.trim(), Verdict::Skipped, reason.trim()),
        None if good => Case::new(rest.trim(), Verdict::Passed, ""),
        None => Case::new(rest.trim(), Verdict::Failed, ""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_take_the_diagnostics_before_them() {
        let text = "KTAP version 1\n1..4\n# heap x\nok 1 a.b\n# bad thing\n# very\nnot ok 2 c.d\n\
            ok 3 - e.f # SKIP no device\n# end\nnonsense\n";
        let output = Output::parse(text);
        let expected = [
            Case::new("a.b", Verdict::Passed, "heap x\n"),
            Case::new("c.d", Verdict::Failed, "bad thing\nvery\n"),
            Case::new("e.f", Verdict::Skipped, "no device"),
        ];
        assert_eq!(output.cases, expected);
        assert_eq!(output.rest, "end\n");
        assert!(
            output
                .problem()
                .unwrap()
                .starts_with("expected 4 results, got 3")
        );
    }

    #[test]
    fn a_program_that_says_nothing_is_noticed() {
        assert!(Output::parse("insmod: no such file\n").problem().is_some());
        assert!(Output::parse("1..1\nok 1 x\n").problem().is_none());
    }
}
