// SPDX-License-Identifier: GPL-2.0

//! Applies the series to a copy of the kernel's source, builds each step of it and the whole kernel,
//! and boots that for its tests.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use vm::Arch;

use crate::examples;
use crate::patches::{self, output};
use crate::tree::Tree;

const ARCH: Arch = Arch::X86_64;

/// The configuration, on top of allnoconfig.
const CONFIG: &str = include_str!("../kernel.config");

/// The suites of KUnit that are run: those in Rust, and the examples of the documentation.
const SUITES: &str = "rust_*";

/// The machine that boots, by emulation: it takes seconds.
const QEMU: [&str; 15] = [
    "-machine",
    "q35",
    "-accel",
    "tcg",
    "-cpu",
    "max,la57=off,erms=off",
    "-smp",
    "2",
    "-m",
    "1G",
    "-nodefaults",
    "-nographic",
    "-no-reboot",
    "-serial",
    "stdio",
];

/// What its kernel is told: to end when the tests are done, or when it panics.
const PARAMETERS: &str = "console=ttyS0 panic=-1 no_timer_check kunit_shutdown=reboot";

/// What checkpatch shall not ask for. Who sends the patches signs them, and has a name in MAINTAINERS.
const IGNORED: &str = "MISSING_SIGN_OFF,FILE_PATH_CHANGES";

/// What became of a check.
pub enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// One thing that was looked at.
pub struct Check {
    pub name: String,
    pub verdict: Verdict,
}

impl Check {
    fn new(name: impl Into<String>, result: Result<()>) -> Self {
        let verdict = match result {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        Self {
            name: name.into(),
            verdict,
        }
    }

    fn failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_))
    }
}

/// Writes the series to `out`, and checks it. Says each thing that it does to `say`.
pub fn all(out: &Path, say: &mut dyn FnMut(&Check)) -> Result<Vec<Check>> {
    let original = vm::kernel_source(ARCH)?;
    let (patches, tree) = patches::write(vm::checkout(), &original, out)?;
    let build = Build::new(&original, &tree)?;
    let mut checks = Vec::new();
    let mut note = |check: Check| {
        say(&check);
        let failed = check.failed();
        checks.push(check);
        failed
    };

    note(Check::new("examples", examples(&tree)));
    for patch in &patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        note(Check::new(
            format!("{name}.checkpatch"),
            build.checkpatch(patch),
        ));
        build.apply(patch)?;
        // What comes behind would fail as well.
        if note(Check::new(
            format!("{name}.builds"),
            build.make_kernel_crate(),
        )) {
            return Ok(checks);
        }
    }
    note(Check::new("rustfmt", build.rustfmt(&tree)));
    note(Check::new("rustdoc", build.rustdoc(&tree)));
    if note(Check::new("kernel.builds", build.make_all())) {
        return Ok(checks);
    }
    match build.boot() {
        Ok(tests) => {
            for test in tests {
                note(test);
            }
        }
        Err(error) => {
            note(Check::new("kernel.boots", Err(error)));
        }
    }
    Ok(checks)
}

/// Whether all public items have an example. The error lists those that have none.
fn examples(tree: &Tree) -> Result<()> {
    let mut items = Vec::new();
    for (path, text) in tree.series() {
        let module = path
            .trim_start_matches("rust/kernel/")
            .trim_end_matches(".rs");
        items.extend(examples::of(&module.replace('/', "::"), text)?);
    }
    let missing: Vec<&str> = items
        .iter()
        .filter(|(_, has)| !has)
        .map(|(name, _)| name.as_str())
        .collect();
    if !missing.is_empty() {
        bail!(
            "{} of {} public items have no example: {}. Name each in a block of its documentation \
             that begins with ``` and nothing else.",
            missing.len(),
            items.len(),
            missing.join(", ")
        );
    }
    Ok(())
}

/// A copy of the source, and its build tree.
struct Build {
    source: PathBuf,
    tree: PathBuf,
    log: PathBuf,
    /// There is one copy, for whoever comes first.
    _lock: vm::Lock,
}

