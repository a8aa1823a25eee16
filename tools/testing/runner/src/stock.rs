// SPDX-License-Identifier: GPL-2.0

//! Debian's own kernels, unmodified: the module loads, and does there what it is for.

use crate::boot::{Boot, LOAD, VIVID_MAPS};
use crate::group::Group;
use crate::kit::{CHOOSE, Kits, SELFTEST};
use crate::results::{Case, Verdict};
use crate::{suite, survey};
use anyhow::Result;
use std::path::PathBuf;
use vm::{Add, Arch};

/// The heaps that are on any kernel.
const HEAPS: &str = "cd /dev/dma_heap && ls system system-coherent system-noncoherent \
    system-uncached >&2 && cd /";

/// Tests of each thing that the module does.
const TESTS: &str = "alloc. answer. import. importer. limits. links.shape links.agree \
    memory.swapped mmap. query. security. sync. video.";

/// What is about devices that reach a small part of memory, for which only distributions'
/// kernels have a zone.
const LITTLE_REACHED: &str = "matrix.narrow";

pub fn groups() -> Vec<Group> {
    let group = |(arch, kernel): (Arch, String)| {
        let about = "Debian's own kernel: heaps, imports, links and video";
        Group::new(format!("{arch}-{kernel}"), about, move |_| {
            test(arch, &kernel)
        })
    };
    let older = vm::older_series().map(|series| (Arch::X86_64, format!("{}-{series}", vm::DEBIAN)));
    let newest = Arch::ALL.map(|arch| (arch, vm::DEBIAN.to_owned()));
    newest.into_iter().chain(older).map(group).collect()
}

fn test(arch: Arch, kernel: &str) -> Result<Vec<Case>> {
    if let Err(error) = vm::kernel(arch, kernel) {
        return Ok(vec![Case::new(
            "kernel",
            Verdict::Skipped,
            format!("Debian's kernel cannot be had: {error:#}"),
        )]);
    }
    let kits = Kits::new(kernel, false);
    let mut cases = Vec::new();
    for survey in survey::all() {
        if survey.boot.arch == arch && !survey.boot.pci_noncoherent {
            cases.extend(survey.test(&kits)?);
        }
    }
    let boot = Boot::new(
        arch,
        format!("{LOAD} {VIVID_MAPS} && {HEAPS} && exec /{SELFTEST} {TESTS}"),
    );
    cases.extend(suite::run_anywhere(boot, &kits)?);
    if arch == Arch::X86_64 {
        let boot = Boot {
            mem: 5 << 10,
            ..Boot::new(
                arch,
                format!("{LOAD} {VIVID_MAPS} && exec /{SELFTEST} {LITTLE_REACHED}"),
            )
        };
        cases.extend(suite::run_anywhere(boot, &kits)?);
    }
    cases.extend(programs_32(arch, &kits)?);
    Ok(cases)
}

/// The command and the example, of 32 bits: such programs talk to the same kernel.
fn programs_32(arch: Arch, kits: &Kits) -> Result<Vec<Case>> {
    let programs = || {
        Ok([
            vm::rust_program_32(arch, "dmaheap")?,
            vm::c_program_32(arch, CHOOSE)?,
        ])
    };
    let programs: Result<[PathBuf; 2]> = programs();
    let programs = match programs {
        Ok(programs) => programs,
        Err(error) => {
            let case = Case::new(
                "programs of 32 bits",
                Verdict::Skipped,
                format!("{error:#}"),
            );
            return Ok(vec![case]);
        }
    };
    let mut boot = Boot::new(arch, "cp /32/* / && exec sh /guest.sh");
    boot.cma = Some("64M");
    for program in programs {
        boot.adds.push(Add::new(program, "/32/")?);
    }
    suite::run_anywhere(boot, kits)
}
