// SPDX-License-Identifier: GPL-2.0

//! The demonstration: one table of all devices.

use crate::kit::Kits;
use crate::results::Verdict;
use crate::survey::{self, Answer, Finding};
use anyhow::Result;
use std::io::{self, IsTerminal as _};

const HEADINGS: [&str; 7] = [
    "ARCH", "DEVICE", "BUS", "DRIVER", "SNOOPS", "RESULT", "ERRNO",
];

const NOTES: &str = "\
SNOOPS  whether the device's DMA sees the CPU caches
RESULT  the answer of the heap system-coherent to the device that wants to attach
ERRNO   how the call from user space ended: VIDIOC_QBUF for vivid, else PRIME import
*       attached, as the kernel's trace events show, and failed later by the driver's own rule";

/// Boots the guests and prints what their devices were told. Says whether all
/// was well.
pub fn run(kits: &Kits) -> Result<bool> {
    let mut rows = Vec::new();
    let mut well = true;
    for survey in survey::all() {
        eprintln!(
            "booting {} and letting every device import a buffer",
            survey.title
        );
        let (findings, health) = survey.run(kits)?;
        if health.verdict != Verdict::Passed {
            eprintln!("{}", health.text);
            well = false;
        }
        rows.extend(findings.iter().map(|finding| row(survey.title, finding)));
        well &= findings.iter().all(|finding| finding.answer().is_some());
    }
    print!("{}", table(&rows, io::stdout().is_terminal()));
    println!();
    println!("{NOTES}");
    Ok(well)
}

fn row(title: &str, finding: &Finding) -> [String; 7] {
    let snoops = match finding.snoops {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    let answer = match finding.answer() {
        Some(Answer::Accepted) => "attached",
        Some(Answer::Refused) => "refused",
        None => "failed",
    };
    let errno = match finding.result.as_str() {
        "success" => "-".into(),
        errno if finding.failed_later() => format!("{errno} *"),
        errno => errno.to_owned(),
    };
    [
        title.into(),
        finding.device.clone(),
        finding.bus.clone(),
        finding.driver.clone(),
        snoops.into(),
        answer.into(),
        errno,
    ]
}

fn table(rows: &[[String; 7]], colour: bool) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells
            .chain([HEADINGS[column].len()])
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let line = |cells: [&str; 7]| {
        let cells = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = line(HEADINGS) + "\n";
    for row in rows {
        let plain = line(std::array::from_fn(|column| row[column].as_str()));
        let painted = match (colour, row[5].as_str()) {
            (true, "attached") => format!("\x1b[32m{plain}\x1b[m"),
            (true, "refused") => format!("\x1b[33m{plain}\x1b[m"),
            (true, _) => format!("\x1b[31m{plain}\x1b[m"),
            (false, _) => plain,
        };
        text += &painted;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |arch: &str, driver: &str, answer: &str| {
            [arch, "x", "pci", driver, "yes", answer, "-"].map(str::to_owned)
        };
        let rows = [
            row("x86_64", "bochs-drm", "attached"),
            row("arm64", "vgem", "refused"),
        ];
        let plain = table(&rows, false);
        let expected = "\
            ARCH    DEVICE  BUS  DRIVER     SNOOPS  RESULT    ERRNO\n\
            x86_64  x       pci  bochs-drm  yes     attached  -\n\
            arm64   x       pci  vgem       yes     refused   -\n";
        assert_eq!(plain, expected);
        assert!(!plain.contains('\x1b') && table(&rows, true).contains("\x1b[33marm64"));
    }
}