impl Build {
    /// Copies the source if that has not been done, and takes back what was applied the last time.
    fn new(original: &Path, series: &Tree) -> Result<Self> {
        let directory = vm::cache_dir()?.join("upstream");
        let version = original.file_name().context("the source has no name")?;
        let source = directory.join(version);
        let this = Self {
            _lock: vm::cache_lock("upstream")?,
            tree: directory.join("build"),
            log: directory.join("log"),
            source,
        };
        fs::create_dir_all(&this.tree)?;
        let complete = directory.join("complete");
        if fs::read_to_string(&complete).ok().as_deref() != version.to_str() {
            let _ = fs::remove_dir_all(&this.source);
            let mut copy = Command::new("cp");
            copy.args(["-a", "--reflink=auto"])
                .arg(original)
                .arg(&this.source);
            output(&mut copy)?;
            fs::write(&complete, version.as_encoded_bytes())?;
        }
        // An older series may have had other files.
        let touched = directory.join("touched");
        let mut files: BTreeSet<String> = series.files.keys().cloned().collect();
        let before = fs::read_to_string(&touched).unwrap_or_default();
        files.extend(before.lines().map(str::to_owned));
        fs::write(
            &touched,
            files
                .iter()
                .map(|file| format!("{file}\n"))
                .collect::<String>(),
        )?;
        for file in &files {
            let path = this.source.join(file);
            match fs::read(original.join(file)) {
                Ok(text) if fs::read(&path).ok().as_ref() == Some(&text) => (),
                Ok(text) => fs::write(path, text)?,
                Err(_) if path.exists() => fs::remove_file(path)?,
                Err(_) => (),
            }
        }
        Ok(this)
    }

    fn apply(&self, patch: &Path) -> Result<()> {
        let mut git = Command::new("git");
        git.current_dir(&self.source)
            .args(["apply", "-p1"])
            .arg(patch);
        output(&mut git).map(drop)
    }

    fn checkpatch(&self, patch: &Path) -> Result<()> {
        let mut checkpatch = Command::new(self.source.join("scripts/checkpatch.pl"));
        checkpatch
            .current_dir(&self.source)
            .args(["--terse", "--no-summary", "--ignore", IGNORED]);
        output(checkpatch.arg(patch)).map(drop)
    }

    /// Runs make, which must not warn of what matters.
    fn make(&self, targets: &[&str], matters: impl Fn(&str) -> bool) -> Result<()> {
        let log = File::create(&self.log)?;
        let mut make = vm::kernel_make()?;
        make.arg("-C")
            .arg(&self.source)
            .arg(format!("O={}", self.tree.display()));
        make.arg(format!("ARCH={ARCH}"))
            .arg("CLIPPY=1")
            .args(targets);
        make.env("KCONFIG_ALLCONFIG", self.config()?);
        make.stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let status = make.status().context("cannot run make")?;
        let log = fs::read_to_string(&self.log)?;
        let lines: Vec<&str> = log.lines().collect();
        if !status.success() {
            let errors = lines
                .iter()
                .position(|line| line.starts_with("error") || line.contains(" error"));
            let from = errors.unwrap_or(lines.len().saturating_sub(40));
            bail!("make {targets:?} failed:\n{}", lines[from..].join("\n"));
        }
        let warnings: Vec<String> = (0..lines.len())
            .filter(|&at| lines[at].starts_with("warning") || lines[at].contains(" warning: "))
            .map(|at| lines[at..lines.len().min(at + 8)].join("\n"))
            .filter(|warning| matters(warning))
            .collect();
        if !warnings.is_empty() {
            bail!("make {targets:?} warned:\n{}", warnings.join("\n"));
        }
        Ok(())
    }

    /// The file with the configuration.
    fn config(&self) -> Result<PathBuf> {
        let path = self.tree.join("fragments.config");
        if fs::read_to_string(&path).ok().as_deref() != Some(CONFIG) {
            fs::write(&path, CONFIG)?;
        }
        Ok(path)
    }

    fn make_kernel_crate(&self) -> Result<()> {
        // Options come and go with the patches.
        self.make(&["allnoconfig"], |_| false)?;
        self.make(&["rust/kernel.o"], |_| true)
    }

    fn make_all(&self) -> Result<()> {
        let config = fs::read_to_string(self.tree.join(".config"))?;
        let wanted = CONFIG.lines().filter(|line| line.starts_with("CONFIG_"));
        let lost: Vec<&str> = wanted
            .filter(|line| !config.lines().any(|other| other == *line))
            .collect();
        if !lost.is_empty() {
            bail!(
                "Kconfig dropped {}: what they depend on is missing",
                lost.join(", ")
            );
        }
        self.make(&["all"], |warning| warning.contains("rust/"))
    }

