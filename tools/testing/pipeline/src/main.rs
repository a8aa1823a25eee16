// SPDX-License-Identifier: GPL-2.0

//! The command line: see `pipeline --help`.

mod display;
mod eye;
mod picture;
mod slot;
mod source;
mod way;

use anyhow::{Context as _, Result};
use camera::Size;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show a camera's frames on a display, and compare every byte that the display
/// reads with what the camera has sent.
///
/// Does so in three ways. The naive one allocates from a strict heap, whatever the
/// devices. If one of them is refused, the program falls back: the display gets
/// buffers of its own, and the CPU copies. The second way asks which heap suits
/// all devices. The third is the copy again, for comparison.
///
/// Prints what came of each as a line of JSON. Fails if a frame was wrong.
#[derive(Parser)]
#[command(max_term_width = 90)]
struct Cli {
    /// The display, by the name of its driver
    #[arg(long, value_name = "DRIVER")]
    display: String,
    /// Let vim2m convert each frame on its way
    #[arg(long)]
    convert: bool,
    /// How many frames to show in each way
    #[arg(long, value_name = "N", default_value_t = 300)]
    frames: u32,
    /// The size of a frame, one that the camera offers
    #[arg(long, value_name = "SIZE", default_value = "320x240")]
    size: Size,
    /// Where to keep pictures of some frames
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
    /// A port that leads to QEMU's monitor, for displays that do not write back
    /// what they read
    #[arg(long, value_name = "PORT", requires = "screendumps")]
    monitor: Option<PathBuf>,
    /// Where QEMU is to write what is on the screen, on the host
    #[arg(long, value_name = "DIRECTORY")]
    screendumps: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pipeline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    use way::{Way, go};
    let naive = go(cli, Way::Naive).context("the naive way")?;
    naive.print();
    let mut fallback = None;
    if naive.refused.is_some() {
        fallback = Some(go(cli, Way::Copy).context("the fallback")?);
    }
    go(cli, Way::Picked).context("the picked heap")?.print();
    match fallback {
        Some(fallback) => fallback.print(),
        None => go(cli, Way::Copy).context("the copy")?.print(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
