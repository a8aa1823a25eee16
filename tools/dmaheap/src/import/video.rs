// SPDX-License-Identifier: MIT OR GPL-2.0

//! Video nodes: queueing a buffer, and capturing into it. Numbers and structures are those of the
//! kernel's `linux/videodev2.h`.

use super::{Call, Progress, Refusal};
use crate::buffer::{Allocator, Buffer, Request};
use crate::error::{Error, Result};
use crate::ioctl;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::ioctl::{
    Opcode,
    opcode::{read, read_write, write},
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const QUERYCAP: Opcode = read::<Capability>(b'V', 0);
const G_FMT: Opcode = read_write::<Format>(b'V', 4);
const REQBUFS: Opcode = read_write::<RequestBuffers>(b'V', 8);
const QBUF: Opcode = read_write::<VideoBuffer>(b'V', 15);
const DQBUF: Opcode = read_write::<VideoBuffer>(b'V', 17);
const STREAMON: Opcode = write::<i32>(b'V', 18);

const CAPTURE: u32 = 1;
const OUTPUT: u32 = 2;
const CAPTURE_MPLANE: u32 = 9;
const OUTPUT_MPLANE: u32 = 10;

/// What a node can do, and the queues that it has for that. The queue of what goes to the device
/// comes first: a decoder knows its frames only when it has seen some of the stream.
const QUEUES: [(u32, &[u32]); 6] = [
    (0x4000, &[OUTPUT_MPLANE, CAPTURE_MPLANE]),
    (0x8000, &[OUTPUT, CAPTURE]),
    (0x1000, &[CAPTURE_MPLANE]),
    (0x0001, &[CAPTURE]),
    (0x2000, &[OUTPUT_MPLANE]),
    (0x0002, &[OUTPUT]),
];
const CAP_STREAMING: u32 = 0x0400_0000;

const MEMORY_DMABUF: u32 = 4;
const FLAG_ERROR: u32 = 0x40;
const MOST_PLANES: usize = 8;

/// How many seconds a frame may take.
const PATIENCE: i64 = 5;

/// `struct v4l2_capability`.
#[repr(C)]
#[derive(Default)]
struct Capability {
    driver: [u8; 16],
    card: [u8; 32],
    bus: [u8; 32],
    version: u32,
    capabilities: u32,
    device_caps: u32,
    reserved: [u32; 3],
}

/// `struct v4l2_format`.
#[repr(C)]
struct Format {
    queue: u32,
    of: FormatOf,
}

/// What is of such a size, and aligned as its members with pointers want it.
#[repr(C)]
#[derive(Clone, Copy)]
union FormatOf {
    single: PixelFormat,
    planes: PlaneFormats,
    raw: [u8; 200],
    pointer: usize,
}

/// The start of `struct v4l2_pix_format`.
#[repr(C)]
#[derive(Clone, Copy)]
struct PixelFormat {
    width: u32,
    height: u32,
    format: u32,
    field: u32,
    bytes_per_line: u32,
    size: u32,
}

/// `struct v4l2_pix_format_mplane`.
#[repr(C)]
#[derive(Clone, Copy)]
struct PlaneFormats {
    width: u32,
    height: u32,
    format: u32,
    field: u32,
    colorspace: u32,
    planes: [PlaneFormat; MOST_PLANES],
    count: u8,
    rest: [u8; 11],
}

/// `struct v4l2_plane_pix_format`.
#[repr(C)]
#[derive(Clone, Copy)]
struct PlaneFormat {
    size: u32,
    bytes_per_line: u32,
    reserved: [u16; 6],
}

/// `struct v4l2_requestbuffers`.
#[repr(C)]
#[derive(Default)]
struct RequestBuffers {
    count: u32,
    queue: u32,
    memory: u32,
    capabilities: u32,
    flags: u32,
}

/// `struct v4l2_buffer`.
#[repr(C)]
struct VideoBuffer {
    index: u32,
    queue: u32,
    bytes_used: u32,
    flags: u32,
    field: u32,
    timestamp: [i64; 2],
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    place: Place,
    length: u32,
    reserved: u32,
    request_fd: i32,
}

/// Where its memory is.
#[repr(C)]
union Place {
    fd: i32,
    planes: *mut Plane,
    address: usize,
}

/// `struct v4l2_plane`.
#[repr(C)]
struct Plane {
    bytes_used: u32,
    length: u32,
    place: Place,
    data_offset: u32,
    reserved: [u32; 11],
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;

    assert!(size_of::<Capability>() == 104);
    assert!(size_of::<Format>() == 208);
    assert!(size_of::<PlaneFormats>() == 192);
    assert!(size_of::<RequestBuffers>() == 20);
    assert!(size_of::<VideoBuffer>() == 88);
    assert!(offset_of!(VideoBuffer, place) == 64);
    assert!(size_of::<Plane>() == 64);
};

/// An open video node, and what its queues need of a buffer.
pub(super) struct Video {
    fd: OwnedFd,
    path: PathBuf,
    queues: Vec<Queue>,
}

/// A buffer for a plane of a frame.
#[derive(Clone, Copy, Default)]
struct Memory {
    fd: i32,
    size: u32,
}

impl Memory {
    fn of(buffer: &Buffer) -> Self {
        Self {
            fd: buffer.as_fd().as_raw_fd(),
            size: u32::try_from(buffer.size()).unwrap_or(u32::MAX),
        }
    }
}

/// Frames on their way to the device, or from it.
struct Queue {
    kind: u32,
    /// How many bytes each plane of a frame has.
    planes: Vec<u32>,
}

impl Video {
    pub(super) fn new(path: &Path, fd: OwnedFd) -> Result<Self> {
        let cannot = |why| Error::CannotTry {
            node: path.into(),
            why,
        };
        let mut caps = Capability::default();
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::call(&fd, QUERYCAP, &mut caps) }.map_err(|errno| match errno {
            Errno::NOTTY => cannot("it is the node of a part of a device, which has no buffers"),
            Errno::NODEV => Error::Gone(path.display().to_string()),
            errno => Error::file(path)(errno),
        })?;
        if caps.device_caps & CAP_STREAMING == 0 {
            return Err(cannot("it does not stream, so there are no buffers"));
        }
        let kinds = QUEUES.iter().find(|(can, _)| caps.device_caps & can != 0);
        let (_, kinds) = kinds.ok_or_else(|| cannot("it has no frames of video"))?;
        let mut queues = Vec::new();
        for kind in *kinds {
            match plane_sizes(&fd, *kind) {
                Ok(planes) => queues.push(Queue {
                    kind: *kind,
                    planes,
                }),
                // The other one is enough.
                Err(_) if !queues.is_empty() => (),
                Err(_) => return Err(cannot("no format is set: set one, with v4l2-ctl")),
            }
        }
        Ok(Self {
            fd,
            path: path.into(),
            queues,
        })
    }

    pub(super) fn least_size(&self) -> u64 {
        let planes = self.queues.iter().flat_map(|queue| &queue.planes);
        planes.copied().max().unwrap_or_default().into()
    }

    /// Queues the buffer where it is needed first. There may be several planes, several buffers
    /// before the device begins, or two queues: the others are allocated.
    pub(super) fn import(
        &self,
        buffer: &Buffer,
        heap: &Allocator,
        frames: u32,
        progress: &mut Progress,
    ) -> Result<std::result::Result<(), Refusal>> {
        let camera = self.camera().filter(|_| frames > 0);
        // They live as long as the device may use them.
        let mut others = Vec::new();
        let mut slots = Vec::new();
        for queue in &self.queues {
            let count = match self.request(queue) {
                Ok(count) => count,
                Err(Errno::INVAL) => {
                    return Ok(Err(Refusal::of(Call::RequestBuffers)(Errno::INVAL)));
                }
                Err(errno) => {
                    let what = format!("{}: VIDIOC_REQBUFS", self.path.display());
                    return Err(Error::io(what)(errno));
                }
            };
            for index in 0..if camera.is_some() { count } else { 1 } {
                let mut slot = Vec::new();
                for size in &queue.planes {
                    if index == 0 && slot.is_empty() {
                        slot.push(Memory::of(buffer));
                        continue;
                    }
                    let other = heap.alloc(&Request::new((*size).max(1).into()))?;
                    slot.push(Memory::of(&other));
                    others.push(other);
                }
                if let Err(errno) = self.queue(queue, index, &slot) {
                    return Ok(Err(Refusal::of(Call::Queue)(errno)));
                }
                slots.push(slot);
            }
        }
        Ok(match camera {
            Some(queue) => self.capture(queue, &slots, frames, progress),
            None => Ok(()),
        })
    }

    /// Queues the buffer for all planes of a frame; says how long that takes.
    pub(super) fn import_once(&self, buffer: &Buffer) -> std::result::Result<Duration, Refusal> {
        let mut time = Duration::ZERO;
        if let Some(queue) = self.queues.first() {
            self.request(queue)
                .map_err(Refusal::of(Call::RequestBuffers))?;
            let slot = vec![Memory::of(buffer); queue.planes.len()];
            let start = Instant::now();
            self.queue(queue, 0, &slot)
                .map_err(Refusal::of(Call::Queue))?;
            time = start.elapsed();
        }
        Ok(time)
    }

    /// The queue of a device that makes frames by itself.
    fn camera(&self) -> Option<&Queue> {
        match &self.queues[..] {
            [queue] if [CAPTURE, CAPTURE_MPLANE].contains(&queue.kind) => Some(queue),
            _ => None,
        }
    }

    /// Captures frames, which come back in the buffers of `slots`.
    fn capture(
        &self,
        queue: &Queue,
        slots: &[Vec<Memory>],
        frames: u32,
        progress: &mut Progress,
    ) -> std::result::Result<(), Refusal> {
        let mut kind = queue.kind as i32;
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::call(&self.fd, STREAMON, &mut kind) }.map_err(Refusal::of(Call::Start))?;
        while progress.frames < frames {
            let index = self.dequeue(queue).map_err(Refusal::of(Call::Dequeue))?;
            progress.frames += 1;
            if let Some(slot) = slots.get(index as usize) {
                let queued = self.queue(queue, index, slot);
                queued.map_err(Refusal::of(Call::Queue))?;
            }
        }
        Ok(())
    }

    /// Asks for room for dma-bufs; says for how many there is.
    fn request(&self, queue: &Queue) -> rustix::io::Result<u32> {
        let mut request = RequestBuffers {
            count: 1,
            queue: queue.kind,
            memory: MEMORY_DMABUF,
            ..RequestBuffers::default()
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::call(&self.fd, REQBUFS, &mut request) }?;
        Ok(request.count)
    }

    /// Hands over a buffer for each plane of a frame. Of those that go to the device all bytes count.
    fn queue(&self, queue: &Queue, index: u32, slot: &[Memory]) -> rustix::io::Result<()> {
        let mut planes = queue.planes(slot);
        let mut buffer = queue.buffer(index, &mut planes);
        // SAFETY: The argument is of the type that the ioctl is for. If it points at anything, then
        // at as many planes as it says.
        unsafe { ioctl::call(&self.fd, QBUF, &mut buffer) }
    }

    /// Waits for a frame, and says in which buffer it is; EIO if the driver calls it damaged.
    fn dequeue(&self, queue: &Queue) -> rustix::io::Result<u32> {
        let limit = Timespec {
            tv_sec: PATIENCE,
            tv_nsec: 0,
        };
        let ready = &mut [PollFd::new(&self.fd, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(ready, Some(&limit)))? == 0 {
            return Err(Errno::TIMEDOUT);
        }
        let mut planes = queue.planes(&vec![Memory::default(); queue.planes.len()]);
        let mut buffer = queue.buffer(0, &mut planes);
        // SAFETY: As above.
        unsafe { ioctl::call(&self.fd, DQBUF, &mut buffer) }?;
        match buffer.flags & FLAG_ERROR {
            0 => Ok(buffer.index),
            _ => Err(Errno::IO),
        }
    }
}

