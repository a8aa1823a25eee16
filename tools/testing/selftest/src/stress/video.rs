// SPDX-License-Identifier: GPL-2.0

//! Actions of video devices on buffers: they hold queued buffers, capture a frame into one, or convert
//! the content of another. They may be removed in the middle.

use super::action::{Action, Kind};
use super::devices::{errno_of, there};
use super::state::{Live, State};
use super::tally::Outcome;
use crate::camera::Camera;
use crate::heap::{READ, WRITE};
use crate::importer::Importer as _;
use crate::mapping::page_size;
use crate::options::{is_contiguous, is_ours};
use crate::reach::{Answer, Reach, answer, device_reach, memory_is_beyond};
use anyhow::{Context as _, Result, ensure};
use rustix::io::Errno;
use v4l2::{PixelFormat, Video, fourcc};

/// For how many devices a worker may have queued buffers.
const MAX_STREAMS: usize = 3;

/// How wide frames can be that are converted, of 2 bytes per pixel, and how high at most.
const WIDTHS: [u32; 4] = [64, 128, 256, 512];
const HIGHEST: u32 = 480;

/// Buffers that are queued for a device that has not started yet.
pub struct Stream {
    /// The buffer that it will write.
    target: Queue,
    /// The buffer that it will read, if it converts.
    source: Option<Queue>,
    format: PixelFormat,
}

/// One queue of a device, and the slot of the buffer in it.
struct Queue {
    video: Video,
    slot: usize,
}

impl Queue {
    /// Queues a buffer that has room for a frame.
    fn new(video: Video, state: &State, slot: usize, size: u32, pick: usize) -> Result<Self> {
        let live = state.lives[slot].as_ref().context("it was found")?;
        video.request_buffers(1)?;
        let call = || format!("VIDIOC_QBUF of a buffer of {}", state.heaps[live.heap].0);
        video
            .queue_as(0, live.descriptor(pick), size)
            .with_context(call)?;
        Ok(Self { video, slot })
    }
}

impl Stream {
    fn queues(&self) -> impl Iterator<Item = &Queue> {
        [&self.target].into_iter().chain(&self.source)
    }

    /// Lets the device work on one frame.
    fn run(&self) -> Result<(), Errno> {
        for queue in self.queues() {
            queue.video.start()?;
        }
        for queue in self.queues() {
            queue.video.dequeue()?;
        }
        self.queues().try_for_each(|queue| queue.video.stop())
    }

    fn let_go(&self) -> Result<(), Errno> {
        let mut queues = self.queues();
        queues.try_for_each(|queue| queue.video.request_buffers(0).map(drop))
    }

    fn pages(&self) -> usize {
        pages(&self.format)
    }

    /// Fails unless all rows of a frame were written, and nothing after it.
    fn expect_captured(&self, before: &[u8], seen: &[u8]) -> Result<()> {
        let (frame, behind) = seen.split_at(self.format.size as usize);
        let row = self.format.bytes_per_line as usize;
        let mut rows = frame.chunks(row).zip(before.chunks(row));
        ensure!(
            rows.all(|(seen, before)| seen != &before[..seen.len()]),
            "a row of a frame was not written"
        );
        ensure!(
            behind == &before[frame.len()..],
            "something was written after a frame"
        );
        Ok(())
    }
}

/// How many pages of a buffer a frame takes.
fn pages(format: &PixelFormat) -> usize {
    (format.size as usize).div_ceil(page_size())
}

/// Opens the first device that can do this. Fails with EBUSY if somebody else uses the device, as its
/// format cannot be changed then.
fn open(driver: fn(&Video) -> Result<Option<String>, Errno>) -> Result<Option<Camera>> {
    for node in v4l2::nodes()? {
        if let Some(camera) = there(Camera::open(node, driver))?.flatten() {
            return Ok(Some(camera));
        }
    }
    Ok(None)
}

