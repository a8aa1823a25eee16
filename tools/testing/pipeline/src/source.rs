// SPDX-License-Identifier: GPL-2.0

//! Where frames come from: a camera, or a camera and a converter behind it.

use crate::picture::Picture;
use crate::slot::Slot;
use anyhow::{Context as _, Result, bail, ensure};
use camera::{Pixels, Size};
use dmaheap::Heap;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use v4l2::{Memory, Video};

/// How many buffers each device has.
const BUFFERS: u32 = 4;
/// How long a camera may take to appear once it is plugged in.
const PLUG: Duration = Duration::from_secs(10);

/// A queue of a device, with its node for messages.
struct Queue {
    video: Video,
    node: PathBuf,
}

impl Queue {
    /// Makes the queue ready for frames, and returns how many buffers to hand it.
    fn prepare(&self, picture: Picture, size: Size) -> Result<u32> {
        let fourcc = picture.v4l2();
        let format = self
            .video
            .set_format(size.width(), size.height(), fourcc)
            .with_context(|| format!("setting the format of {}", self.node.display()))?;
        let got = (
            format.fourcc,
            format.width,
            format.height,
            format.size as usize,
        );
        let wanted = (fourcc, size.width(), size.height(), picture.bytes(size));
        ensure!(
            got == wanted,
            "{} has no {size} in {picture:?}: {format:?}",
            self.node.display()
        );
        Ok(self.video.request_buffers(BUFFERS)?)
    }

    /// Hands the device a buffer to fill.
    fn fill(&self, index: usize, slots: &[Slot]) -> Result<()> {
        slots[index].begin_write()?;
        self.video
            .queue(index as u32, &slots[index])
            .with_context(|| format!("VIDIOC_QBUF of {}", self.node.display()))
    }

    fn next(&self) -> Result<usize> {
        let frame = self.video.dequeue();
        let frame = frame.with_context(|| format!("waiting for {}", self.node.display()))?;
        Ok(frame.index as usize)
    }
}

/// A device that makes other frames from frames.
struct Converter {
    input: Video,
    output: Queue,
    picture: Picture,
    slots: Vec<Slot>,
    idle: Vec<usize>,
}

/// A camera, and perhaps a converter behind it.
pub struct Source {
    camera: Queue,
    picture: Picture,
    size: Size,
    slots: Vec<Slot>,
    converter: Option<Converter>,
}

impl Source {
    /// Opens the first camera of uvcvideo, and vim2m if there is to be a converter.
    pub fn open(size: Size, convert: bool) -> Result<Self> {
        let picture = Picture::Camera(if convert {
            Pixels::Bgr24
        } else {
            Pixels::Xbgr32
        });
        let camera = wait_for("uvcvideo", Video::capture_driver)
            .context("there is no camera: is uvcvideo loaded, and a camera plugged in?")?;
        camera::settle(&camera.node).context("the camera is gone again")?;
        let converter = if convert {
            let output = wait_for("vim2m", Video::converter_driver)
                .context("there is no converter: modprobe vim2m")?;
            Some(Converter {
                input: output.video.input()?,
                output,
                picture: Picture::Rgb24,
                slots: Vec::new(),
                idle: Vec::new(),
            })
        } else {
            None
        };
        Ok(Self {
            camera,
            picture,
            size,
            slots: Vec::new(),
            converter,
        })
    }

    /// The nodes of its devices.
    pub fn nodes(&self) -> Vec<&Path> {
        let converter = self.converter.iter().map(|converter| &converter.output);
        [&self.camera]
            .into_iter()
            .chain(converter)
            .map(|queue| queue.node.as_path())
            .collect()
    }

    /// What the frames are made of that come out of it.
    pub fn picture(&self) -> Picture {
        match &self.converter {
            Some(converter) => converter.picture,
            None => self.picture,
        }
    }

    /// The buffers in which frames come out of it.
    pub fn outputs(&mut self) -> &mut Vec<Slot> {
        match &mut self.converter {
            Some(converter) => &mut converter.slots,
            None => &mut self.slots,
        }
    }

    /// Allocates all buffers from a heap.
    pub fn alloc(&mut self, heap: &Heap) -> Result<()> {
        let (size, picture) = (self.size, self.picture);
        let count = self.camera.prepare(picture, size)?;
        self.slots = Slot::alloc(heap, count, picture.bytes(size))?;
        if let Some(converter) = &mut self.converter {
            let taken = converter
                .input
                .set_format(size.width(), size.height(), picture.v4l2())?;
            ensure!(
                taken.fourcc == picture.v4l2(),
                "the converter takes no {picture:?}"
            );
            converter.input.request_buffers(count)?;
            let count = converter.output.prepare(converter.picture, size)?;
            converter.slots = Slot::alloc(heap, count, converter.picture.bytes(size))?;
            converter.idle = (0..converter.slots.len()).collect();
        }
        Ok(())
    }

    /// Lets frames come.
    pub fn start(&mut self) -> Result<()> {
        for index in 0..self.slots.len() {
            self.camera.fill(index, &self.slots)?;
        }
        if let Some(converter) = &self.converter {
            converter.input.start()?;
            converter.output.video.start()?;
        }
        Ok(self.camera.video.start()?)
    }

    /// Waits for a frame, and returns the output that it is in. Its bracket is
    /// still open.
    pub fn next(&mut self) -> Result<usize> {
        let index = self.camera.next()?;
        let Some(converter) = &mut self.converter else {
            return Ok(index);
        };
        self.slots[index].end_write()?;
        let idle = converter.idle.pop().context("no buffer is idle")?;
        converter.output.fill(idle, &converter.slots)?;
        let length = self.picture.bytes(self.size) as u32;
        converter
            .input
            .queue_as(index as u32, &self.slots[index], length)
            .context("VIDIOC_QBUF of the converter's input")?;
        let done = converter.output.next()?;
        converter
            .input
            .dequeue()
            .context("waiting for the converter's input")?;
        self.camera.fill(index, &self.slots)?;
        Ok(done)
    }

    /// Takes an output back, to be filled again.
    pub fn give_back(&mut self, index: usize) -> Result<()> {
        match &mut self.converter {
            Some(converter) => {
                converter.idle.push(index);
                Ok(())
            }
            None => self.camera.fill(index, &self.slots),
        }
    }
}

/// Opens the first node of a driver, once it is there.
fn wait_for(driver: &str, ask: impl Fn(&Video) -> Result<Option<String>, Errno>) -> Result<Queue> {
    let end = Instant::now() + PLUG;
    loop {
        for node in v4l2::nodes()? {
            match Video::open(&node, Memory::DmaBuf).and_then(|video| Ok((ask(&video)?, video))) {
                Ok((Some(name), video)) if name == driver => return Ok(Queue { video, node }),
                Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTTY) => (),
                Err(errno) => return Err(errno).with_context(|| node.display().to_string()),
            }
        }
        if Instant::now() >= end {
            bail!("{driver} has no node");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
