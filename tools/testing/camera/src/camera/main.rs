// SPDX-License-Identifier: GPL-2.0

//! The command line: see `dmabuf_coherency_camera --help`.

mod plug;
mod raw_gadget;
mod stream;
mod uvc;
mod worker;

use anyhow::{Context as _, Result, bail};
use camera::{Pixels, Size};
use clap::Parser;
use plug::Plug;
use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// How long the last frame of `--frames` stays: a driver whose camera is gone
/// gives up what its program has not read yet.
const LINGER: Duration = Duration::from_secs(1);

/// How many sizes a camera offers at most.
const SIZES: usize = 64;

/// A USB camera without hardware.
///
/// Plugs a camera into an emulated USB socket of this machine, where the kernel's
/// own driver uvcvideo finds it, and shows numbered frames until it gets SIGTERM
/// or SIGINT. Needs the modules dummy_hcd, raw_gadget and uvcvideo, and root.
#[derive(Parser)]
#[command(max_term_width = 90)]
struct Cli {
    /// A size that the camera offers, as WIDTHxHEIGHT; may be repeated, the
    /// first one is the default
    #[arg(long = "size", value_name = "SIZE", default_values = ["320x240", "640x480"])]
    sizes: Vec<Size>,
    /// What frames are made of
    #[arg(long, value_name = "PIXELS", default_value = "yuyv")]
    pixels: Pixels,
    /// Frames a second, if the host is that fast
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Unplug after so many frames (one second later, so that all can be read)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    frames: Option<u32>,
    /// Unplug after so long, whatever is going on; fractions are allowed
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    unplug_after: Option<Duration>,
    /// Plug in so often, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    plugs: u32,
    /// How long to wait between two plugs
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pause: Duration,
    /// The USB device controller to plug into
    #[arg(long, value_name = "NAME", default_value = "dummy_udc.0")]
    udc: String,
    /// The name of its driver
    #[arg(long, value_name = "NAME", default_value = "dummy_udc")]
    udc_driver: String,
    /// Say what the host asks
    #[arg(short, long)]
    verbose: bool,
}

/// What happens elsewhere.
enum Notice {
    /// A signal has asked us to end.
    End,
    /// All frames of `--frames` are sent.
    Sent,
    Failed(anyhow::Error),
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Prints a line at once. Nobody reading is no reason to stop.
fn say(line: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "camera: {line}").and_then(|()| stdout.flush());
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("camera: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if cli.plugs > 1 && cli.frames.is_none() && cli.unplug_after.is_none() {
        bail!("--plugs needs --frames or --unplug-after: otherwise the first plug lasts for ever");
    }
    if cli.sizes.len() > SIZES {
        bail!("a camera offers no more than {SIZES} sizes");
    }
    worker::set_up_signals().context("cannot set up signals")?;
    let (sender, notices) = mpsc::channel();
    let signals = sender.clone();
    thread::spawn(move || {
        worker::wait_for_end();
        let _ = signals.send(Notice::End);
    });
    for plug in 1..=cli.plugs {
        if plug > 1 && wait(&notices, Some(cli.pause))?.is_some() {
            break;
        }
        let camera = Plug::insert(cli, sender.clone())?;
        say(format_args!("plugged into {}", cli.udc));
        let result = stay(cli, &notices);
        let sent = camera.remove();
        say(format_args!("unplugged after {sent} frames"));
        if matches!(result?, Some(Notice::End)) {
            break;
        }
        // What was sent about this plug while it was pulled.
        while let Ok(notice) = notices.try_recv() {
            if matches!(notice, Notice::End) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Leaves a camera plugged in as long as it is to be.
fn stay(cli: &Cli, notices: &Receiver<Notice>) -> Result<Option<Notice>> {
    let notice = wait(notices, cli.unplug_after)?;
    if matches!(notice, Some(Notice::Sent)) {
        return wait(notices, Some(LINGER));
    }
    Ok(notice)
}

/// Waits for a notice, at most for some time.
fn wait(notices: &Receiver<Notice>, time: Option<Duration>) -> Result<Option<Notice>> {
    let end = time.and_then(|time| Instant::now().checked_add(time));
    let notice = match end {
        Some(end) => notices.recv_timeout(end.saturating_duration_since(Instant::now())),
        None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
    };
    match notice {
        Ok(Notice::Failed(error)) => Err(error),
        Ok(notice) => Ok(Some(notice)),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_are_checked() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for text in ["", "x", "-1", "NaN", "inf", "1e99"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
