// SPDX-License-Identifier: GPL-2.0

//! Frames on their way from a camera to a display, in guests with real drivers.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::Kits;
use crate::pictures::Pictures;
use crate::results::Case;
use anyhow::{Context as _, Result, bail};
use camera::Size;
use serde::Deserialize;
use std::fmt::Write as _;
use vm::Arch;

/// How many frames are compared in each way, and their size. Small frames are as small as
/// rows without padding can be, as emulation is slow. Large frames have a real size, and
/// are for displays that need it.
const SMALL: (u32, Size) = (60, Size::new(192, 144).expect("a size for frames"));
const LARGE: (u32, Size) = (2, Size::new(3840, 2160).expect("a size for frames"));

/// The display that takes memory in one piece only, and reports what it scans out.
const ONE_PIECE: &str = "display-dma";

/// The module of that display.
const DISPLAYS: &str = "dmabuf_display";

/// The result of one way, as the program prints it.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    pub display: String,
    pub devices: u32,
    pub way: String,
    pub heap: String,
    pub refused: Option<Refusal>,
    pub frames: u32,
    pub copies: u32,
}

/// A device that was refused.
#[derive(Clone, Debug, Deserialize)]
pub struct Refusal {
    pub errno: String,
}

/// A display, and the devices before it.
#[derive(Clone, Copy)]
struct Line {
    display: &'static str,
    /// A converter is between the camera and the display.
    convert: bool,
    /// The error that refuses the naive way, if one does: the display does not snoop, or it
    /// takes memory in one piece only.
    refused: Option<&'static str>,
    /// How many frames are shown in each way, and their size.
    frames: (u32, Size),
}

/// A guest, and the displays in it.
pub struct Pipeline {
    name: &'static str,
    pub title: &'static str,
    arch: Arch,
    pci_noncoherent: bool,
    mem: u32,
    cma: Option<&'static str>,
    lines: Vec<Line>,
}

/// The errors for a device that does not snoop, and for one that takes memory in one piece only.
const NOT_COHERENT: Option<&str> = Some("EOPNOTSUPP");
const IN_PIECES: Option<&str> = Some("EINVAL");

/// Fragments the memory. Otherwise unused memory may give large frames in one piece by chance.
const IN_PIECES_INDEED: &str = "/dmabuf_coherency_selftest fragment /tmp/in-pieces & \
    until [ -e /tmp/in-pieces ]; do kill -0 $! && sleep 1 || exit; done; ";

/// Both architectures, arm64 once more with PCI displays that do not snoop, and both
/// with a display that takes memory in one piece only.
pub fn all() -> Vec<Pipeline> {
    let vkms = |refused, convert| Line {
        display: "vkms",
        convert,
        refused,
        frames: SMALL,
    };
    let bochs = |refused| Line {
        display: "bochs-drm",
        convert: false,
        refused,
        frames: SMALL,
    };
    let one_piece = |refused| Line {
        display: ONE_PIECE,
        convert: false,
        refused,
        frames: LARGE,
    };
    let pipeline = |name, title, arch, lines| Pipeline {
        name,
        title,
        arch,
        pci_noncoherent: false,
        mem: 512,
        cma: None,
        lines,
    };
    // The camera has four buffers, and the display two of its own.
    let large = |name, title, arch, lines| Pipeline {
        mem: 1 << 10,
        cma: Some("256M"),
        ..pipeline(name, title, arch, lines)
    };
    vec![
        pipeline(
            "x86_64-pipeline",
            "x86_64",
            Arch::X86_64,
            vec![vkms(None, true), bochs(None)],
        ),
        pipeline(
            "arm64-pipeline",
            "arm64",
            Arch::Arm64,
            vec![
                vkms(NOT_COHERENT, false),
                vkms(NOT_COHERENT, true),
                bochs(None),
            ],
        ),
        Pipeline {
            pci_noncoherent: true,
            ..pipeline(
                "arm64-noncoherent-pipeline",
                "arm64 (PCI made noncoherent)",
                Arch::Arm64,
                vec![bochs(NOT_COHERENT)],
            )
        },
        large(
            "x86_64-large-pipeline",
            "x86_64 (3840x2160)",
            Arch::X86_64,
            vec![one_piece(IN_PIECES)],
        ),
        large(
            "arm64-large-pipeline",
            "arm64 (3840x2160)",
            Arch::Arm64,
            vec![one_piece(NOT_COHERENT)],
        ),
    ]
}

