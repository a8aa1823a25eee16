// SPDX-License-Identifier: GPL-2.0

//! Video capture devices as importers: queueing a dma-buf to be filled.

use crate::device::{Device, base_name};
use crate::heap::{Buffer, Heap};
use crate::importer::{Frame, Imported, Importer};
use crate::lost::LOST;
use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use v4l2::{Memory, PixelFormat, Video, fourcc};

const CLASS: &str = "/sys/class/video4linux";

/// A video capture device.
pub struct Camera {
    pub video: Video,
    node: PathBuf,
    device: Device,
    format: PixelFormat,
}

impl Camera {
    /// Opens all video capture devices. Each is set to about its smallest frames, so that
    /// a frame fits into a single block of any heap.
    pub fn all() -> Result<Vec<Self>> {
        Self::find(Video::capture_driver)
    }

    /// Opens all devices that convert frames. The format is that of the converted frames.
    pub fn converters() -> Result<Vec<Self>> {
        Self::find(Video::converter_driver)
    }

    fn find(driver: impl Fn(&Video) -> Result<Option<String>, Errno>) -> Result<Vec<Self>> {
        let mut cameras = Vec::new();
        for node in v4l2::nodes().context("listing /dev")? {
            cameras.extend(Self::open(node, &driver)?);
        }
        Ok(cameras)
    }

    /// Opens the device behind a node, if it is one of those that `driver` names.
    pub fn open(
        node: PathBuf,
        driver: impl Fn(&Video) -> Result<Option<String>, Errno>,
    ) -> Result<Option<Self>> {
        let what = || node.display().to_string();
        let video = Video::open(&node, Memory::DmaBuf).with_context(what)?;
        let Some(driver) = driver(&video).with_context(what)? else {
            return Ok(None);
        };
        let device = Device::behind(&Path::new(CLASS).join(base_name(&node)), driver)?;
        let format = video
            .set_format(320, 180, fourcc(b"GREY"))
            .with_context(what)?;
        Ok(Some(Self {
            video,
            node,
            device,
            format,
        }))
    }

    /// The format of its frames.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// The queue that takes frames, if the device converts them.
    fn input(&self) -> Result<Option<Video>, Errno> {
        match self.video.converter_driver()? {
            Some(_) => self.video.input().map(Some),
            None => Ok(None),
        }
    }

    /// Asks for larger frames. Returns the format that the device has chosen.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<PixelFormat> {
        let what = || format!("setting {width}x{height} on {}", self.node.display());
        self.format = self
            .video
            .set_format(width, height, fourcc(b"YUYV"))
            .with_context(what)?;
        Ok(self.format)
    }
}

impl Importer for Camera {
    fn device(&self) -> &Device {
        &self.device
    }

    fn node(&self) -> &Path {
        &self.node
    }

    fn call(&self) -> &'static str {
        "VIDIOC_QBUF"
    }

    fn buffer_size(&self) -> usize {
        // A power of two, as otherwise a smaller rest would be in another block.
        (self.format.size as usize).next_power_of_two().max(0x10000)
    }

    fn expect_frame(&mut self, frame: Frame) -> Result<()> {
        let what = || self.node.display().to_string();
        let set = |video: &Video| video.set_format(frame.width, frame.height, fourcc(b"RGB4"));
        if let Some(input) = self.input().with_context(what)? {
            set(&input).with_context(what)?;
        }
        self.format = set(&self.video).with_context(what)?;
        Ok(())
    }

    fn import<'a>(&'a self, buffer: &'a Buffer) -> Result<Box<dyn Imported + 'a>, Errno> {
        self.video.request_buffers(1)?;
        let queued = Queued(self, buffer);
        self.video.queue(0, buffer)?;
        Ok(Box::new(queued))
    }

    fn loses(&self, control: &Heap) -> Result<bool> {
        let small = control.alloc(1).context("allocating a page")?;
        self.video.request_buffers(1)?;
        let queued = Queued(self, &small);
        // If pages are large, a frame may fit into one.
        let too_much = self.format.size.max(small.size() as u32 + 1);
        let seen = self.video.queue_as(0, &small, too_much);
        drop(queued);
        let lost = seen.is_err() && small.references()? > 1;
        if lost {
            small.set_name(LOST)?;
        }
        Ok(lost)
    }
}

/// A queued buffer. Dropping this releases it.
struct Queued<'a>(&'a Camera, &'a Buffer);

impl Imported for Queued<'_> {
    /// Captures one frame. A converter makes it from the content of the same buffer.
    fn work(&self, _frame: Frame) -> Result<(), Errno> {
        let video = &self.0.video;
        let input = self.0.input()?;
        if let Some(input) = &input {
            input.request_buffers(1)?;
            input.queue_as(0, self.1, self.0.format.size)?;
            input.start()?;
        }
        video.start()?;
        let done = video.dequeue().map(drop);
        video.stop()?;
        if let Some(input) = &input {
            input.stop()?;
            input.request_buffers(0)?;
        }
        done
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.video.request_buffers(0) {
            println!(
                "releasing the buffers of {}: {error}",
                self.0.node.display()
            );
        }
    }
}
