// SPDX-License-Identifier: GPL-2.0

//! Debian's own kernels, unmodified. The module loads there, and works.

use crate::boot::{Boot, LOAD, VIVID_MAPS};
use crate::command::{done, make};
use crate::group::Group;
use crate::kit::{CHOOSE, Kits, SELFTEST};
use crate::results::{Case, Verdict};
use crate::{suite, survey};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use vm::{Add, Arch, Kernel};

/// Checks that the heaps exist that every kernel has.
const HEAPS: &str = "cd /dev/dma_heap && ls system system-coherent system-noncoherent \
    system-uncached >&2 && cd /";

/// Tests of each thing that the module does.
const TESTS: &str = "alloc. answer. import. importer. limits. links.shape links.agree \
    memory.swapped mmap. query. security. sync. video.";

/// Prints the content of DKMS's configuration: the command, then the modules.
const DKMS: &str = r#". ./dkms.conf && echo "${MAKE[0]}" && for i in "${!BUILT_MODULE_NAME[@]}"; do
	echo "${BUILT_MODULE_LOCATION[i]:-.}/${BUILT_MODULE_NAME[i]}.ko"
done"#;

/// Tests of devices that reach only a small part of memory. Only distributions' kernels have
/// a zone for that part.
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
            format!("cannot get Debian's kernel: {error:#}"),
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
    let problem = dkms(&vm::kernel(arch, kernel)?).err();
    cases.push(Case::judged(
        "dkms",
        problem.map(|error| format!("{error:#}")),
    ));
    Ok(cases)
}

/// Installs the module's source for DKMS, and builds it as DKMS would. The build must make the
/// modules that the configuration names, and no others.
fn dkms(kernel: &Kernel) -> Result<()> {
    let work = vm::cache_dir()?.join(format!("dkms.{}.{}", kernel.release, std::process::id()));
    let result = dkms_in(kernel, &work);
    fs::remove_dir_all(&work)?;
    result
}

fn dkms_in(kernel: &Kernel, work: &Path) -> Result<()> {
    fs::create_dir_all(work)?;
    let destination = format!("DESTDIR={}", work.display());
    done(make(vm::checkout()).arg("dkms_install").arg(destination))?;
    let source = fs::read_dir(work.join("usr/src"))?.next();
    let source = source
        .context("make dkms_install installed no source")??
        .path();

    let mut told = Command::new("bash");
    told.args(["-c", DKMS]).current_dir(&source);
    let told = done(told.env("kernel_source_dir", &kernel.tree))?;
    let mut told = told.lines();
    let command = told.next().context("dkms.conf names no command")?;
    let told: BTreeSet<PathBuf> = told.map(|path| source.join(path)).collect();

    let mut build = kernel.command("sh")?;
    build.args(["-c", "cd \"$1\" && eval \"$2\"", "sh"]);
    done(build.arg(&source).arg(command))?;
    let mut built = BTreeSet::new();
    for directory in [".", "tools/heaps"] {
        for entry in fs::read_dir(source.join(directory))? {
            let path = source.join(directory).join(entry?.file_name());
            if path.extension().is_some_and(|extension| extension == "ko") {
                built.insert(path);
            }
        }
    }
    if built != told {
        bail!("expected the modules that dkms.conf names, {told:?}, got {built:?}");
    }
    Ok(())
}

/// Tests the command and the example as 32-bit programs on the same kernel.
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
