// SPDX-License-Identifier: GPL-2.0

//! Runs the benchmark in guests, and shows what it has measured.

mod chart;
mod guest;

use anyhow::{Context as _, Result};
use chart::Chart;
use clap::Parser;
use dmabuf_coherency_bench::results::{Axis, OPERATIONS, Operation, Report};
use dmabuf_coherency_bench::table::table;
use guest::{JOBS, Kit};
use std::fs;
use std::io::{IsTerminal as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};
use vm::Arch;

/// Runs the benchmark in guests whose clocks count instructions.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 90)]
struct Cli {
    /// Only guests of this architecture. May be repeated
    #[arg(long)]
    arch: Vec<Arch>,
    /// Where the results go, instead of a new directory in the cache
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    /// For the program in the guest: its options, or names of experiments
    #[arg(last = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let output = match &cli.output {
        Some(output) => output.clone(),
        None => new_directory()?,
    };
    fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
    let archs = match cli.arch.as_slice() {
        [] => Arch::ALL.to_vec(),
        some => some.to_vec(),
    };
    let kits: Result<Vec<Kit>> = archs.into_iter().map(Kit::new).collect();
    let kits = kits?;
    // The guests of an architecture run one after the other, the architectures beside each other.
    let reports = thread::scope(|scope| {
        let (arguments, output) = (&cli.arguments, &output);
        let start = |kit| scope.spawn(move || measure(kit, arguments, output));
        let running: Vec<_> = kits.iter().map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Report>>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    for report in &reports {
        println!("{}", table(report, stdout().is_terminal()));
    }
    println!("the results are in {}", output.display());
    Ok(())
}

/// A place for results, named after the time.
fn new_directory() -> Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(vm::cache_dir()?.join("bench").join(seconds.to_string()))
}

/// Measures in all guests of an architecture, and writes down what they found.
fn measure(kit: &Kit, arguments: &[String], output: &Path) -> Result<Report> {
    let mut whole: Option<Report> = None;
    for job in &JOBS {
        let part = job.run(kit, arguments)?;
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => {
                whole.measurements.extend(part.measurements);
                whole.skipped.extend(part.skipped);
            }
        }
    }
    let report = whole.context("there is no guest to measure in")?;
    let arch = kit.arch;
    write(
        &output.join(format!("{arch}.json")),
        &serde_json::to_string_pretty(&report)?,
    )?;
    write(&output.join(format!("{arch}.txt")), &table(&report, false))?;
    draw(&report, &output.join(arch.to_string()))?;
    Ok(report)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Draws all charts of a report. Their names begin with `prefix`.
fn draw(report: &Report, prefix: &Path) -> Result<()> {
    let of = |bytes: bool| -> Vec<&Operation> {
        let wanted = |operation: &&Operation| (operation.axis == Axis::Bytes) == bytes;
        OPERATIONS.iter().filter(wanted).collect()
    };
    let (sizes, growth) = (of(true), of(false));
    let charts = [
        ("", &sizes, false),
        ("-scattered", &sizes, true),
        ("-growth", &growth, false),
    ];
    for region in ["system", "default_cma_region"] {
        for (suffix, operations, scattered) in charts {
            let chart = Chart {
                report,
                region,
                operations,
                scattered,
            };
            let prefix = prefix.display();
            chart.draw(Path::new(&format!("{prefix}-{region}{suffix}.svg")))?;
        }
    }
    Ok(())
}
