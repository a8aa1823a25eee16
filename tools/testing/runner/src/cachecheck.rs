// SPDX-License-Identifier: GPL-2.0

//! Guests whose cache maintenance is checked. QEMU has no caches, so a plugin has a
//! model of them.

use crate::boot::{Boot, LOAD, text};
use crate::group::Group;
use crate::kit::{Kits, SELFTEST};
use crate::ktap::Output;
use crate::results::{Case, Verdict};
use crate::sleep;
use anyhow::{Context as _, Result};
use cachecheck::{Counts, Finding, Findings, Kind, Symbols};
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use vm::{Add, Arch, Change, Outcome, Stream};

/// The package of the plugin.
const PLUGIN: &str = "cachecheck_plugin";

/// Marks the start of a part in a guest's output: the functions of its modules, or the tests
/// of a heap.
const MARK: &str = "### ";

/// Keeps the kernel at the addresses that it was linked to, so that System.map is right.
const LINKED: &str = "nokaslr";

/// The kernel's command line for a guest that sleeps.
const SLEEPS: &str = "nokaslr no_console_suspend printk.devkmsg=on";

/// A guest with the unchanged module. The tests pass, and the plugin finds nothing. vivid does not
/// map buffers for DMA here: it writes to them with the CPU, and a real device that has mapped them
/// would not do that.
struct Clean {
    name: &'static str,
    /// The kernel's command line.
    append: &'static str,
    /// The heaps that `tests` run on, one after the other.
    heaps: &'static [&'static str],
    tests: &'static str,
    /// Tests that use all heaps by themselves.
    tests_of_all: &'static str,
}

const CLEAN: &[Clean] = &[
    // The heaps whose buffers need cache maintenance, or must not be cached. It leaves out some
    // tests, to be done in minutes.
    Clean {
        name: "arm64-cachecheck",
        append: LINKED,
        heaps: &["system-noncoherent", "system-uncached"],
        tests: "--rounds 4 importer.many_segments importer.cpu_access importer.uncached \
            pool.reused pool.midway mmap.file_io mmap.block_borders parallel.",
        tests_of_all: "matrix.",
    },
    Clean {
        name: "arm64-cachecheck-bounce",
        append: "nokaslr swiotlb=force",
        heaps: &["system-noncoherent"],
        tests: "brackets.",
        tests_of_all: "matrix.bouncing",
    },
    Clean {
        name: "arm64-cachecheck-every-heap",
        append: LINKED,
        heaps: &[
            "system-coherent",
            "system-noncoherent",
            "system-uncached",
            "default_cma_region-coherent",
            "default_cma_region-noncoherent",
            "default_cma_region-uncached",
        ],
        // All tests but those of other exporters, and one that omits its brackets.
        tests: "--rounds 4 importer.snooping importer.n importer.m importer.uncached \
            importer.segments importer.boundary importer.data importer.vmap_place \
            importer.cpu_access importer.query importer.left_open importer.killed pool. mmap. \
            parallel. video.stream video.one_block video.closed_early video.brackets",
        tests_of_all: "matrix.",
    },
];

/// A mistake, and what the checker has to find if it is made.
struct Control {
    name: &'static str,
    /// The changes of the module that make the mistake. Empty if the test makes it.
    changes: &'static [Change],
    /// The tests that show the mistake.
    tests: &'static str,
    /// What has to be found: the kind, and how the descriptions begin of the access that was
    /// wrong and of the one before it.
    expected: (Kind, &'static str, &'static str),
}

