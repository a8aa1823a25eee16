// SPDX-License-Identifier: GPL-2.0

//! Measures what DMA heaps and their buffers cost, beside each other.
//!
//! Runs as root, in a guest or on a board, with the test importer loaded.

mod experiments;
mod links;
mod parallel;
mod recorder;
mod scatter;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use dmabuf_coherency_bench::results::{Clock, Report, VERSION, baseline};
use dmabuf_coherency_bench::table::table;
use dmabuf_coherency_selftest::heap::Heap;
use dmabuf_coherency_selftest::memory;
use experiments::Experiment;
use recorder::Recorder;
use scatter::Scattered;
use std::cmp::Reverse;
use std::fs;
use std::io::{IsTerminal as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measures what DMA heaps and their buffers cost, beside each other.
///
/// Prints a table, or JSON. Run it as root, with the module dmabuf_importer
/// loaded for all that devices do.
#[derive(Parser)]
#[command(version, max_term_width = 90)]
struct Cli {
    /// A heap, by its name in /dev/dma_heap; all by default. May be repeated.
    #[arg(long, value_name = "NAME")]
    heap: Vec<String>,

    /// The size of a buffer: a number with K, M or G. May be repeated.
    #[arg(long, value_name = "BYTES", value_parser = parse_size,
        default_values = ["4K", "64K", "1M", "4M", "8M", "32M", "256M"])]
    size: Vec<usize>,

    /// How often everything is measured, one heap after the other.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Scatters memory first, so that buffers consist of single pages. Fills
    /// the machine's memory.
    #[arg(long)]
    scattered: bool,

    /// Measures no heap, but what links cost on a machine with so many devices
    /// that have some. Vkms makes them up; the module must not be loaded yet.
    #[arg(long, value_name = "COUNT", requires = "module",
        value_parser = clap::value_parser!(u32).range(1..))]
    devices: Option<u32>,

    /// The module's file, for --devices.
    #[arg(long, env = "DMABUF_COHERENCY_KO")]
    module: Option<PathBuf>,

    /// Measures nothing but what buffers cost that several CPUs allocate at
    /// once.
    #[arg(long, conflicts_with = "devices")]
    parallel: bool,

    /// The machine's clock counts instructions: QEMU runs with -icount
    /// shift=0,sleep=off.
    #[arg(long)]
    instructions: bool,

    /// Prints JSON.
    #[arg(long)]
    json: bool,

    /// Lists the experiments, and does none.
    #[arg(long)]
    list: bool,

    /// Only experiments with one of these names.
    experiments: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dmabuf_coherency_bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if cli.list {
        for (name, about) in all() {
            println!("{name:10} {about}");
        }
        return Ok(());
    }
    let report = measure(cli)?;
    if cli.json {
        serde_json::to_writer(stdout(), &report)?;
        println!();
    } else {
        print!("{}", table(&report, stdout().is_terminal()));
    }
    Ok(())
}

fn measure(cli: &Cli) -> Result<Report> {
    let known = |name: &&String| all().any(|(known, _)| known == **name);
    let unknown = cli.experiments.iter().find(|name| !known(name));
    ensure!(
        unknown.is_none(),
        "there is no experiment {}: see --list",
        unknown.map_or("", |name| name)
    );

    let cpus = std::thread::available_parallelism()?.get();
    let mut recorder = Recorder::new(cli.scattered, cpus)?;
    match (cli.devices, &cli.module) {
        (Some(devices), Some(module)) => measure_links(cli, &mut recorder, module, devices)?,
        _ if cli.parallel => measure_parallel(cli, &mut recorder, cpus)?,
        _ => measure_heaps(cli, &mut recorder)?,
    }

    let (measurements, skipped) = recorder.finish();
    let uname = rustix::system::uname();
    Ok(Report {
        version: VERSION,
        arch: match std::env::consts::ARCH {
            // As the kernel's source calls it.
            "aarch64" => "arm64".into(),
            arch => arch.into(),
        },
        kernel: uname.release().to_string_lossy().into_owned(),
        cpus,
        memory: memory::meminfo("MemTotal")?,
        clock: if cli.instructions {
            Clock::Instructions
        } else {
            Clock::Wall
        },
        measurements,
        skipped,
    })
}

/// The names of all experiments, and what they are about.
fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let heaps = experiments::ALL
        .iter()
        .map(|known| (known.name, known.about));
    heaps.chain([
        (parallel::NAME, parallel::ABOUT),
        (links::NAME, links::ABOUT),
    ])
}

/// Whether an experiment of this name is to be done.
fn is_wanted(cli: &Cli, name: &str) -> bool {
    cli.experiments.is_empty() || cli.experiments.iter().any(|wanted| wanted == name)
}

fn measure_links(cli: &Cli, recorder: &mut Recorder, module: &Path, devices: u32) -> Result<()> {
    if is_wanted(cli, links::NAME) {
        eprintln!("measuring {}: {devices}", links::ABOUT);
        links::measure(recorder, module, devices)?;
    }
    Ok(())
}

fn measure_parallel(cli: &Cli, recorder: &mut Recorder, cpus: usize) -> Result<()> {
    if is_wanted(cli, parallel::NAME) {
        eprintln!("measuring {}", parallel::ABOUT);
        for (name, heap) in heaps(&cli.heap)? {
            recorder.on(&name);
            parallel::measure(recorder, &heap, cpus)?;
        }
    }
    Ok(())
}

fn measure_heaps(cli: &Cli, recorder: &mut Recorder) -> Result<()> {
    // What is not about sizes does not depend on where memory lies either.
    let wanted = |experiment: &&Experiment| {
        is_wanted(cli, experiment.name) && (experiment.sized || !cli.scattered)
    };
    let experiments: Vec<_> = experiments::ALL.iter().filter(wanted).collect();
    if experiments.is_empty() {
        return Ok(());
    }
    let heaps = heaps(&cli.heap)?;
    let mut scattered = cli.scattered.then(Scattered::new).transpose()?;
    for experiment in experiments {
        eprintln!("measuring {}", experiment.about);
        if let Some(scattered) = &mut scattered {
            scattered.take_blocks()?;
        }
        experiments::run(recorder, experiment, &heaps, &cli.size, cli.rounds)?;
    }
    Ok(())
}

/// Opens the heaps of these names, or all but those that are others under an
/// old name. In-tree heaps come first.
fn heaps(names: &[String]) -> Result<Vec<(String, Heap)>> {
    let mut names = names.to_vec();
    if names.is_empty() {
        let entries = fs::read_dir("/dev/dma_heap").context("reading /dev/dma_heap")?;
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name != "reserved");
        let region = |name: &str| Reverse(baseline(name).unwrap_or(name).to_owned());
        names.sort_by_key(|name| (baseline(name).is_some(), region(name), name.clone()));
    }
    let open = |name: String| {
        let heap = Heap::open(&name)
            .with_context(|| format!("cannot open {}", Heap::path(&name).display()))?;
        Ok((name, heap))
    };
    names.into_iter().map(open).collect()
}

fn parse_size(text: &str) -> Result<usize> {
    let (digits, shift) = match text.char_indices().last() {
        Some((end, 'K')) => (&text[..end], 10),
        Some((end, 'M')) => (&text[..end], 20),
        Some((end, 'G')) => (&text[..end], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().context("expected a number, like 64K")?;
    ensure!(number > 0, "a buffer has at least one byte");
    Ok(number << shift)
}