/// A camera, and how it reaches memory, if that is known.
fn known_camera() -> Result<Option<(Camera, Reach)>> {
    // A camera without hardware reaches no more than 32 bits, and no file shows that.
    if memory_is_beyond(32)? {
        return Ok(None);
    }
    let Some(camera) = open(Video::capture_driver)? else {
        return Ok(None);
    };
    let reach = there(device_reach(camera.device()))?;
    Ok(reach.map(|reach| (camera, reach)))
}

/// Whether this machine has a camera whose reach is known.
pub fn can_capture() -> bool {
    known_camera().is_ok_and(|camera| camera.is_some())
}

pub fn can_convert() -> bool {
    open(Video::converter_driver).is_ok_and(|converter| converter.is_some())
}

impl State {
    pub fn use_video(&mut self, action: &Action) -> Result<Outcome> {
        match action.kind {
            Kind::Camera | Kind::Converter => self.queue(action),
            Kind::Stream => self.stream(action),
            _ => self.unqueue(action),
        }
    }

    fn queue(&mut self, action: &Action) -> Result<Outcome> {
        if self.streams.len() == MAX_STREAMS {
            return Ok(Outcome::Idle);
        }
        let stream = match action.kind {
            Kind::Camera => self.camera(action),
            _ => self.converter(action),
        };
        match stream {
            Ok(Some(stream)) => {
                for queue in stream.queues() {
                    self.live(queue.slot).queued += 1;
                }
                self.streams.push(stream);
                Ok(Outcome::Done)
            }
            Ok(None) => Ok(Outcome::Idle),
            Err(error) => match errno_of(&error) {
                Some(errno @ (Errno::NODEV | Errno::BUSY | Errno::FAULT)) => {
                    Ok(Outcome::Refused(errno))
                }
                _ => Err(error),
            },
        }
    }

    /// Queues two buffers for a converter, which will copy one to the other.
    fn converter(&self, action: &Action) -> Result<Option<Stream>> {
        let fits = |live: &Live| live.is_open() && live.content.pages() >= action.pages;
        let target = self.find_own(action.slot, fits);
        let mut slots = self.slots(action.pick);
        let source = slots
            .find(|slot| Some(*slot) != target && self.lives[*slot].as_ref().is_some_and(fits));
        let (Some(target), Some(source)) = (target, source) else {
            return Ok(None);
        };
        let Some(output) = open(Video::converter_driver)?.map(|converter| converter.video) else {
            return Ok(None);
        };
        let input = output.input()?;
        let size = (action.pages * page_size()) as u32;
        let shape = WIDTHS.map(|width| (width, size / (2 * width)));
        let Some((width, height)) = shape.into_iter().find(|(_, height)| *height <= HIGHEST) else {
            return Ok(None);
        };
        let set = |video: &Video| video.set_format(width, height, fourcc(b"RGBP"));
        let (format, other) = (set(&output)?, set(&input)?);
        ensure!(
            (format.size, other.size) == (size, size) && format.fourcc == other.fourcc,
            "expected a converter of {size} bytes, got {other:?} to {format:?}"
        );
        Ok(Some(Stream {
            target: Queue::new(output, self, target, size, action.pick)?,
            source: Some(Queue::new(input, self, source, size, action.page)?),
            format,
        }))
    }

    /// Queues a buffer for a camera to write to. It never tries a buffer that the heap would refuse, as
    /// videobuf2 would lose it: see [`LOST`](crate::lost::LOST).
    fn camera(&self, action: &Action) -> Result<Option<Stream>> {
        let Some((camera, reach)) = known_camera()? else {
            return Ok(None);
        };
        let format = camera.format();
        let heap = |live: &Live| self.heaps[live.heap].0.as_str();
        // As with other devices, an in-tree heap syncs mappings whatever their direction is.
        let target = self.find_own(action.slot, |live| {
            live.is_open()
                && live.content.pages() >= pages(&format)
                && is_ours(heap(live))
                && answer(heap(live), reach) != Answer::Refused
        });
        let Some(target) = target else {
            return Ok(None);
        };
        let queue = Queue::new(camera.video, self, target, format.size, action.pick);
        let heap = self.lives[target].as_ref().map(heap).unwrap_or_default();
        let pieces = !is_contiguous(heap);
        let in_pieces = |error| errno_of(error) == Some(Errno::FAULT);
        ensure!(
            pieces || !queue.as_ref().is_err_and(in_pieces),
            "expected a buffer of {heap} to be one piece for a camera, got EFAULT"
        );
        Ok(Some(Stream {
            target: queue?,
            source: None,
            format,
        }))
    }

