// SPDX-License-Identifier: GPL-2.0

//! Runs all tests, in guests and on this machine, or the demonstration.

mod attacks;
mod bench;
mod board;
mod boot;
mod cachecheck;
mod client;
mod command;
mod compliance;
mod configs;
mod coverage;
mod deb;
mod demo;
mod documents;
mod group;
mod groups;
mod host;
mod kernel_selftest;
mod kit;
mod ktap;
mod libdmaheap;
mod noise;
mod pictures;
mod pipeline;
mod results;
mod sleep;
mod stock;
mod stress;
mod suite;
mod survey;
mod upstream;
mod vm_tool;

use anyhow::Result;
use clap::{Parser, Subcommand};
use groups::Choice;
use kit::Kits;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the tests. The last line of the output counts them
    Test {
        /// Shows every test, and its output
        #[arg(short, long)]
        verbose: bool,
        /// Lists the groups of tests, and runs none
        #[arg(long)]
        list: bool,
        /// Shows which lines of the module's code no test has reached
        #[arg(long)]
        coverage: bool,
        /// The kernels of the guests: a configuration in tools/vm/kernel, or the
        /// path of a build tree
        #[arg(long, value_name = "NAME", default_value = vm::DEFAULT)]
        kernel: String,
        /// Which groups to run
        #[arg(
            long,
            value_name = "WHICH",
            default_value = "usual",
            conflicts_with = "filters"
        )]
        groups: Choice,
        /// Runs each group whose name contains one of these, instead of --groups
        filters: Vec<String>,
    },
    /// Does random things with buffers for a long time, in a guest of each architecture
    Stress(stress::Stress),
    /// Looks for missing cache maintenance in an arm64 guest, and shows what it finds
    Cachecheck(cachecheck::Options),
    /// Shows which devices may attach to a buffer of system-coherent, and three ways of
    /// frames from a camera to a display
    Demo {
        /// The kernels of the guests: `debian` for Debian's own, or as for `test`
        #[arg(long, value_name = "NAME", default_value = vm::DEFAULT)]
        kernel: String,
    },
}

fn main() -> ExitCode {
    let run = || match Cli::parse().command {
        Command::Test {
            list: true, kernel, ..
        } => {
            groups::list(&kernel);
            Ok(true)
        }
        Command::Test {
            verbose,
            coverage,
            kernel,
            groups,
            filters,
            ..
        } => test(groups, verbose, &Kits::new(&kernel, coverage), &filters),
        Command::Stress(stress) => stress.run(&Kits::new(&stress.kernel, false)),
        Command::Cachecheck(options) => options.run(),
        Command::Demo { kernel } => demo::run(&Kits::new(&kernel, false)),
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("runner: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test(choice: Choice, verbose: bool, kits: &Kits, filters: &[String]) -> Result<bool> {
    let total = groups::run(choice, filters, verbose, kits)?;
    if let Some(coverage) = &kits.coverage {
        print!("{}", coverage.table()?);
    }
    println!("{total}");
    Ok(total.failed == 0)
}
