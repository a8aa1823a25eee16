// SPDX-License-Identifier: GPL-2.0

//! From the camera to the display, in one way or another.

use crate::Cli;
use crate::display::{Display, Surface};
use crate::eye::{Eye, Monitor};
use crate::picture::Picture;
use crate::slot::Slot;
use crate::source::Source;
use anyhow::{Context as _, Result};
use dmaheap::{Heap, System};
use drm::control::dumbbuffer::DumbMapping;
use rustix::io::Errno;
use serde::Serialize;
use std::time::Instant;

/// The heap of those who do not ask.
const NAIVE: &str = "system-coherent";
/// One buffer is on the screen while the other is written to.
const DOUBLE: usize = 2;

/// How frames get to the display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// In buffers of a strict heap, whatever the devices are.
    Naive,
    /// In buffers of a heap that suits all of them.
    Picked,
    /// By a copy into buffers of the display.
    Copy,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Picked => "picked",
            Self::Copy => "copy",
        }
    }
}

/// What came of it.
#[derive(Serialize)]
pub struct Report {
    display: String,
    /// How many devices have to do with each frame.
    devices: usize,
    way: Way,
    /// The heap that the camera's buffers are from.
    heap: String,
    /// The device that was refused, and how.
    pub refused: Option<Refusal>,
    /// How many frames the display has read; each byte was right.
    frames: u32,
    /// How often each of them was copied by us.
    copies: u32,
    /// Frames a second, as the clock says.
    rate: Option<f64>,
}

/// A device that was refused.
#[derive(Serialize)]
pub struct Refusal {
    by: String,
    errno: String,
}

impl Report {
    /// Prints it as a line of JSON.
    pub fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("plain values"));
    }
}

/// Goes a way, with devices opened anew.
pub fn go(cli: &Cli, way: Way) -> Result<Report> {
    let display = Display::open(&cli.display, cli.size)?;
    let mut source = Source::open(cli.size, cli.convert)?;
    let heap = heap(way, &source, &display)?;
    source.alloc(&heap)?;
    let mut report = Report {
        display: cli.display.clone(),
        devices: source.nodes().len() + 1,
        way,
        heap: heap.name,
        refused: None,
        frames: 0,
        copies: 0,
        rate: None,
    };

    let mut seen;
    let mut eye = if let (Some(port), Some(directory)) = (&cli.monitor, &cli.screendumps) {
        Eye::screendump(Monitor::open(port)?, directory)
    } else if let Some(file) = display.scan_out()? {
        Eye::scan_out(file, cli.size)
    } else {
        let surface;
        (seen, surface) = display.own(Picture::XRGB)?;
        Eye::write_back(&display, surface, display.map(&mut seen)?)?
    };
    let mut own = Vec::new();
    let target = if way == Way::Copy {
        for _ in 0..DOUBLE {
            own.push(display.own(source.picture())?);
        }
        report.copies = 1;
        let mapped = own.iter_mut().map(|(buffer, surface)| {
            let mapping = display.map(buffer)?;
            Ok((mapping, *surface))
        });
        Target::Copies(mapped.collect::<Result<_>>()?)
    } else {
        let picture = source.picture();
        let import = |slot: &Slot| display.import(slot, picture);
        match source.outputs().iter().map(import).collect() {
            Ok(surfaces) => Target::InPlace(surfaces),
            Err(errno) => {
                report.refused = Some(Refusal {
                    by: cli.display.clone(),
                    errno: name(errno),
                });
                return Ok(report);
            }
        }
    };

    let mut stream = Stream {
        cli,
        way,
        display: &display,
        source,
        target,
    };
    let start = Instant::now();
    stream.run(&mut eye)?;
    report.rate = Some(f64::from(cli.frames) / start.elapsed().as_secs_f64());
    report.frames = cli.frames;
    Ok(report)
}

/// The heap that the camera's frames go to.
fn heap(way: Way, source: &Source, display: &Display) -> Result<Heap> {
    let system = System::new();
    if way == Way::Naive {
        return Ok(system.heap(NAIVE)?);
    }
    let mut nodes = source.nodes();
    if way == Way::Picked {
        nodes.push(display.node());
    }
    let devices: Result<Vec<_>, _> = nodes.iter().map(|node| system.device(node)).collect();
    Ok(system.choose(&devices?)?.best()?.clone())
}

/// What errnos are called that an import may end with.
fn name(errno: Errno) -> String {
    match errno {
        Errno::OPNOTSUPP => "EOPNOTSUPP".into(),
        Errno::NODEV => "ENODEV".into(),
        Errno::INVAL => "EINVAL".into(),
        errno => format!("{errno:?}"),
    }
}

/// What the display shows.
enum Target<'a> {
    /// The buffers that the source fills.
    InPlace(Vec<Surface>),
    /// Buffers of its own, by turns.
    Copies(Vec<(DumbMapping<'a>, Surface)>),
}

struct Stream<'a> {
    cli: &'a Cli,
    way: Way,
    display: &'a Display,
    source: Source,
    target: Target<'a>,
}

impl Stream<'_> {
    fn run(&mut self, eye: &mut Eye<'_>) -> Result<()> {
        let size = self.cli.size;
        let mut on_screen = None;
        self.source.start()?;
        for count in 0..self.cli.frames {
            let index = self.source.next()?;
            let surface = self.surface(index, count)?;
            eye.show(self.display, surface)?;
            let name = format!("{}-{count:04}", self.way.name());
            eye.look(self.display, size, &name)
                .with_context(|| format!("picture {count}"))?;
            let kept = [0, self.cli.frames / 2, self.cli.frames - 1].contains(&count);
            if let Some(directory) = self.cli.keep.as_ref().filter(|_| kept) {
                eye.keep(size, &directory.join(name + ".png"))?;
            }
            // What is on the screen is not to be filled again.
            let idle = match self.target {
                Target::InPlace(_) => on_screen.replace(index),
                Target::Copies(_) => Some(index),
            };
            if let Some(idle) = idle {
                self.source.give_back(idle)?;
            }
        }
        Ok(())
    }

    /// What to show of an output that has just been filled.
    fn surface(&mut self, index: usize, count: u32) -> Result<Surface> {
        let slot = &mut self.source.outputs()[index];
        slot.end_write()?;
        match &mut self.target {
            Target::InPlace(surfaces) => Ok(surfaces[index]),
            Target::Copies(own) => {
                let turn = count as usize % own.len();
                let (mapping, surface) = &mut own[turn];
                slot.copy_to(mapping.as_mut())?;
                Ok(*surface)
            }
        }
    }
}
