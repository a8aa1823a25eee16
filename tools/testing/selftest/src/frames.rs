// SPDX-License-Identifier: GPL-2.0

//! A device writes frames into buffers that it maps once and keeps, as videobuf2 does.
//! This counts how many frames the CPU reads correctly, with brackets around its accesses
//! and without.

use crate::camera::Camera;
use crate::expect::name;
use crate::heap::{Buffer, Heap};
use crate::importer::Importer as _;
use crate::lost::LOST;
use crate::mapping::Mapping;
use crate::test_importer::{Direction, Importer, Kind, Mapped, Setup};
use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::fs;

/// A byte that fills no whole row of a frame.
const CANARY: u8 = 0xa5;
const BUFFERS: usize = 2;
const FRAMES: usize = 8;

/// A device that writes frames.
pub trait Source {
    fn describe(&self) -> String;

    /// The bytes of a frame.
    fn size(&self) -> usize;

    /// Takes the buffers that frames will be written to.
    fn prepare(&mut self, buffers: &[Buffer]) -> Result<()>;

    /// Writes a frame into one of the buffers.
    fn write(&mut self, number: usize, index: usize, buffer: &Buffer) -> Result<()>;

    /// Whether the bytes are that frame, complete.
    fn is_right(&self, number: usize, bytes: &[u8]) -> bool;
}

/// A device of the test importer: it writes through the DMA addresses.
pub struct ByDma {
    name: &'static str,
    importer: Importer,
    mapped: Vec<Mapped>,
}

impl ByDma {
    pub fn new(name: &'static str, setup: &Setup) -> Result<Self> {
        Ok(Self {
            name,
            importer: Importer::new(setup)?,
            mapped: Vec::new(),
        })
    }

    fn byte(number: usize) -> u8 {
        number as u8 + 1
    }
}

impl Source for ByDma {
    fn describe(&self) -> String {
        self.name.into()
    }

    fn size(&self) -> usize {
        64 << 10
    }

    fn prepare(&mut self, buffers: &[Buffer]) -> Result<()> {
        for buffer in buffers {
            let attachment = self.importer.attach(buffer, Kind::Static)?;
            let mapped = self.importer.map(attachment, Direction::FromDevice)?;
            self.mapped.push(mapped);
        }
        Ok(())
    }

    fn write(&mut self, number: usize, index: usize, _buffer: &Buffer) -> Result<()> {
        let frame = vec![Self::byte(number); self.size()];
        Ok(self.importer.write(&self.mapped[index], 0, &frame)?)
    }

    fn is_right(&self, number: usize, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| *byte == Self::byte(number))
    }
}

/// A camera. A camera of vivid writes by the CPU, through the kernel's mapping.
pub struct ByCamera {
    camera: Camera,
    streams: bool,
}

impl ByCamera {
    pub fn new(camera: Camera) -> Self {
        Self {
            camera,
            streams: false,
        }
    }
}

impl Source for ByCamera {
    fn describe(&self) -> String {
        self.camera.device().name()
    }

    fn size(&self) -> usize {
        self.camera.format().size as usize
    }

    fn prepare(&mut self, buffers: &[Buffer]) -> Result<()> {
        self.camera.video.request_buffers(buffers.len() as u32)?;
        Ok(())
    }

    fn write(&mut self, _number: usize, index: usize, buffer: &Buffer) -> Result<()> {
        let video = &self.camera.video;
        if let Err(errno) = video.queue(index as u32, buffer) {
            if buffer.references()? > 1 {
                buffer.set_name(LOST)?;
            }
            return Err(errno.into());
        }
        if !std::mem::replace(&mut self.streams, true) {
            video.start()?;
        }
        video.dequeue()?;
        Ok(())
    }

    fn is_right(&self, _number: usize, bytes: &[u8]) -> bool {
        let mut rows = bytes.chunks(self.camera.format().bytes_per_line as usize);
        rows.all(|row| row.iter().any(|byte| *byte != CANARY))
    }
}

impl Drop for ByCamera {
    fn drop(&mut self) {
        // These fail if there are no buffers, and then there is nothing to release.
        let _ = self.camera.video.stop();
        let _ = self.camera.video.request_buffers(0);
    }
}

/// How many frames were right, and how many there were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub right: usize,
    pub of: usize,
}

impl Seen {
    pub fn all(self) -> bool {
        self.right == self.of
    }
}

/// Lets `source` write frames into buffers of `heap`, each over a canary, and counts those
/// that the CPU reads correctly, with or without brackets.
pub fn watch(heap: &Heap, source: &mut dyn Source, brackets: bool) -> Result<Seen> {
    let size = source.size();
    let buffers = (0..BUFFERS)
        .map(|_| heap.alloc(size.next_power_of_two()))
        .collect::<Result<Vec<Buffer>, Errno>>()?;
    let mappings = buffers
        .iter()
        .map(Buffer::map)
        .collect::<Result<Vec<Mapping>, Errno>>()?;
    source.prepare(&buffers)?;
    let mut right = 0;
    for number in 0..FRAMES {
        let index = number % BUFFERS;
        let (buffer, mapping) = (&buffers[index], &mappings[index]);
        let mut frame = vec![0; size];
        access(buffer, brackets, || mapping.fill(CANARY))?;
        source.write(number, index, buffer)?;
        access(buffer, brackets, || mapping.read(0, &mut frame))?;
        right += usize::from(source.is_right(number, &frame));
    }
    Ok(Seen { right, of: FRAMES })
}

fn access(buffer: &Buffer, brackets: bool, access: impl FnOnce()) -> Result<(), Errno> {
    if brackets {
        buffer.bracketed(access)
    } else {
        access();
        Ok(())
    }
}

/// The devices of this system that write frames, made up and real.
fn sources() -> Result<Vec<Box<dyn Source>>> {
    let mut sources: Vec<Box<dyn Source>> = vec![
        Box::new(ByDma::new("DMA, snooping", &Setup::SNOOPING)?),
        Box::new(ByDma::new("DMA, not snooping", &Setup::NOT_SNOOPING)?),
    ];
    for camera in Camera::all()? {
        sources.push(Box::new(ByCamera::new(camera)));
    }
    Ok(sources)
}

/// Prints for each heap and device how many frames were right.
pub fn print_table() -> Result<()> {
    let mut heaps = Vec::new();
    for entry in fs::read_dir("/dev/dma_heap").context("listing /dev/dma_heap")? {
        heaps.push(entry?.file_name().to_string_lossy().into_owned());
    }
    heaps.sort();
    let seen = |heap: &str, number: usize, brackets| -> Result<Seen> {
        // The source is opened again each time, so that it keeps nothing of the time before.
        let source = &mut sources()?.remove(number);
        watch(&Heap::open(heap)?, &mut **source, brackets)
    };
    println!(
        "{:32}{:20}{:>14}{:>18}",
        "HEAP", "DEVICE", "WITH BRACKETS", "WITHOUT BRACKETS"
    );
    for heap in &heaps {
        for (number, source) in sources()?.iter().enumerate() {
            println!(
                "{heap:32}{:20}{:>14}{:>18}",
                source.describe(),
                describe(&seen(heap, number, true)),
                describe(&seen(heap, number, false))
            );
        }
    }
    Ok(())
}

fn describe(seen: &Result<Seen>) -> String {
    match seen {
        Ok(seen) => format!("{} of {}", seen.right, seen.of),
        Err(error) => match error.downcast_ref::<Errno>() {
            Some(errno) => name(*errno),
            None => format!("{error:#}"),
        },
    }
}
