// SPDX-License-Identifier: GPL-2.0

//! Devices that can import a dma-buf, and what is observed when they do.

use crate::bufinfo;
use crate::device::Device;
use crate::displays;
use crate::heap::{Buffer, Heap};
use crate::lost::LOST;
use crate::memory::wait_until;
use crate::options::CONTROL;
use crate::trace::{ATTACH, DETACH, Event, MAP, Recording, UNMAP, VERDICT};
use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::path::Path;
use std::time::Duration;

/// A device that imports dma-bufs.
pub trait Importer {
    fn device(&self) -> &Device;

    /// The name of the device that it attaches. A test display may have another device for its DMA.
    fn attaches(&self) -> String {
        let device = self.device();
        displays::dma_device(device.path()).unwrap_or_else(|| device.name())
    }

    /// The node under /dev.
    fn node(&self) -> &Path;

    /// The name of the call that imports.
    fn call(&self) -> &'static str;

    /// The size of a buffer that the device can use.
    fn buffer_size(&self) -> usize {
        0x10000
    }

    /// Sets frames of about that size, if the device needs that beforehand.
    fn expect_frame(&mut self, _frame: Frame) -> Result<()> {
        Ok(())
    }

    /// Imports `buffer` until the result is dropped.
    fn import<'a>(&'a self, buffer: &'a Buffer) -> Result<Box<dyn Imported + 'a>, Errno>;

    /// Whether the kernel loses a buffer that this device cannot be attached
    /// to, as tried with a buffer of `control`. See [`LOST`].
    fn loses(&self, _control: &Heap) -> Result<bool> {
        Ok(false)
    }

    fn describe(&self) -> String {
        let device = self.device();
        let node = self.node().display();
        format!(
            "{} ({} {}, {node})",
            device.driver,
            device.bus,
            device.name()
        )
    }
}

/// A buffer that an importer holds. Dropping this releases it.
pub trait Imported {
    /// Makes the device work on a frame, as far as it can without a screen.
    fn work(&self, _frame: Frame) -> Result<(), Errno> {
        Ok(())
    }
}

/// A picture with four bytes for each pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub width: u32,
    pub height: u32,
}

impl Frame {
    /// Frames from the largest that the design is for to one of 64 KiB.
    pub const ALL: [Self; 3] = [
        Self::new(3840, 2160),
        Self::new(1920, 1080),
        Self::new(128, 128),
    ];

    const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    pub fn pitch(self) -> u32 {
        4 * self.width
    }

    /// Its size in bytes.
    pub fn size(self) -> usize {
        self.pitch() as usize * self.height as usize
    }
}

/// What was observed when a device imported a buffer and released it.
#[derive(Debug)]
pub struct Observation {
    /// How the call ended.
    pub result: Result<(), Errno>,
    /// Devices that were attached, once for each time, even for a short while.
    pub attached: Vec<String>,
    /// Devices that were attached while the importer held the buffer.
    pub held: Vec<String>,
    /// How often a device was detached.
    pub detached: usize,
    /// The mappings for DMA.
    pub mapped: Vec<Mapped>,
    /// The attributes with which it was unmapped.
    pub unmapped: Vec<String>,
    /// The heap's answer in its own trace event.
    pub verdict: Option<Verdict>,
    /// Whether the kernel has lost the buffer: see [`LOST`].
    pub lost: bool,
}

/// A heap's answer to a device.
#[derive(Debug)]
pub struct Verdict {
    pub heap: String,
    /// Whether the device snoops.
    pub snoops: bool,
    /// 0, or a negative errno if the heap refused.
    pub error: i32,
}

impl Verdict {
    fn new(event: &Event) -> Self {
        Self {
            heap: event.field("heap").to_owned(),
            snoops: event.field("snoops") == "1",
            error: event.field("error").parse().unwrap_or(i32::MIN),
        }
    }
}

/// A buffer, mapped for DMA.
#[derive(Debug)]
pub struct Mapped {
    /// How many segments the mapping has.
    pub segments: usize,
    pub attributes: String,
}

impl Mapped {
    fn new(event: &Event) -> Self {
        // How many segments the event shows, and how many there are: "128/200".
        let segments = event.field("nents").rsplit('/').next();
        Self {
            segments: segments
                .and_then(|count| count.parse().ok())
                .unwrap_or_default(),
            attributes: event.field("attrs").to_owned(),
        }
    }
}

/// Lets `importer` import a new buffer of `heap`, and watches.
pub fn observe(importer: &dyn Importer, heap: &Heap) -> Result<Observation> {
    observe_size(importer, heap, importer.buffer_size())
}

/// The same with a buffer of `len` bytes.
pub fn observe_size(importer: &dyn Importer, heap: &Heap, len: usize) -> Result<Observation> {
    observe_work(importer, heap, len, |_| Ok(()))
}

/// The same with a buffer for a frame, which the device works on.
pub fn observe_frame(importer: &dyn Importer, heap: &Heap, frame: Frame) -> Result<Observation> {
    let len = frame.size().max(importer.buffer_size());
    observe_work(importer, heap, len, |imported| imported.work(frame))
}

fn observe_work(
    importer: &dyn Importer,
    heap: &Heap,
    len: usize,
    work: impl FnOnce(&dyn Imported) -> Result<(), Errno>,
) -> Result<Observation> {
    let recording = Recording::start(&[ATTACH, DETACH, MAP, UNMAP, VERDICT])?;
    let buffer = heap
        .alloc(len)
        .with_context(|| format!("allocating {len} bytes"))?;
    let mut held = Vec::new();
    let result = match importer.import(&buffer) {
        Ok(imported) => {
            held = bufinfo::attached(buffer.inode())?;
            work(&*imported)
        }
        Err(errno) => Err(errno),
    };
    wait_until(Duration::from_secs(20), || {
        Ok(bufinfo::attached(buffer.inode())?.is_empty())
    })?;
    let lost =
        result.is_err() && buffer.references()? > 1 && importer.loses(&Heap::open(CONTROL)?)?;
    if lost {
        buffer.set_name(LOST)?;
    }
    let events = recording.events()?;
    let buffers = |name| {
        let events = events.iter().filter(move |event: &&Event| event.is(name));
        events.filter(|event| event.concerns(buffer.inode()))
    };
    let device = importer.attaches();
    let tables = |name| {
        let events = events.iter().filter(move |event: &&Event| event.is(name));
        events.filter(|event| event.subject == device)
    };
    let verdict = events
        .iter()
        .find(|event| event.is(VERDICT) && event.field("device") == device);
    Ok(Observation {
        result,
        held,
        attached: buffers(ATTACH)
            .map(|event| event.field("dev_name").to_owned())
            .collect(),
        detached: buffers(DETACH).count(),
        mapped: tables(MAP).map(Mapped::new).collect(),
        unmapped: tables(UNMAP)
            .map(|event| event.field("attrs").to_owned())
            .collect(),
        verdict: verdict.map(Verdict::new),
        lost,
    })
}