pub fn groups() -> Vec<Group> {
    let group = |pipeline: Pipeline| {
        let about = format!("camera to display on {}, frame by frame", pipeline.title);
        Group::new(pipeline.name, about, move |kits| pipeline.test(kits))
    };
    all().into_iter().map(group).collect()
}

impl Line {
    /// The guest's script for this line.
    fn script(self, pictures: &Pictures) -> String {
        let Self {
            display, convert, ..
        } = self;
        let (frames, size) = self.frames;
        let (pixels, convert) = match convert {
            true => ("bgr24", " --convert"),
            false => ("xbgr32", ""),
        };
        let look = match display {
            "vkms" => format!("--keep /tmp/kept/{display}{}", convert.replace(" --", "-")),
            ONE_PIECE => String::new(),
            _ => format!(
                "--monitor $(echo {}) --screendumps '{}'",
                Pictures::MONITOR,
                pictures.directory().display()
            ),
        };
        format!(
            "mkdir -p /tmp/kept/{display}{}; \
             /dmabuf_coherency_camera --size {size} --rate 60 --pixels {pixels} >&2 & camera=$!; \
             /pipeline --display {display}{convert} --size {size} --frames {frames} {look} || exit; \
             kill $camera; wait $camera; ",
            convert.replace(" --", "-")
        )
    }

    /// Whether a report is about this line.
    fn is_of(self, report: &Report) -> bool {
        report.display == self.display && report.devices == if self.convert { 3 } else { 2 }
    }

    /// What is wrong with the report of a way.
    fn problem(self, way: &str, report: Option<&Report>) -> Option<String> {
        let Some(report) = report else {
            return Some("the guest printed no report of this way".into());
        };
        let right = match &report.refused {
            Some(refusal) => {
                way == "naive" && self.refused == Some(refusal.errno.as_str()) && report.frames == 0
            }
            None => {
                !(way == "naive" && self.refused.is_some())
                    && report.frames == self.frames.0
                    && report.copies == u32::from(way == "copy")
            }
        };
        (!right).then(|| format!("unexpected: {report:?}"))
    }
}

impl Pipeline {
    /// Boots the guest. Returns the result of each way, and tests that compare screenshots
    /// on the host.
    pub fn run(&self, kits: &Kits) -> Result<(Vec<Report>, Vec<Case>)> {
        let pictures = Pictures::of(self.name)?;
        let mut script = "insmod $DMABUF_COHERENCY_KO && \
            modprobe -a dummy_hcd raw_gadget uvcvideo vkms bochs vim2m || exit; "
            .to_owned();
        if self.needs_displays() {
            script += "modprobe dmabuf_display helpers=dma || exit; ";
        }
        if self.lines.iter().any(|line| line.refused == IN_PIECES) {
            script += IN_PIECES_INDEED;
        }
        for line in &self.lines {
            script += &line.script(&pictures);
        }
        write!(script, "cd /tmp/kept && tar -cf {} .", Pictures::KEPT)?;
        let boot = Boot {
            pci_noncoherent: self.pci_noncoherent,
            mem: self.mem,
            cma: self.cma,
            // vkms of Linux 7.3 may compose a frame that another CPU has freed.
            smp: 1,
            qemu: pictures.qemu(),
            ..Boot::new(self.arch, script)
        };
        let mut outcome = boot.run(kits)?;
        outcome.reports.retain(|report| {
            let noise = is_late_frame(&report.text);
            if noise {
                eprintln!(
                    "{}: vkms was late with a frame and warned, which is a known bug of vkms",
                    self.name
                );
            }
            !noise
        });
        let health = boot.health(kits, &outcome)?;
        if outcome.status != Some(0) {
            bail!(
                "the pipeline of {} ended with status {:?}:\n{}{}\n{}\n{}",
                self.title,
                outcome.status,
                text(&outcome.stdout),
                text(&outcome.stderr),
                health.text,
                boot.repeat(kits)?
            );
        }
        pictures.unpack()?;
        let reports = text(&outcome.stdout);
        let reports = reports.lines().map(|line| {
            serde_json::from_str(line).with_context(|| format!("expected JSON, got {line}"))
        });
        let reports = reports.collect::<Result<Vec<Report>>>()?;
        let mut cases = vec![health];
        for report in &reports {
            if !["vkms", ONE_PIECE].contains(&report.display.as_str()) {
                cases.push(screenshots(&pictures, report));
            }
        }
        eprintln!("pictures are in {}", pictures.directory().display());
        Ok((reports, cases))
    }