const CONTROLS: &[Control] = &[
    Control {
        name: "no-sync-for-device",
        changes: &[(
            "rust/kernel/dma_buf/maintained.rs",
            "sync_direct(mapped(&known.tables), |table| table.sync_for_device(part))",
            "false",
        )],
        tests: "--heap system-noncoherent --rounds 2 parallel.devices_read",
        expected: (Kind::DirtyRead, "a device in ", "the CPU in "),
    },
    Control {
        name: "no-sync-for-cpu",
        changes: &[(
            "rust/kernel/dma_buf/maintained.rs",
            "sync_direct(written(), |table| table.sync_for_cpu(part))",
            "sync_direct(written(), |_| ())",
        )],
        tests: "--heap system-noncoherent --rounds 2 parallel.device_writes",
        expected: (Kind::StaleRead, "the CPU in user space", "a device in "),
    },
    Control {
        name: "snooping-writer",
        changes: &[(
            "rust/kernel/dma_buf/maintained.rs",
            "self.known.snooping_writer |= table.is_written() && table.snoops();",
            "self.known.snooping_writer = false;",
        )],
        tests: "parallel.snooping_writer",
        expected: (Kind::LostWrite, "the CPU in ", "a snooping device in "),
    },
    Control {
        name: "not-cleaned",
        changes: &[(
            "rust/kernel/mm/cache.rs",
            "self.clean(&block, all)?;",
            "let _ = all;",
        )],
        tests: "--heap system-uncached pool.reused",
        expected: (
            Kind::MixedAttributes,
            "the CPU, uncached, in ",
            "the CPU in ",
        ),
    },
    Control {
        name: "zeroed-after-cleaning",
        changes: &[(
            "rust/kernel/mm/cache.rs",
            "self.clean(block, pages).inspect_err(|_| block.spoil())",
            "self.clean(block, pages.clone())?;
            // SAFETY: None, that is the mistake.
            unsafe { block.zero_in_cache(pages) };
            Ok(())",
        )],
        tests: "--heap system-uncached pool.reused",
        expected: (
            Kind::MixedAttributes,
            "the CPU, uncached, in ",
            "the CPU in ",
        ),
    },
    Control {
        name: "snooping-device-admitted",
        changes: &[(
            "rust/policy.rs",
            "Mode::Uncached if alias.0 && dma.snoops => Err(Refusal::Snooping),",
            "",
        )],
        tests: "--heap system-uncached video.brackets",
        expected: (
            Kind::MixedAttributes,
            "the CPU, uncached, in user space",
            "a snooping device in ",
        ),
    },
    Control {
        name: "bracket-left-out",
        changes: &[],
        tests: "--heap system-noncoherent video.no_brackets",
        expected: (Kind::StaleRead, "the CPU in user space", "a device in "),
    },
    // The kernel's own heap checks whether a device has a mapping, without a lock against new ones.
    Control {
        name: "race-of-system",
        changes: &[],
        tests: "--heap system --rounds 50 parallel.mapped_meanwhile",
        expected: (Kind::DirtyRead, "a device in ", "the CPU in user space"),
    },
];

/// The change for the control of hibernation: caches are not cleaned. The kernel restores memory by
/// a page of code that is mapped as a program's would be, so the checker takes it for user space.
const NOT_CLEANED: Change = (
    "rust/kernel/mm/cache.rs",
    "fn wake_up(&self) {
        self.clean_all();",
    "fn wake_up(&self) {",
);
const RESTORED: (Kind, &str, &str) = (
    Kind::MixedAttributes,
    "the CPU, uncached, in ",
    "the CPU in user space",
);

/// The groups with the unchanged module, and one group for each mistake.
pub fn groups() -> Vec<Group> {
    let about = "a model of the caches finds no missing cache maintenance";
    let clean = CLEAN
        .iter()
        .map(|clean| group(clean.name.into(), about, |kits| clean.run(kits)));
    let mut groups: Vec<_> = clean.collect();
    groups.extend(CONTROLS.iter().map(|control| {
        let name = format!("arm64-cachecheck-{}", control.name);
        let about = "the model of the caches finds a mistake that was made on purpose";
        group(name, about, |kits| control.run(kits))
    }));
    groups.push(group(
        "arm64-cachecheck-hibernation".into(),
        "uncached buffers after hibernation, by a model of the caches",
        hibernation,
    ));
    groups
}

fn group(
    name: String,
    about: &str,
    run: impl Fn(&Kits) -> Result<Vec<Case>> + Send + Sync + 'static,
) -> Group {
    Group::new(name, about, move |kits| match vm::no_plugins() {
        Some(reason) => Ok(vec![Case::new("cachecheck", Verdict::Skipped, reason)]),
        None => run(kits),
    })
}

/// What the model assumes of the machine.
#[derive(clap::Args)]
struct Model {
    /// Assume that only accesses fetch cache lines, not speculation, and that writes of
    /// snooping devices do not stay in the caches
    #[arg(long)]
    no_speculation: bool,
    /// Let PCI devices snoop, as they do on this machine by default
    #[arg(long)]
    pci_snoops: bool,
}

/// What was found in a guest.
struct Checked {
    outcome: Outcome,
    found: Vec<Finding>,
    counts: Counts,
}

impl Checked {
    fn describe(&self) -> String {
        let found = self.found.iter().map(|finding| format!("{finding}\n"));
        found.chain([format!("{:?}", self.counts)]).collect()
    }
}

/// A guest of one CPU that runs a script, with the checker.
struct Checker {
    boot: Boot,
    out: PathBuf,
}

