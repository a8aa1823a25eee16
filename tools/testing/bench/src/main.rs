// SPDX-License-Identifier: GPL-2.0

//! Measures what DMA heaps and their buffers cost, beside each other.
//!
//! Runs as root, in a guest or on a board, with the test importer loaded.

mod background;
mod experiments;
mod recorder;
mod scatter;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use dmabuf_coherency_bench::results::{Clock, Report, VERSION, baseline};
use dmabuf_coherency_bench::table::table;
use dmabuf_coherency_selftest::heap::Heap;
use dmabuf_coherency_selftest::memory;
use recorder::Recorder;
use scatter::Scattered;
use std::cmp::Reverse;
use std::fs;
use std::io::{IsTerminal as _, stdout};
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
        for experiment in experiments::ALL {
            println!("{:10} {}", experiment.name, experiment.about);
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
    let known = |name: &&String| experiments::ALL.iter().any(|known| known.name == **name);
    let unknown = cli.experiments.iter().find(|name| !known(name));
    ensure!(
        unknown.is_none(),
        "there is no experiment {}: see --list",
        unknown.map_or("", |name| name)
    );

    let heaps = heaps(&cli.heap)?;
    let cpus = std::thread::available_parallelism()?.get();
    let mut scattered = cli.scattered.then(Scattered::new).transpose()?;
    let mut recorder = Recorder::new(cli.scattered, cpus)?;
    for experiment in experiments::ALL {
        let named = cli.experiments.iter().any(|name| name == experiment.name);
        // What is not about sizes does not depend on where memory lies either.
        if (named || cli.experiments.is_empty()) && (experiment.sized || !cli.scattered) {
            eprintln!("measuring {}", experiment.about);
            if let Some(scattered) = &mut scattered {
                scattered.take_blocks()?;
            }
            experiments::run(&mut recorder, experiment, &heaps, &cli.size, cli.rounds)?;
        }
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