impl Queue {
    /// What the kernel is told of these buffers.
    fn planes(&self, slot: &[Memory]) -> Vec<Plane> {
        let planes = slot.iter().zip(&self.planes);
        let plane = |(memory, size): (&Memory, &u32)| Plane {
            bytes_used: *size,
            length: memory.size,
            place: Place { fd: memory.fd },
            data_offset: 0,
            reserved: [0; 11],
        };
        planes.map(plane).collect()
    }

    /// A frame of these planes.
    fn buffer(&self, index: u32, planes: &mut [Plane]) -> VideoBuffer {
        let mut buffer = VideoBuffer {
            index,
            queue: self.kind,
            bytes_used: 0,
            flags: 0,
            field: 0,
            timestamp: [0; 2],
            timecode: [0; 4],
            sequence: 0,
            memory: MEMORY_DMABUF,
            place: Place { address: 0 },
            length: 0,
            reserved: 0,
            request_fd: 0,
        };
        match planes {
            _ if [CAPTURE_MPLANE, OUTPUT_MPLANE].contains(&self.kind) => {
                buffer.length = planes.len() as u32;
                buffer.place.planes = planes.as_mut_ptr();
            }
            [plane, ..] => {
                buffer.bytes_used = plane.bytes_used;
                buffer.length = plane.length;
                // SAFETY: `planes()` has set it.
                buffer.place.fd = unsafe { plane.place.fd };
            }
            [] => (),
        }
        buffer
    }
}

/// How many bytes each plane of a frame has by the format that is set.
fn plane_sizes(fd: &OwnedFd, kind: u32) -> rustix::io::Result<Vec<u32>> {
    let mut format = Format {
        queue: kind,
        of: FormatOf { raw: [0; 200] },
    };
    // SAFETY: The argument is of the type that the ioctl is for.
    unsafe { ioctl::call(fd, G_FMT, &mut format) }?;
    if kind == CAPTURE || kind == OUTPUT {
        // SAFETY: All bytes are set, and any are numbers.
        return Ok(vec![unsafe { format.of.single }.size]);
    }
    // SAFETY: As above.
    let format = unsafe { format.of.planes };
    let planes = format.planes.iter().take(format.count.into());
    Ok(planes.map(|plane| plane.size).collect())
}