impl Checker {
    fn new(model: &Model, script: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let out = std::env::temp_dir().join(format!("cachecheck.{}.{count}", process::id()));
        let on_off = |yes| if yes { "on" } else { "off" };
        let plugin = format!(
            "{},out={},speculation={},edu_snoops={}",
            vm::qemu_plugin(PLUGIN)?.display(),
            out.display(),
            on_off(!model.no_speculation),
            on_off(model.pci_snoops)
        );
        let script = format!(
            "({script}); status=$?; \
             echo '{MARK}' >&2; grep ' [tT] .*]' /proc/kallsyms >&2; exit $status"
        );
        let mut boot = Boot {
            smp: 1,
            plugins: true,
            append: LINKED,
            pci_noncoherent: !model.pci_snoops,
            ..Boot::new(Arch::Arm64, script)
        };
        // The model does not know more of a CPU than this one has.
        let memory = format!("memory-backend-memfd,id=memory,share=on,size={}M", boot.mem);
        boot.qemu = [
            ["-accel", "tcg"],
            ["-cpu", "cortex-a76"],
            ["-object", &memory],
            ["-machine", "memory-backend=memory"],
            ["-plugin", &plugin],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
        Ok(Self { boot, out })
    }

    /// Boots the guest, and gives what it says to `output`.
    fn run(&self, kits: &Kits, output: impl FnMut(Stream, &[u8])) -> Result<Checked> {
        let outcome = self.boot.run_with(kits, output)?;
        let written = fs::read(&self.out).with_context(|| {
            let repeat = self.boot.repeat(kits).unwrap_or_default();
            format!("the plugin wrote no findings: {outcome}\n{repeat}")
        })?;
        fs::remove_file(&self.out)?;
        let findings: Findings = serde_json::from_slice(&written)?;
        let errors = text(&outcome.stderr);
        let (_, modules) = errors.rsplit_once(MARK).unwrap_or_default();
        // Distributions keep System.map elsewhere. Then the findings show addresses.
        let kernel = kits.get(self.boot.arch)?.kernel.tree.join("System.map");
        let kernel = fs::read_to_string(kernel).unwrap_or_default();
        Ok(Checked {
            found: Symbols::parse(&(kernel + modules)).translate(&findings),
            counts: findings.counts,
            outcome,
        })
    }
}

impl Checker {
    /// The test that the checker has found this kind of mistake, by this access, after that one.
    fn finds_it(
        &self,
        kits: &Kits,
        checked: &Checked,
        (kind, by, after): (Kind, &str, &str),
    ) -> Result<Case> {
        let found = checked.found.iter().any(|finding| {
            finding.kind == kind && finding.by.starts_with(by) && finding.after.starts_with(after)
        });
        let case = "cachecheck.finds_it";
        if found {
            return Ok(Case::new(case, Verdict::Passed, checked.describe()));
        }
        let problem = format!(
            "expected a {kind}: {by}..., after {after}...; found:\n{}\n{}{}\n{}",
            checked.describe(),
            text(&checked.outcome.stdout),
            checked.outcome,
            self.boot.repeat(kits)?
        );
        Ok(Case::judged(case, Some(problem)))
    }
}

/// The model that finds most mistakes, and PCI devices that do not snoop.
const STRICT: Model = Model {
    no_speculation: false,
    pci_snoops: false,
};

impl Clean {
    fn run(&self, kits: &Kits) -> Result<Vec<Case>> {
        let Self {
            append,
            heaps,
            tests,
            tests_of_all,
            ..
        } = self;
        let on_each: String = heaps
            .iter()
            .map(|heap| format!("echo '{MARK}{heap}'; /{SELFTEST} --heap {heap} {tests}; "))
            .collect();
        let script =
            format!("{LOAD} || exit; {on_each} echo '{MARK}all heaps'; /{SELFTEST} {tests_of_all}");
        let mut checker = Checker::new(&STRICT, &script)?;
        checker.boot.append = append;
        let checked = checker.run(kits, |_, _| {})?;
        let repeat = checker.boot.repeat(kits)?;
        let mut cases = Vec::new();
        let said = text(&checked.outcome.stdout);
        for part in said.split(MARK).skip(1) {
            let (heap, said) = part.split_once('\n').unwrap_or((part, ""));
            let output = Output::parse(said);
            let failed = output
                .cases
                .iter()
                .filter(|case| case.verdict == Verdict::Failed);
            let failed: String = failed
                .map(|case| format!("{}: {}\n", case.name, case.text))
                .collect();
            let problem = output.problem().or((!failed.is_empty()).then_some(failed));
            let problem = problem.map(|problem| format!("{problem}{repeat}"));
            cases.push(Case::judged(
                format!("cachecheck.tests_pass {heap}"),
                problem,
            ));
        }
        let wrong = !checked.found.is_empty();
        let problem = wrong.then(|| format!("{}\n{repeat}", checked.describe()));
        cases.push(Case::judged("cachecheck.nothing_found", problem));
        let Counts {
            accesses,
            uncached,
            unmapped,
            maintenance,
            dma,
            snooping,
        } = checked.counts;
        // A guest in which all DMA bounces uses no uncached memory.
        let uncached = uncached > 0 || !heaps.iter().any(|heap| heap.ends_with("-uncached"));
        let all = uncached
            && [accesses, maintenance, dma, snooping]
                .iter()
                .all(|&count| count > 0);
        // Nearly all accesses were checked.
        let problem = (!all || unmapped > accesses / 10_000).then(|| checked.describe());
        cases.push(Case::judged("cachecheck.has_looked", problem));
        cases.push(checker.boot.health(kits, &checked.outcome)?);
        Ok(cases)
    }
}

impl Control {
    fn run(&self, kits: &Kits) -> Result<Vec<Case>> {
        let Self {
            name,
            changes,
            tests,
            expected,
        } = self;
        let (module, adds) = if changes.is_empty() {
            ("$DMABUF_COHERENCY_KO", vec![])
        } else {
            let module = vm::variant(&kits.get(Arch::Arm64)?.kernel, name, changes)?;
            (
                "/changed/dmabuf_coherency.ko",
                vec![Add::new(module, "/changed/")?],
            )
        };
        let script = format!(
            "insmod {module} && modprobe -a dmabuf_importer dmabuf_memtype && /{SELFTEST} {tests}"
        );
        let mut checker = Checker::new(&STRICT, &script)?;
        checker.boot.adds = adds;
        let checked = checker.run(kits, |_, _| {})?;
        Ok(vec![
            checker.finds_it(kits, &checked, *expected)?,
            checker.boot.health(kits, &checked.outcome)?,
        ])
    }
}

/// Tests the unchanged module, and one that does not clean the caches.
fn hibernation(kits: &Kits) -> Result<Vec<Case>> {
    let tests = format!("/{SELFTEST} --heap system-uncached power.hibernate");
    let run = |module: &str, adds: Vec<Add>| {
        let script = sleep::script(&format!("insmod {module}"), &tests);
        let mut checker = Checker::new(&STRICT, &script)?;
        checker.boot.adds = adds;
        checker.boot.append = SLEEPS;
        let mut checked = checker.run(kits, |_, _| {})?;
        // The guest is meant to power off by itself.
        checked.outcome.died = false;
        let said = sleep::said(&checked.outcome)?;
        let slept = said.lines().any(|line| line == "ok 1 power.hibernate");
        let problem = (!slept).then(|| format!("{said}\n{}", checked.outcome));
        let case = Case::judged("cachecheck.test_passes", problem);
        Ok::<_, anyhow::Error>((checker, checked, case))
    };
    let (checker, checked, case) = run("$DMABUF_COHERENCY_KO", vec![])?;
    let silent = checked.found.is_empty() && checked.counts.uncached > 0;
    let problem = (!silent).then(|| checked.describe());
    let mut cases = vec![
        case,
        Case::judged("cachecheck.nothing_found", problem),
        checker.boot.health(kits, &checked.outcome)?,
    ];
    let kernel = &kits.get(Arch::Arm64)?.kernel;
    let module = vm::variant(kernel, "hibernation", &[NOT_CLEANED])?;
    let adds = vec![Add::new(module, "/changed/")?];
    let (checker, checked, case) = run("/changed/dmabuf_coherency.ko", adds)?;
    cases.push(case);
    cases.push(checker.finds_it(kits, &checked, RESTORED)?);
    Ok(cases)
}

/// Options of a guest for somebody who looks for mistakes.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    model: Model,
    /// Copy a file or directory into the guest, into / unless DEST is given
    #[arg(long, value_name = "FILE[:DEST]", value_parser = Add::parse)]
    add: Vec<Add>,
    /// The kernel of the guest, as for `test`
    #[arg(long, value_name = "NAME", default_value = vm::DEFAULT)]
    kernel: String,
    /// The script that the guest's shell runs
    script: String,
}

impl Options {
    /// Runs the guest. Returns whether nothing was found and the script succeeded.
    pub fn run(self) -> Result<bool> {
        let mut checker = Checker::new(&self.model, &self.script)?;
        checker.boot.adds = self.add;
        let checked = checker.run(&Kits::new(&self.kernel, false), |stream, bytes| {
            if stream == Stream::Stdout {
                // If standard output is closed, the guest still runs on.
                let _ = io::stdout().write_all(bytes);
            }
        })?;
        println!("{}", checked.describe());
        if !checked.outcome.is_healthy() {
            println!("{}", checked.outcome);
        }
        Ok(checked.found.is_empty()
            && checked.outcome.is_healthy()
            && checked.outcome.status == Some(0))
    }
}
