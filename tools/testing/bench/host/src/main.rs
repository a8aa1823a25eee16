// SPDX-License-Identifier: GPL-2.0

//! Runs the benchmark in guests, and shows what it has measured.

mod chart;
mod compare;
mod figures;
mod guest;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use dmabuf_coherency_bench::goals::goals;
use dmabuf_coherency_bench::results::{Report, VERSION};
use dmabuf_coherency_bench::table::table;
use guest::{JOBS, Kit};
use std::fs;
use std::io::{IsTerminal as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};
use vm::Arch;

/// Where the table and the charts are that the documentation shows.
const DOCUMENTATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../Documentation");

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
    /// Shows the results in this directory again, and measures nothing
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["output", "arguments"])]
    show: Option<PathBuf>,
    /// Compares with the results in this directory, of an earlier run
    #[arg(long, value_name = "DIRECTORY")]
    compare: Option<PathBuf>,
    /// Writes the table and the charts of the documentation anew
    #[arg(long)]
    document: bool,
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
    let archs = match cli.arch.as_slice() {
        [] => Arch::ALL.to_vec(),
        some => some.to_vec(),
    };
    let (output, reports) = match &cli.show {
        Some(output) => (output.clone(), read_all(output, &archs)?),
        None => {
            let output = match &cli.output {
                Some(output) => output.clone(),
                None => new_directory()?,
            };
            let reports = measure_all(&archs, &cli.arguments)?;
            fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
            (output, reports)
        }
    };
    let old = match &cli.compare {
        Some(directory) => read_all(directory, &archs)?,
        None => Vec::new(),
    };
    for (index, (arch, report)) in archs.iter().zip(&reports).enumerate() {
        let prefix = output.join(arch.to_string());
        write(
            &prefix.with_extension("json"),
            &serde_json::to_string_pretty(report)?,
        )?;
        let text = table(report, false) + &goals(report);
        write(&prefix.with_extension("txt"), &text)?;
        figures::draw(report, &prefix)?;
        if cli.document {
            let directory = Path::new(DOCUMENTATION);
            let path = directory.join(format!("performance-{arch}.txt"));
            // Its first line is that of this file.
            let licence = include_str!("main.rs").lines().next().unwrap_or_default();
            write(&path, &format!("{licence}\n\n{text}"))?;
            figures::draw_documented(report, directory)?;
        }
        println!("{}{}", table(report, stdout().is_terminal()), goals(report));
        if let Some(old) = old.get(index) {
            println!("{}", compare::compare(old, report));
        }
    }
    println!("tables, charts and JSON are in {}", output.display());
    Ok(())
}

/// A place for results, named after the time.
fn new_directory() -> Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(vm::cache_dir()?.join("bench").join(seconds.to_string()))
}

/// The results of an earlier run.
fn read_all(directory: &Path, archs: &[Arch]) -> Result<Vec<Report>> {
    let read = |arch: &Arch| {
        let path = directory.join(format!("{arch}.json"));
        let what = || path.display().to_string();
        let report: Report =
            serde_json::from_slice(&fs::read(&path).with_context(what)?).with_context(what)?;
        ensure!(
            report.version == VERSION,
            "{}: expected version {VERSION}, got {}: measure again",
            path.display(),
            report.version
        );
        Ok(report)
    };
    archs.iter().map(read).collect()
}

/// Measures on all architectures, beside each other.
fn measure_all(archs: &[Arch], arguments: &[String]) -> Result<Vec<Report>> {
    // Building takes all CPUs, so that comes first.
    let kits: Result<Vec<Kit>> = archs.iter().copied().map(Kit::new).collect();
    let kits = kits?;
    thread::scope(|scope| {
        let start = |kit| scope.spawn(move || measure(kit, arguments));
        let running: Vec<_> = kits.iter().map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Report>>| {
            let result = thread.join();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect()
    })
}

/// Measures in all guests of an architecture, one after the other.
fn measure(kit: &Kit, arguments: &[String]) -> Result<Report> {
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
    whole.context("there is no guest to measure in")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