    /// Whether it uses a test display.
    fn needs_displays(&self) -> bool {
        self.lines.iter().any(|line| line.display == ONE_PIECE)
    }

    /// What the kernel lacks for this guest.
    pub fn lacks(&self, kits: &Kits) -> Result<Option<&'static str>> {
        let lacks = self.needs_displays() && !kits.get(self.arch)?.image.has_module(DISPLAYS);
        Ok(lacks.then_some("the test display needs a kernel with CONFIG_DRM_GEM_DMA_HELPER"))
    }

    fn test(&self, kits: &Kits) -> Result<Vec<Case>> {
        let (reports, mut cases) = self.run(kits)?;
        cases.extend(self.judge(&reports));
        Ok(cases)
    }

    /// Judges whether each way had the expected result.
    pub fn judge(&self, reports: &[Report]) -> Vec<Case> {
        let mut cases = Vec::new();
        for line in &self.lines {
            for way in ["naive", "picked", "copy"] {
                let of_line = |report: &&Report| line.is_of(report) && report.way == way;
                let problem = line.problem(way, reports.iter().find(of_line));
                let name = format!(
                    "{}{}.{way}",
                    line.display,
                    ["", "-convert"][usize::from(line.convert)]
                );
                cases.push(Case::judged(name, problem));
            }
        }
        cases
    }
}

/// Whether a report is a known one of vkms. On a busy host the worker of vkms in Linux 7.3 may run when
/// the planes of its frame have been unmapped already. It warns and leaves the frame out. Whoever
/// needed the frame asks again.
fn is_late_frame(report: &str) -> bool {
    report.lines().next().is_some_and(|line| {
        // Kernels with verbose bug reports name the file, too.
        line.contains("WARNING: ")
            && line.contains(" at compose_active_planes+")
            && line.contains("[vkms]")
    })
}

/// Compares screenshots. There must be as many pictures as frames.
fn screenshots(pictures: &Pictures, report: &Report) -> Case {
    let problem = match pictures.compare(&report.display, &report.way, SMALL.1) {
        Ok(count) if count == report.frames as usize => None,
        Ok(count) => Some(format!("{count} pictures of {} frames", report.frames)),
        Err(error) => Some(format!("{error:#}")),
    };
    let name = format!("{}.{}.screenshots", report.display, report.way);
    Case::judged(name, problem)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_one_warning_of_vkms_is_let_pass() {
        for late in [
            "[   13.9] WARNING: at compose_active_planes+0x748/0x7bc [vkms], CPU#0\nmore",
            "[   12.6] WARNING: vkms_composer.c:561 at compose_active_planes+0x137b/0x14a0 [vkms]",
        ] {
            assert!(super::is_late_frame(late), "{late}");
        }
        for other in [
            "[   13.9] WARNING: at dma_buf_vmap+0x7/0x9, CPU#0",
            "[   13.9] WARNING: at compose_active_planes+0x7/0x9 [other], CPU#0",
            "[   13.9] BUG: something\nWARNING: at compose_active_planes+0x7/0x9 [vkms]",
        ] {
            assert!(!super::is_late_frame(other), "{other}");
        }
    }
}