    fn rustdoc(&self, series: &Tree) -> Result<()> {
        self.make(&["rustdoc"], |warning| {
            series
                .files
                .keys()
                .any(|path| warning.contains(path.as_str()))
        })
    }

    /// Whether each Rust file that the series touches is laid out as rustfmt does it.
    fn rustfmt(&self, series: &Tree) -> Result<()> {
        for (path, text) in series
            .files
            .iter()
            .filter(|(path, _)| path.ends_with(".rs"))
        {
            if series.formatted(text)? != *text {
                bail!("rustfmt would change {path}");
            }
        }
        Ok(())
    }

    /// Boots the kernel, which runs its tests and ends, and lists them.
    fn boot(&self) -> Result<Vec<Check>> {
        let (log, results) = (
            self.tree.join("console.log"),
            self.tree.join("results.json"),
        );
        let _ = fs::remove_file(&results);
        // Not by kunit.py: it waits for ever where there is a KVM that hangs.
        let mut qemu = Command::new("timeout");
        qemu.args(["1800", "qemu-system-x86_64"]).args(QEMU);
        qemu.arg("-kernel")
            .arg(self.tree.join("arch/x86/boot/bzImage"));
        qemu.args([
            "-append",
            &format!("{PARAMETERS} kunit.filter_glob={SUITES}"),
        ]);
        qemu.stdin(Stdio::null()).stdout(File::create(&log)?);
        let status = qemu
            .status()
            .context("cannot run timeout: install coreutils")?;
        let console = fs::read(&log)?;
        if !status.success() {
            bail!("QEMU failed ({status}): its output is in {}", log.display());
        }

        let mut kunit = Command::new("python3");
        kunit
            .current_dir(&self.source)
            .args(["tools/testing/kunit/kunit.py", "parse"]);
        kunit.arg(format!("--json={}", results.display())).arg(&log);
        // It fails if a test does, and they are looked at one by one.
        let said = kunit
            .stdin(Stdio::null())
            .output()
            .context("cannot run python3: install it")?;
        let text = fs::read_to_string(&results).with_context(|| {
            format!(
                "kunit.py has no results:\n{}",
                String::from_utf8_lossy(&said.stdout)
            )
        })?;
        let suites: Suite = serde_json::from_str(&text)?;
        let mut checks = Vec::new();
        // All are below one of no interest.
        for suite in &suites.sub_groups {
            suite.list("", &mut checks);
        }
        if checks.is_empty() {
            bail!(
                "no test has run:\n{}",
                String::from_utf8_lossy(&said.stdout)
            );
        }
        let reports: Vec<String> = vm::reports(&console)
            .into_iter()
            .map(|report| format!("{}:\n{}", report.kind, report.text))
            .collect();
        let health = match reports.is_empty() {
            true => Ok(()),
            false => Err(anyhow::anyhow!(
                "the kernel reports\n{}",
                reports.join("\n")
            )),
        };
        checks.push(Check::new("kernel.healthy", health));
        Ok(checks)
    }
}

/// Tests, as kunit.py lists them.
#[derive(Deserialize)]
struct Suite {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sub_groups: Vec<Suite>,
    #[serde(default)]
    test_cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    status: String,
}

impl Suite {
    fn list(&self, start: &str, checks: &mut Vec<Check>) {
        let start = format!(
            "{start}{}{}",
            self.name,
            if self.name.is_empty() { "" } else { "." }
        );
        for case in &self.test_cases {
            let verdict = match case.status.as_str() {
                "PASS" => Verdict::Passed,
                "SKIP" => Verdict::Skipped("the kernel says so".into()),
                other => Verdict::Failed(format!(
                    "kunit.py says {other}: see console.log in the build tree"
                )),
            };
            checks.push(Check {
                name: format!("{start}{}", case.name),
                verdict,
            });
        }
        for suite in &self.sub_groups {
            suite.list(&start, checks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_kunit_are_read() {
        let text = r#"{"arch": "x86_64", "sub_groups": [{"name": "s", "sub_groups": [], "test_cases":
            [{"name": "a", "status": "PASS"}, {"name": "b", "status": "FAIL"}, {"name": "c", "status": "SKIP"}]}]}"#;
        let suite: Suite = serde_json::from_str(text).unwrap();
        let mut checks = Vec::new();
        suite.list("", &mut checks);
        let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names, ["s.a", "s.b", "s.c"]);
        let failed: Vec<bool> = checks.iter().map(Check::failed).collect();
        assert_eq!(failed, [false, true, false]);
    }
}