    /// Takes a stream out of the list. Its queued buffers stay held.
    fn take_stream(&mut self, pick: usize) -> Option<Stream> {
        let count = self.streams.len();
        (count > 0).then(|| self.streams.swap_remove(pick % count))
    }

    fn close_stream(&mut self, stream: Stream) {
        let slots: Vec<_> = stream.queues().map(|queue| queue.slot).collect();
        drop(stream);
        for slot in slots {
            self.live(slot).queued -= 1;
            self.bury(slot);
        }
    }

    fn stream(&mut self, action: &Action) -> Result<Outcome> {
        let Some(stream) = self.take_stream(action.pick) else {
            return Ok(Outcome::Idle);
        };
        let seen = match &stream.source {
            Some(source) => self.convert(&stream, source.slot),
            None => self.capture(&stream, action),
        };
        let mut outcome = gone_or_done(seen)?;
        // Otherwise closing the node releases the buffers.
        if outcome == Outcome::Done && action.tag % 2 == 0 {
            outcome = gone_or_done(stream.let_go().context("letting go of buffers"))?;
        }
        self.close_stream(stream);
        Ok(outcome)
    }

    fn convert(&mut self, stream: &Stream, source: usize) -> Result<()> {
        let from = self.live(source).content.clone();
        let content = &mut self.live(stream.target.slot).content;
        content.forget(stream.pages());
        stream.run().context("converting a frame")?;
        content.copy(stream.pages(), &from);
        Ok(())
    }

    /// Captures a frame. Its content is not known, but it must differ from what was there before. The
    /// CPU needs a descriptor to check that.
    fn capture(&mut self, stream: &Stream, action: &Action) -> Result<()> {
        let pages = stream.pages();
        let live = self.live(stream.target.slot);
        live.content.forget(pages);
        if !live.is_open() {
            return stream.run().context("capturing a frame");
        }
        let before = super::content::bytes(0, pages, action.tag);
        live.access(action.pick, WRITE, 0, pages, |mapping, at| {
            mapping.write(at, &before);
        })?;
        stream.run().context("capturing a frame")?;
        let mut seen = vec![0; before.len()];
        live.access(action.pick, READ, 0, pages, |mapping, at| {
            mapping.read(at, &mut seen);
        })?;
        stream.expect_captured(&before, &seen)
    }

    fn unqueue(&mut self, action: &Action) -> Result<Outcome> {
        let Some(stream) = self.take_stream(action.pick) else {
            return Ok(Outcome::Idle);
        };
        let seen = stream.let_go().context("letting go of buffers");
        self.close_stream(stream);
        gone_or_done(seen)
    }

    /// Takes a buffer back from all devices that it is queued for.
    pub fn unqueue_all(&mut self, slot: usize) {
        let has = |stream: &Stream| stream.queues().any(|queue| queue.slot == slot);
        while let Some(which) = self.streams.iter().position(has) {
            let stream = self.streams.swap_remove(which);
            self.close_stream(stream);
        }
    }
}

/// Counts a device that is gone as a refusal, not as a mistake.
fn gone_or_done(seen: Result<()>) -> Result<Outcome> {
    match seen {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if errno_of(&error) == Some(Errno::NODEV) => Ok(Outcome::Refused(Errno::NODEV)),
        Err(error) => Err(error),
    }
}
