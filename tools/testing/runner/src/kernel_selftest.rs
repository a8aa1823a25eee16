// SPDX-License-Identifier: GPL-2.0

//! The kernel's own selftests of heaps, of udmabuf and of fences, unmodified.
//!
//! The selftest of heaps expects that vgem can import from every heap. On arm64 vgem's
//! device does not snoop, and a strict heap is right to refuse it. That makes one of the
//! tests fail. This failure, and no other, counts as passed.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::{Kits, SELFTEST};
use crate::ktap::Output;
use crate::results::{Case, Verdict};
use crate::survey::{Answer, Finding};
use anyhow::Result;
use vm::Arch;

const HEAP: &str = "system-coherent";

/// How the names of strict heaps end.
const STRICT: &str = "-coherent";

/// Selftests that use no heap. They must pass with the module loaded.
const OTHERS: [&str; 2] = ["udmabuf", "sync_test"];

/// The mark before their output.
const MARK: &str = "\n= ";

/// What the test prints when a device was refused.
const REFUSAL: &str = "Import buffer -1";

pub fn groups() -> Vec<Group> {
    let group = |arch: Arch| {
        let about = "the kernel's selftests of dma-bufs, unmodified; dmabuf-heaps on all heaps";
        Group::new(format!("{arch}-dmabuf-heaps"), about, move |kits| {
            run(kits, arch)
        })
    };
    Arch::ALL.into_iter().map(group).collect()
}

fn run(kits: &Kits, arch: Arch) -> Result<Vec<Case>> {
    // The test prints no errno, so the survey after it finds out why vgem was refused.
    let script = format!(
        "insmod $DMABUF_COHERENCY_KO && modprobe vgem || exit; /dmabuf-heap; /{SELFTEST} survey; \
         for test in {}; do echo \"= $test\"; /$test </dev/null; done",
        OTHERS.join(" ")
    );
    let boot = Boot::new(arch, script);
    let outcome = boot.run(kits)?;
    let said = text(&outcome.stdout);
    let mut parts = said.split(MARK);
    let said = parts.next().unwrap_or_default();
    let output = Output::parse(said);
    let refused = said.lines().any(|line| {
        serde_json::from_str::<Finding>(line)
            .is_ok_and(|vgem| vgem.driver == "vgem" && vgem.answer() == Some(Answer::Refused))
    });
    let mut problem = output
        .problem()
        .map(|problem| problem + "\n" + &text(&outcome.stderr));
    let mut cases = judge(output.cases, refused);
    let tested = cases
        .iter()
        .any(|case| case.name.starts_with(&format!("[{HEAP}]")));
    if problem.is_none() && !tested {
        problem = Some(format!("expected tests of {HEAP}, got none"));
    }
    if problem.is_none() && cases.iter().any(|case| case.verdict == Verdict::Failed) {
        problem = Some("see above".into());
    }
    let problem = match problem {
        Some(problem) => Some(format!("{problem}\n{}", boot.repeat(kits)?)),
        None => None,
    };
    cases.push(Case::judged("complete", problem));
    for name in OTHERS {
        let part = parts.next().unwrap_or_default();
        cases.extend(other(name, part.strip_prefix(name).unwrap_or_default()));
    }
    cases.push(boot.health(kits, &outcome)?);
    Ok(cases)
}

/// The results of a selftest that uses no heap. It may skip its last tests.
fn other(name: &str, said: &str) -> Vec<Case> {
    let output = Output::parse(said);
    let problem = output.problem();
    let mut cases = output.cases;
    for case in &mut cases {
        case.name = format!("[{name}] {}", case.name.trim_start_matches("[RUN]\t"));
    }
    cases.push(match output.rest.contains("[skip,") {
        true => Case::new(format!("[{name}] rest"), Verdict::Skipped, output.rest),
        false => Case::judged(format!("[{name}] complete"), problem),
    });
    cases
}

/// Names each result by its heap, and lets expected refusals pass.
fn judge(cases: Vec<Case>, refused: bool) -> Vec<Case> {
    let mut heap = String::new();
    let judge = |case: Case| {
        if let Some(name) = case
            .text
            .lines()
            .find_map(|line| line.strip_prefix("Testing heap: "))
        {
            heap = name.trim().to_owned();
        }
        let name = format!("[{heap}] {}", case.name);
        let refusal = heap.ends_with(STRICT) && case.name == REFUSAL && refused;
        if case.verdict == Verdict::Failed && refusal {
            let text = "expected, as vgem's device does not snoop here: EOPNOTSUPP";
            return Case::new(name, Verdict::Refused, text);
        }
        Case { name, ..case }
    };
    cases.into_iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(refused: bool) -> Vec<(String, Verdict)> {
        let output = Output::parse(
            "TAP version 13\n1..4\n# Testing heap: system\n# ====\nnot ok 1 Import buffer -1\n\
            # Testing heap: system-coherent\n# ====\nnot ok 2 Import buffer -1\n\
            not ok 3 dmabuf_heap_alloc_newer\nok 4 fine\n",
        );
        let cases = judge(output.cases, refused);
        cases
            .into_iter()
            .map(|case| (case.name, case.verdict))
            .collect()
    }

    #[test]
    fn only_the_refusal_by_our_heap_is_expected() {
        let expected = [
            ("[system] Import buffer -1", Verdict::Failed),
            ("[system-coherent] Import buffer -1", Verdict::Refused),
            ("[system-coherent] dmabuf_heap_alloc_newer", Verdict::Failed),
            ("[system-coherent] fine", Verdict::Passed),
        ];
        let expected = expected.map(|(name, verdict)| (name.to_owned(), verdict));
        assert_eq!(verdicts(true), expected);
    }

    #[test]
    fn what_is_not_said_is_missed() {
        let verdicts = |said| -> Vec<Verdict> {
            let cases = other("x", said).into_iter();
            cases.map(|case| case.verdict).collect()
        };
        let start = "TAP version 13\n1..2\nok 1 [RUN]\ta\n";
        assert_eq!(other("x", start)[0].name, "[x] a");
        assert_eq!(verdicts(start), [Verdict::Passed, Verdict::Failed]);
        let skipped = format!("{start}# x: [skip,no-memfd]\n");
        assert_eq!(verdicts(&skipped), [Verdict::Passed, Verdict::Skipped]);
        assert_eq!(verdicts(""), [Verdict::Failed]);
    }

    #[test]
    fn without_a_refusal_seen_otherwise_nothing_is() {
        assert_eq!(verdicts(false)[1].1, Verdict::Failed);
    }
}
