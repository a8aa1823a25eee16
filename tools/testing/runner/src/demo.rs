// SPDX-License-Identifier: GPL-2.0

//! The demonstration: one table of all devices, and one of the ways from a camera
//! to a display.

use crate::kit::Kits;
use crate::pipeline::{self, Report};
use crate::results::Verdict;
use crate::survey::{self, Answer, Finding};
use anyhow::Result;
use std::io::{self, IsTerminal as _};

const HEADINGS: [&str; 7] = [
    "ARCH", "DEVICE", "BUS", "DRIVER", "SNOOPS", "RESULT", "ERRNO",
];

/// The column of a table that decides about a row's colour.
const RESULT: usize = 5;

const NOTES: &str = "\
SNOOPS  whether the device's DMA sees the CPU caches
RESULT  what the heap system-coherent answered when the device tried to attach
ERRNO   how the call from user space ended: VIDIOC_QBUF for vivid, else PRIME import
*       the device was attached, as trace events show; later its driver failed by its own rule";

const PIPELINE_HEADINGS: [&str; 7] = [
    "ARCH", "DISPLAY", "DEVICES", "WAY", "HEAP", "RESULT", "COPIES",
];

const PIPELINE_NOTES: &str = "\
DEVICES  2: a USB camera and the display; 3: also vim2m between them, which converts frames
DISPLAY  display-dma takes memory in one piece only, as the displays of most boards do
WAY      naive: all devices use the strict heap; picked: they use the heap that suits all;
         copy: the fallback of naive, the CPU copies frames to the display's own buffers
RESULT   how many frames the display read with every byte as the camera had sent it
Emulated machines have no caches. It is real that a device is refused or served. The effect
of stale caches cannot be seen here.";

/// Boots the guests. Prints the heap's answer to each device, and how frames came from a
/// camera to displays. Returns whether all was well.
pub fn run(kits: &Kits) -> Result<bool> {
    let devices = devices(kits)?;
    println!();
    Ok(pipelines(kits)? && devices)
}

fn pipelines(kits: &Kits) -> Result<bool> {
    let mut rows = Vec::new();
    let mut well = true;
    for pipeline in pipeline::all() {
        if let Some(lack) = pipeline.lacks(kits)? {
            eprintln!("leaving out {}: {lack}", pipeline.title);
            continue;
        }
        eprintln!(
            "booting {} and showing a camera's frames, which takes a minute or two",
            pipeline.title
        );
        let (reports, mut cases) = pipeline.run(kits)?;
        cases.extend(pipeline.judge(&reports));
        for case in cases {
            if case.verdict != Verdict::Passed {
                eprintln!("{}: {}", case.name, case.text);
                well = false;
            }
        }
        let title = pipeline.title;
        rows.extend(reports.iter().map(|report| way(title, report)));
    }
    let table = table(PIPELINE_HEADINGS, &rows, io::stdout().is_terminal());
    println!("{table}\n{PIPELINE_NOTES}");
    Ok(well)
}

/// The table's row for a way of a frame.
fn way(title: &str, report: &Report) -> [String; 7] {
    let (result, copies) = match &report.refused {
        Some(refusal) => (format!("refused, {}", refusal.errno), "-".into()),
        None => (
            format!("{} frames right", report.frames),
            report.copies.to_string(),
        ),
    };
    [
        title.into(),
        report.display.clone(),
        report.devices.to_string(),
        report.way.clone(),
        report.heap.clone(),
        result,
        copies,
    ]
}

fn devices(kits: &Kits) -> Result<bool> {
    let mut rows = Vec::new();
    let mut well = true;
    for survey in survey::all() {
        eprintln!(
            "booting {} and letting every device import a buffer",
            survey.title
        );
        let (findings, health) = survey.run(kits)?;
        let mut cases = survey.judge(kits, &findings)?;
        cases.push(health);
        for case in cases {
            if case.verdict != Verdict::Passed {
                eprintln!("{}: {}", case.name, case.text);
                well = false;
            }
        }
        rows.extend(findings.iter().map(|finding| row(survey.title, finding)));
    }
    let table = table(HEADINGS, &rows, io::stdout().is_terminal());
    println!("{table}\n{NOTES}");
    Ok(well)
}

/// The table's row for a device.
pub fn row(title: &str, finding: &Finding) -> [String; 7] {
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

fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]], colour: bool) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells
            .chain([headings[column].len()])
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = line(headings) + "\n";
    for row in rows {
        let plain = line(std::array::from_fn(|column| row[column].as_str()));
        let result = row[RESULT].as_str();
        let painted = if !colour {
            plain
        } else if result == "attached" || result.ends_with("right") {
            format!("\x1b[32m{plain}\x1b[m")
        } else if result.starts_with("refused") {
            format!("\x1b[33m{plain}\x1b[m")
        } else {
            format!("\x1b[31m{plain}\x1b[m")
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
        let plain = table(HEADINGS, &rows, false);
        let expected = "\
            ARCH    DEVICE  BUS  DRIVER     SNOOPS  RESULT    ERRNO\n\
            x86_64  x       pci  bochs-drm  yes     attached  -\n\
            arm64   x       pci  vgem       yes     refused   -\n";
        assert_eq!(plain, expected);
        assert!(!plain.contains('\x1b') && table(HEADINGS, &rows, true).contains("\x1b[33marm64"));
    }
}
