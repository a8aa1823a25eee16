// SPDX-License-Identifier: GPL-2.0

//! The command line: see `capture --help`.

mod buffer;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use buffer::Buffer;
use camera::{Layout, Pixels, Size};
use clap::Parser;
use rustix::io::Errno;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};
use v4l2::{Memory, PixelFormat, Video, fourcc};

/// What the camera shows.
const YUYV: u32 = fourcc(b"YUYV");
/// How long a driver may take to notice that its device is gone.
const GRACE: Duration = Duration::from_secs(5);

/// Capture frames of the camera without hardware, and check every byte.
///
/// Says how many were right, and fails if one was wrong.
#[derive(Parser)]
#[command(max_term_width = 90)]
struct Cli {
    /// The video node; without it, the first that uvcvideo captures by
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
    /// How many seconds to wait for the device to appear
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
    /// The size of a frame, one that the camera offers
    #[arg(long, value_name = "SIZE", default_value = "320x240")]
    size: Size,
    /// How many frames to capture
    #[arg(long, value_name = "N", default_value_t = 300)]
    frames: u32,
    /// How often to do so; the stream is stopped in between
    #[arg(long, value_name = "N", default_value_t = 1)]
    times: u32,
    /// Capture until the camera is unplugged; that is no failure then
    #[arg(long)]
    until_unplugged: bool,
    /// How many buffers to use
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    buffers: u32,
    /// Capture into dma-bufs of this heap, for example /dev/dma_heap/system;
    /// without it, into the driver's own buffers
    #[arg(long, value_name = "PATH")]
    heap: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let (node, video) = find(cli)?;
    match capture(cli, &node, &video) {
        Err(Fault::Device(_)) if cli.until_unplugged && goes_away(&video) => {
            println!("capture: unplugged");
            Ok(())
        }
        Err(Fault::Device(error) | Fault::Picture(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// Why there are no more frames.
enum Fault {
    /// The device has failed, or is gone.
    Device(Error),
    /// A frame is not what the camera has sent.
    Picture(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}

/// Whether a device that has failed is about to go away: a driver notices that
/// transfers fail before it hears that nothing is plugged in.
fn goes_away(video: &Video) -> bool {
    let end = Instant::now() + GRACE;
    while video.capture_driver() != Err(Errno::NODEV) {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

fn capture(cli: &Cli, node: &Path, video: &Video) -> Result<(), Fault> {
    camera::settle(node).context("the device is gone again")?;
    let format = video
        .set_format(cli.size.width(), cli.size.height(), YUYV)
        .context("cannot set the format")?;
    let layout = Layout::new(cli.size, Pixels::Yuyv);
    if !is_that_of_frames(&format, layout) {
        return Err(anyhow!("{} has no {} in YUYV", node.display(), cli.size).into());
    }
    let count = video
        .request_buffers(cli.buffers)
        .context("cannot request buffers")?;
    let buffers = (0..count)
        .map(|index| match &cli.heap {
            Some(heap) => Buffer::of_heap(heap, layout.bytes()),
            None => Buffer::of_driver(video, index),
        })
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..cli.times {
        let mut capture = Capture {
            video,
            buffers: &buffers,
            layout,
            tally: Tally::default(),
        };
        let result = capture.run((!cli.until_unplugged).then_some(cli.frames));
        capture.tally.print(cli.size);
        result?;
    }
    Ok(())
}

fn is_that_of_frames(format: &PixelFormat, layout: Layout) -> bool {
    format.fourcc == YUYV
        && (format.width, format.height) == (layout.size.width(), layout.size.height())
        && format.bytes_per_line as usize == layout.row()
        && format.size as usize == layout.bytes()
}

/// Opens the device, once it is there.
fn find(cli: &Cli) -> Result<(PathBuf, Video)> {
    let end = Instant::now() + Duration::from_secs(cli.wait);
    loop {
        for node in candidates(cli)? {
            match open(cli, &node) {
                Ok((driver, video)) if cli.device.is_some() || driver == "uvcvideo" => {
                    return Ok((node, video));
                }
                Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTTY) => (),
                Err(errno) => {
                    return Err(errno).with_context(|| format!("cannot open {}", node.display()));
                }
            }
        }
        if Instant::now() >= end {
            match &cli.device {
                Some(node) => bail!("{} is no capture device", node.display()),
                None => bail!("there is no camera: is uvcvideo loaded, and a camera plugged in?"),
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn candidates(cli: &Cli) -> Result<Vec<PathBuf>> {
    if let Some(node) = &cli.device {
        return Ok(vec![node.clone()]);
    }
    v4l2::nodes().context("cannot list /dev")
}

/// Opens a node to capture by, and says whose it is.
fn open(cli: &Cli, node: &Path) -> Result<(String, Video), Errno> {
    let memory = match cli.heap {
        Some(_) => Memory::DmaBuf,
        None => Memory::Mmap,
    };
    let video = Video::open(node, memory)?;
    let driver = video.capture_driver()?.ok_or(Errno::NOTTY)?;
    Ok((driver, video))
}

/// What has arrived.
#[derive(Default)]
struct Tally {
    right: u32,
    /// Those that came after a later one: uvcvideo copies in several workers,
    /// and does not wait for the slowest.
    late: u32,
    /// Frames that the camera has sent and we have not seen.
    skipped: BTreeSet<u32>,
    first: Option<(u32, Instant)>,
    last: Option<(u32, Instant)>,
}

impl Tally {
    fn add(&mut self, number: u32) -> Result<()> {
        let now = Instant::now();
        match self.last {
            Some((last, _)) if number <= last => {
                let is_late = self.skipped.remove(&number);
                ensure!(is_late, "frame {number} has come again, after frame {last}");
                self.late += 1;
            }
            Some((last, _)) => {
                self.skipped.extend(last + 1..number);
                self.last = Some((number, now));
            }
            None => {
                self.first = Some((number, now));
                self.last = self.first;
            }
        }
        self.right += 1;
        Ok(())
    }

    fn print(&self, size: Size) {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return println!("capture: no frames");
        };
        let time = (last.1 - first.1).as_secs_f64();
        let rate = if time > 0.0 {
            f64::from(self.right - 1) / time
        } else {
            0.0
        };
        println!(
            "capture: {} frames of {size} with every byte right, numbers {} to {}, {} skipped, \
             {} late, {rate:.1} frames/s",
            self.right,
            first.0,
            last.0,
            self.skipped.len(),
            self.late
        );
    }
}

struct Capture<'a> {
    video: &'a Video,
    buffers: &'a [Buffer],
    layout: Layout,
    tally: Tally,
}

impl Capture<'_> {
    /// Starts the stream, captures so many frames, or without end, and stops it.
    fn run(&mut self, frames: Option<u32>) -> Result<(), Fault> {
        for index in 0..self.buffers.len() as u32 {
            self.queue(index)?;
        }
        self.video.start().context("cannot start the stream")?;
        let result = self.frames(frames);
        let stop = self.video.stop().context("cannot stop the stream");
        result.and(stop.map_err(Fault::from))
    }

    fn frames(&mut self, frames: Option<u32>) -> Result<(), Fault> {
        while frames.is_none_or(|frames| self.tally.right < frames) {
            let frame = match self.video.dequeue() {
                Err(Errno::TIMEDOUT) => return Err(anyhow!("no frame for seconds").into()),
                Err(Errno::IO) => return Err(anyhow!("the driver says that a frame is bad").into()),
                result => result.context("cannot get a frame")?,
            };
            let buffer = &self.buffers[frame.index as usize];
            let number = buffer
                .read(frame.bytes_used, |bytes| camera::check(bytes, self.layout))
                .context("cannot read a buffer")?
                .map_err(|wrong| Fault::Picture(wrong.into()))?;
            self.tally.add(number).map_err(Fault::Picture)?;
            self.queue(frame.index)?;
        }
        Ok(())
    }

    fn queue(&self, index: u32) -> Result<()> {
        let queued = match self.buffers[index as usize].dma_buf() {
            Some(dma_buf) => self.video.queue(index, dma_buf),
            None => self.video.queue_own(index),
        };
        queued.with_context(|| format!("cannot queue buffer {index}"))
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
    fn skipped_frames_are_counted() {
        let mut tally = Tally::default();
        for number in [5, 6, 9, 7] {
            tally.add(number).unwrap();
        }
        assert_eq!((tally.right, tally.late), (4, 1));
        assert_eq!(tally.skipped, [8].into());
        for again in [9, 7, 5, 4] {
            assert!(tally.add(again).is_err());
        }
    }
}
