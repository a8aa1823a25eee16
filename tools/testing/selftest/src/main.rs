// SPDX-License-Identifier: GPL-2.0

//! Tests of a DMA heap, and of the devices that import its buffers.
//!
//! Runs as root, in a guest or on a board, and needs debugfs. Prints KTAP;
//! the exit status is 0 when all is well, 1 when a test failed, 4 when all
//! were skipped.

mod bufinfo;
mod camera;
mod displays;
mod drm_node;
mod faults;
mod fragments;
mod frames;
mod harness;
mod heap_files;
mod hotplug;
mod importer;
mod importers;
mod ktap;
mod leaks;
mod lost;
mod memory_type;
mod options;
mod pages;
mod pattern;
mod process;
mod reach;
mod stress;
mod suits;
mod survey;
mod swap;
mod tests;
mod timeline;
mod trace;
mod udmabuf;
mod usb_camera;

use anyhow::Result;
use clap::{Parser, Subcommand};
use dmabuf_coherency_selftest::{
    background, device, expect, heap, ioctl, kernel_module, links, mapping, memory, query,
    references, rules, test_importer,
};
use options::Options;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,

    /// Lists the tests, and runs none.
    #[arg(long)]
    list: bool,

    /// Runs the tests whose names contain one of these; all of them by default.
    filters: Vec<String>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Lets every device import a buffer, and prints what happened: one JSON object
    /// on each line.
    Survey,
    /// Lets every device write frames into buffers of every heap, and prints how
    /// many frames the CPU reads correctly, with and without brackets.
    Frames,
    /// Lets several processes do random things with buffers of all heaps, while devices,
    /// limits and rules come and go. Compares every result with a model. `--rounds` sets the
    /// number of rounds.
    Stress(stress::Stress),
    /// One of the processes of `stress`. For the use of this program itself.
    #[command(hide = true)]
    StressWorker(stress::Worker),
    /// The changes around the processes of `stress`. For the use of this program itself.
    #[command(hide = true)]
    StressWeather(stress::Weather),
    /// Prints the pages that the module holds. Needs the parameter page_owner=on.
    /// The exit status is 0 if there are none, and 4 if the kernel does not know.
    Pages,
    /// Fragments memory into single pages for as long as it runs. Creates the file DONE when
    /// the memory is fragmented.
    Fragment { done: PathBuf },
    /// Runs one test in this process. For the use of this program itself.
    #[command(hide = true)]
    ExecTest { name: String },
    /// Does something that a test needs another process for.
    #[command(hide = true, subcommand)]
    Helper(process::Helper),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("dmabuf_coherency_selftest: {error:#}");
            ExitCode::from(ktap::FAILED)
        }
    }
}

fn run(cli: &Cli) -> Result<u8> {
    match &cli.command {
        Some(Command::Survey) => survey::run(&cli.options).map(|()| ktap::PASSED),
        Some(Command::Frames) => frames::print_table().map(|()| ktap::PASSED),
        Some(Command::Stress(stress)) => stress.run(&cli.options),
        Some(Command::StressWorker(worker)) => worker.run().map(|()| ktap::PASSED),
        Some(Command::StressWeather(weather)) => weather.run().map(|()| ktap::PASSED),
        Some(Command::Pages) => pages::print(),
        Some(Command::Fragment { done }) => fragments::hold(done),
        Some(Command::ExecTest { name }) => harness::execute(&cli.options, name),
        Some(Command::Helper(helper)) => helper.run().map(|()| ktap::PASSED),
        None if cli.list => {
            for test in tests::all() {
                println!("{:28} {}", test.name, test.about);
            }
            Ok(ktap::PASSED)
        }
        None => harness::run(&cli.options, &cli.filters),
    }
}
