// SPDX-License-Identifier: GPL-2.0

//! Attacks on the module by code without `unsafe`. The compiler forbids them, or they
//! get an error in a guest.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::{Kits, SELFTEST};
use crate::ktap::Output;
use crate::results::Case;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use vm::{Add, Arch};

const ATTACKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../attacks");

/// The crate root, and the attack that Kbuild builds.
const ROOT: &str = "attacks";
const GUEST: &str = "guest";

pub fn groups() -> Vec<Group> {
    let group = |arch: Arch| {
        let about = "attacks on the abstractions by safe code fail to compile, or get an error";
        Group::new(format!("{arch}-attacks"), about, move |kits| {
            run(kits, arch)
        })
    };
    Arch::ALL.into_iter().map(group).collect()
}

fn run(kits: &Kits, arch: Arch) -> Result<Vec<Case>> {
    let kernel = &kits.get(arch)?.kernel;
    let output = vm::attacks(kernel)?;
    let mut cases = in_guest(kits, arch, &output)?;
    // Types are the same on both architectures.
    if arch == Arch::X86_64 {
        cases.extend(forbidden(&output)?);
    }
    Ok(cases)
}

/// Compiles each attack except the one that is already in `output`, with the command that
/// built that one, and compares the compiler's errors.
fn forbidden(output: &Path) -> Result<Vec<Case>> {
    let saved = output.join("tools/testing/attacks/.attacks.o.cmd");
    let saved = fs::read_to_string(&saved).with_context(|| saved.display().to_string())?;
    let command = saved
        .lines()
        .next()
        .and_then(|line| line.split_once(" := "))
        .and_then(|(_, command)| command.split(';').next())
        .context("Kbuild saved no command for attacks.o: run the test again")?;

    let mut names = Vec::new();
    for entry in fs::read_dir(ATTACKS)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        if is_source && name != ROOT && name != GUEST {
            names.push(name.into_owned());
        }
    }
    names.sort();

    let mut cases = Vec::new();
    for name in names {
        let expected = format!("{ATTACKS}/{name}.stderr");
        let expected = fs::read_to_string(&expected).context(expected)?;
        let said = compile(output, command, &name)?;
        let problem = (said != expected)
            .then(|| format!("expected:\n{expected}got from the compiler:\n{said}"));
        cases.push(Case::judged(format!("attacks.{name}"), problem));
    }
    Ok(cases)
}

/// The compiler's errors for an attack, one on each line, without the path.
fn compile(output: &Path, command: &str, name: &str) -> Result<String> {
    let command = command
        .replace(
            &format!("attack=\"{GUEST}\""),
            &format!("attack=\"{name}\""),
        )
        .split(' ')
        .filter(|argument| !argument.starts_with("--emit="))
        .collect::<Vec<_>>()
        .join(" ");
    let metadata = output.join("attack.rmeta");
    let emit = format!("--emit=metadata={}", metadata.display());
    // Lints do not count as refusals.
    let compiled = Command::new("sh")
        .args(["-c", &format!("{command} {emit} --cap-lints=allow")])
        .current_dir(output)
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "DMABUF_COHERENCY_BINDINGS",
            output.join("rust/bindings/bindings_generated.rs"),
        )
        .env(
            "DMABUF_COHERENCY_ATTACK",
            vm::checkout().join(format!("tools/testing/attacks/{name}.rs")),
        )
        .stdin(Stdio::null())
        .output()
        .context("running the compiler")?;
    if compiled.status.success() {
        return Ok("nothing: it compiles\n".into());
    }
    let directory = vm::checkout().join("tools/testing/attacks/");
    let errors = String::from_utf8_lossy(&compiled.stderr)
        .replace(&directory.display().to_string(), "")
        .lines()
        .filter(|line| line.contains("error"))
        .map(|line| format!("{line}\n"))
        .collect();
    Ok(errors)
}

/// Runs the attacks that the module makes when it is loaded, and attacks on what it then
/// provides.
fn in_guest(kits: &Kits, arch: Arch, output: &Path) -> Result<Vec<Case>> {
    let script = format!(
        r##"insmod /attacks/dmabuf_coherency.ko && modprobe dmabuf_importer || exit
number=9
check() {{
	number=$((number + 1))
	[ "$2" = "$3" ] && echo "ok $number attacks.$1" || {{
		echo "# expected $3, got $2"
		echo "not ok $number attacks.$1"
	}}
}}
echo 1..15
dmesg | sed -nE 's/.*dmabuf_coherency: ((not )?ok )/\1/p'
check longest_text $(wc -c </sys/devices/faux/attacked/directory/text) 4095
cd /sys/class/dma_heap/system-noncoherent
check longest_file $(wc -c <full) 4095
cat overfull; check file_too_long $? 1
for test in no_mask snooping not_snooping; do
	/{SELFTEST} --heap system-noncoherent importer.$test >/run/said; status=$?
	sed 's/^/# /' /run/said
	check importer.$test $status 0
done"##
    );
    let boot = Boot {
        adds: vec![Add::new(output.join("dmabuf_coherency.ko"), "/attacks/")?],
        ..Boot::new(arch, script)
    };
    let outcome = boot.run(kits)?;
    let said = Output::parse(&text(&outcome.stdout));
    let problem = said.problem().map(|problem| {
        let errors = text(&outcome.stderr);
        format!("{problem}\n{errors}")
    });
    let problem = match problem {
        Some(problem) => Some(format!("{problem}\n{}", boot.repeat(kits)?)),
        None => None,
    };
    let mut cases = said.cases;
    cases.push(Case::judged("complete", problem));
    cases.push(boot.health(kits, &outcome)?);
    Ok(cases)
}
