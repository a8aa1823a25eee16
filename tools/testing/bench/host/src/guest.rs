// SPDX-License-Identifier: GPL-2.0

//! Runs the benchmark in a guest whose clock counts instructions.

use anyhow::{Context as _, Result, bail};
use dmabuf_coherency_bench::results::{Report, VERSION};
use std::path::PathBuf;
use std::time::Duration;
use vm::{Add, Arch, Guest, Image, Stream};

const PROGRAM: &str = "dmabuf_coherency_bench";

/// What guests of an architecture are made from.
pub struct Kit {
    pub arch: Arch,
    image: Image,
    program: PathBuf,
}

impl Kit {
    pub fn new(arch: Arch) -> Result<Self> {
        Ok(Self {
            arch,
            image: Image::new(&vm::kernel(arch, vm::DEFAULT)?)?,
            program: vm::rust_program(arch, PROGRAM)?,
        })
    }
}

/// One guest, and what the program is told there.
pub struct Job {
    /// What the shell does first.
    before: &'static str,
    smp: u32,
    mem: &'static str,
    append: &'static str,
    arguments: &'static [&'static str],
}

const LOAD: &str = "modprobe dmabuf_coherency && modprobe dmabuf_importer &&";

/// The guests of a whole run: one with plenty of memory; a small one, which is
/// filled soon, and has no memory that only the contiguous heaps could use; one with
/// several CPUs; and one for each number of devices with links.
pub const JOBS: [Job; 7] = [
    Job {
        before: LOAD,
        smp: 1,
        mem: "2G",
        append: "cma=512M",
        arguments: &[],
    },
    Job {
        before: LOAD,
        smp: 1,
        mem: "384M",
        append: "cma=0",
        arguments: &["--scattered", "--size=64K", "--size=1M", "--size=8M"],
    },
    Job {
        before: LOAD,
        smp: 4,
        mem: "2G",
        append: "cma=512M",
        arguments: &["--parallel"],
    },
    links(&["--devices=1"]),
    links(&["--devices=10"]),
    links(&["--devices=100"]),
    links(&["--devices=1000"]),
];

const fn links(arguments: &'static [&'static str]) -> Job {
    Job {
        before: "",
        smp: 1,
        mem: "2G",
        append: "",
        arguments,
    }
}

/// How long a guest may take. Emulation that counts is slow.
const LIMIT: Duration = Duration::from_secs(3600);

impl Job {
    /// Boots the guest and measures there. `arguments` are for the program.
    pub fn run(&self, kit: &Kit, arguments: &[String]) -> Result<Report> {
        let script = format!(
            "{} exec /{PROGRAM} --json --instructions --rounds 1 {} {}",
            self.before,
            self.arguments.join(" "),
            arguments.join(" ")
        );
        let outcome = Guest::new(&kit.image)
            .command(["sh", "-c", &script])
            .smp(self.smp)
            .mem(self.mem)
            .append(self.append)
            .qemu(["-icount", "shift=0,sleep=off"])
            .add_file(Add::new(&kit.program, "")?)
            .timeout(LIMIT)
            .run_with(|stream, bytes| {
                if stream == Stream::Stderr {
                    eprint!("{}", String::from_utf8_lossy(bytes));
                }
            })?;
        if !outcome.is_healthy() || outcome.status != Some(0) {
            bail!(
                "the guest of {} ended with status {:?}\n{outcome}",
                kit.arch,
                outcome.status
            );
        }
        let report: Report = serde_json::from_slice(&outcome.stdout)
            .with_context(|| format!("expected results as JSON of version {VERSION}"))?;
        Ok(report)
    }
}
