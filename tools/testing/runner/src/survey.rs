// SPDX-License-Identifier: GPL-2.0

//! Which devices a heap accepted and which it refused, as seen in a guest.

use crate::boot::{Boot, LOAD, VIVID_MAPS, text};
use crate::group::Group;
use crate::kit::{Kits, SELFTEST};
use crate::results::Case;
use crate::{demo, documents};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use vm::Arch;

/// One device, as the test program's survey prints it.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    pub device: String,
    pub bus: String,
    pub driver: String,
    pub snoops: Option<bool>,
    /// Whether it was attached, even for a short while.
    pub attached: bool,
    /// How the call ended: `success`, or the name of an errno.
    pub result: String,
}

/// The heap's answer to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    Refused,
}

impl Finding {
    /// The heap's answer, if the heap gave one.
    pub fn answer(&self) -> Option<Answer> {
        match (self.attached, self.result.as_str()) {
            (true, _) => Some(Answer::Accepted),
            (false, "EOPNOTSUPP") => Some(Answer::Refused),
            (false, _) => None,
        }
    }

    /// Whether the device was attached, and then failed by a rule of its own.
    pub fn failed_later(&self) -> bool {
        self.attached && self.result != "success"
    }
}

/// A guest in which all devices are surveyed.
#[derive(Clone)]
pub struct Survey {
    pub name: &'static str,
    /// The guest's name in the table.
    pub title: &'static str,
    pub boot: Boot,
    /// The drivers whose devices must be there, and the answer that each must get.
    expected: [(&'static str, Answer); 5],
}

/// Both architectures, and arm64 a second time without its snooping devices.
pub fn all() -> Vec<Survey> {
    use Answer::{Accepted, Refused};
    let script = format!("{LOAD} {VIVID_MAPS} && exec /{SELFTEST} survey");
    let survey = |name, title, arch, virtual_devices, pci| Survey {
        name,
        title,
        boot: Boot::new(arch, &script),
        expected: [
            ("vgem", virtual_devices),
            ("vkms", virtual_devices),
            ("vivid", virtual_devices),
            ("bochs-drm", pci),
            ("virtio_gpu", pci),
        ],
    };
    let noncoherent = survey(
        "arm64-noncoherent-devices",
        "arm64 (PCI made noncoherent)",
        Arch::Arm64,
        Refused,
        Refused,
    );
    vec![
        survey("x86_64-devices", "x86_64", Arch::X86_64, Accepted, Accepted),
        survey("arm64-devices", "arm64", Arch::Arm64, Refused, Accepted),
        Survey {
            boot: Boot {
                pci_noncoherent: true,
                ..noncoherent.boot.clone()
            },
            ..noncoherent
        },
    ]
}

pub fn groups() -> Vec<Group> {
    let group = |survey: Survey| {
        let about = format!("the heap's answer to each device of {}", survey.title);
        Group::new(survey.name, about, move |kits| survey.test(kits))
    };
    all().into_iter().map(group).collect()
}

impl Survey {
    /// Boots the guest. Returns what it found, and the test that the guest was healthy.
    pub fn run(&self, kits: &Kits) -> Result<(Vec<Finding>, Case)> {
        let outcome = self.boot.run(kits)?;
        let health = self.boot.health(kits, &outcome)?;
        if outcome.status != Some(0) {
            bail!(
                "the survey of {} ended with status {:?}:\n{}{}\n{}\n{}",
                self.title,
                outcome.status,
                text(&outcome.stdout),
                text(&outcome.stderr),
                health.text,
                self.boot.repeat(kits)?
            );
        }
        let output = text(&outcome.stdout);
        let findings = output.lines().map(|line| {
            serde_json::from_str(line).with_context(|| format!("expected JSON, got {line}"))
        });
        Ok((findings.collect::<Result<_>>()?, health))
    }

    pub fn test(&self, kits: &Kits) -> Result<Vec<Case>> {
        let (findings, health) = self.run(kits)?;
        let mut cases = self.judge(kits, &findings)?;
        cases.push(health);
        // README.md shows a part of this one.
        if self.name == "arm64-devices" {
            let rows: Vec<_> = findings
                .iter()
                .map(|found| demo::row(self.title, found))
                .collect();
            let problem = documents::other_devices(&rows)?;
            cases.push(Case::judged("as README.md shows it", problem));
        }
        Ok(cases)
    }

    /// Judges whether each device got the answer that it must get.
    pub fn judge(&self, kits: &Kits, findings: &[Finding]) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for (driver, answer) in self.expected {
            let what = if answer == Answer::Accepted {
                "accepted"
            } else {
                "refused"
            };
            let found = findings.iter().find(|finding| finding.driver == driver);
            let problem = match found {
                Some(finding) if finding.answer() == Some(answer) => None,
                Some(finding) => Some(format!("expected it to be {what}, got {finding:?}")),
                None => Some(format!("expected a device of {driver}, got {findings:?}")),
            };
            let repeat = self.boot.repeat(kits)?;
            let problem = problem.map(|problem| format!("{problem}\n{repeat}"));
            cases.push(Case::judged(format!("{driver} is {what}"), problem));
        }
        Ok(cases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(attached: bool, result: &str) -> Finding {
        let json = format!(
            r#"{{"device":"0000:00:01.0","node":"/dev/dri/card0","bus":"pci","driver":"bochs-drm",
            "call":"PRIME import","snoops":true,"evidence":"","attached":{attached},
            "attaches":true,"result":"{result}"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn answers_are_told_from_failures() {
        assert_eq!(finding(true, "success").answer(), Some(Answer::Accepted));
        assert_eq!(finding(true, "ENODEV").answer(), Some(Answer::Accepted));
        assert_eq!(finding(false, "EOPNOTSUPP").answer(), Some(Answer::Refused));
        assert_eq!(finding(false, "ENOMEM").answer(), None);
        assert!(finding(true, "ENODEV").failed_later());
        assert!(!finding(true, "success").failed_later());
    }
}
