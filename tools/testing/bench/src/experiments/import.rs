// SPDX-License-Identifier: GPL-2.0

//! What it costs a device to use a buffer, and the CPU while devices do.
//!
//! The device is the test importer; what an ioctl costs that does nothing is
//! subtracted from each of its calls.

use super::{allocate, samples};
use crate::recorder::Recorder;
use anyhow::{Result, bail, ensure};
use dmabuf_coherency_bench::results;
use dmabuf_coherency_selftest::heap::{Buffer, END, Heap, READ, WRITE};
use dmabuf_coherency_selftest::query;
use dmabuf_coherency_selftest::test_importer::{
    Direction, Importer, KernelMapping, Kind, Mapped, Setup,
};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;

/// How often an empty ioctl is measured.
const EMPTY_SAMPLES: usize = 33;

const DEVICES: [(&str, Setup); 2] = [
    ("snooping", Setup::SNOOPING),
    ("nonsnooping", Setup::NOT_SNOOPING),
];

/// The same for QEMU's edu, which is a PCI device and snoops.
const PCI: (&str, Setup) = ("pci.snooping", Setup::EDU);

/// How many devices have the buffer mapped during a bracket.
const ATTACHMENTS: [usize; 2] = [1, 8];

/// A test importer, and what an ioctl of it costs that does nothing.
pub struct Device {
    importer: Importer,
    empty: f64,
}

impl Device {
    pub fn new(recorder: &Recorder, setup: &Setup) -> Result<Self> {
        let importer = Importer::new(setup)?;
        let nothing = KernelMapping {
            handle: 0,
            in_vmalloc_area: false,
        };
        let empty = || {
            let (outcome, time) = recorder.time(|| Ok(importer.vunmap(&nothing)))?;
            ensure!(
                outcome == Err(Errno::NOENT),
                "expected that there is no handle 0"
            );
            Ok(time.own)
        };
        let times: Result<Vec<f64>> = (0..EMPTY_SAMPLES).map(|_| empty()).collect();
        let empty = times?.into_iter().fold(f64::INFINITY, f64::min);
        Ok(Self { importer, empty })
    }

    /// The first kind of device that the heap of `buffer` does not refuse.
    pub fn of_heap(recorder: &Recorder, buffer: &Buffer) -> Result<Self> {
        for (_, setup) in DEVICES {
            let device = Self::new(recorder, &setup)?;
            if device.join(buffer)?.is_some() {
                return Self::new(recorder, &setup);
            }
        }
        bail!("the heap refuses devices of every kind")
    }

    /// Measures one ioctl.
    pub fn time<T>(
        &self,
        recorder: &Recorder,
        call: impl FnOnce(&Importer) -> Result<T, Errno>,
    ) -> Result<(T, f64)> {
        let (result, time) = recorder.time(|| Ok(call(&self.importer)?))?;
        Ok((result, (time.own - self.empty).max(0.0)))
    }

    /// Attaches and maps; nothing is measured. The device is not for this heap
    /// if it returns nothing.
    pub fn join(&self, buffer: impl AsFd) -> Result<Option<Mapped>> {
        let attachment = match self.importer.attach(buffer, Kind::Static) {
            Err(Errno::OPNOTSUPP) => return Ok(None),
            outcome => outcome?,
        };
        let mapped = self.importer.map(attachment, Direction::Bidirectional)?;
        Ok(Some(mapped))
    }
}

/// Attach, map, unmap, detach: each of them, and all together.
pub fn import(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    for (name, setup) in DEVICES.into_iter().chain([PCI]) {
        // A buffer that a snooping device has written takes more maintenance for others.
        let buffer = allocate(heap, size)?;
        let device = Device::new(recorder, &setup)?;
        for _ in 0..samples(size) {
            if !import_once(recorder, &device, buffer.as_fd(), name, size)? {
                let what = format!("import.{name}");
                recorder.skip(&what, "this heap refuses the device".into());
                break;
            }
        }
    }
    Ok(())
}

fn import_once(
    recorder: &mut Recorder,
    device: &Device,
    buffer: BorrowedFd<'_>,
    name: &str,
    size: usize,
) -> Result<bool> {
    let attached = device.time(recorder, |importer| {
        match importer.attach(buffer, Kind::Static) {
            Err(Errno::OPNOTSUPP) => Ok(None),
            outcome => outcome.map(Some),
        }
    })?;
    let (Some(attachment), attach) = attached else {
        return Ok(false);
    };
    let (mapped, map) = device.time(recorder, |importer| {
        importer.map_uncounted(attachment, Direction::Bidirectional)
    })?;
    let ((), unmap) = device.time(recorder, |importer| importer.unmap(&mapped))?;
    let counted = device.importer.map(attachment, Direction::Bidirectional)?;
    device.importer.unmap(&counted)?;
    let ((), detach) = device.time(recorder, |importer| importer.detach(attachment))?;
    let whole = attach + map + unmap + detach;
    for (step, time) in [
        ("import", whole),
        ("attach", attach),
        ("map", map),
        ("unmap", unmap),
        ("detach", detach),
    ] {
        let operation = format!("{step}.{name}");
        if results::operation(&operation).is_some() {
            recorder.add(&operation, size as u64, time);
        }
    }
    recorder.set_segments(&format!("import.{name}"), size as u64, counted.segments);
    Ok(true)
}

/// A bracket around reading and writing, while devices have the buffer mapped.
pub fn brackets(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    let buffer = Buffer::from_fd(allocate(heap, size)?)?;
    bracket(recorder, &buffer, "bracket.0", size as u64)?;
    drop(buffer);
    for (name, setup) in DEVICES {
        let buffer = Buffer::from_fd(allocate(heap, size)?)?;
        let mut devices = Vec::new();
        for count in ATTACHMENTS {
            let operation = format!("bracket.{count}.{name}");
            while devices.len() < count {
                let device = Device::new(recorder, &setup)?;
                if device.join(&buffer)?.is_none() {
                    break;
                }
                devices.push(device);
            }
            if devices.len() < count {
                recorder.skip(&operation, "this heap refuses the device".into());
                break;
            }
            bracket(recorder, &buffer, &operation, size as u64)?;
            if name == "nonsnooping" && count == 1 {
                part(recorder, &buffer)?;
            }
        }
    }
    Ok(())
}

/// How many bytes a program changes that does not change all.
const PART: usize = 4096;

/// A bracket around some bytes in the middle; around all of a buffer that knows no parts.
fn part(recorder: &mut Recorder, buffer: &Buffer) -> Result<()> {
    let operation = "bracket.part.nonsnooping";
    let start = buffer.size() / 2 / PART * PART;
    let part = start..start + PART;
    let node = query::open()?;
    match buffer.sync_part(READ, &part, &node) {
        Err(Errno::OPNOTSUPP) => {
            return bracket(recorder, buffer, operation, buffer.size() as u64);
        }
        result => result?,
    }
    brackets_by(recorder, buffer, operation, buffer.size() as u64, |flags| {
        buffer.sync_part(flags, &part, &node)
    })
}

pub fn bracket(recorder: &mut Recorder, buffer: &Buffer, operation: &str, at: u64) -> Result<()> {
    brackets_by(recorder, buffer, operation, at, |flags| {
        buffer.sync(flags.into())
    })
}

fn brackets_by(
    recorder: &mut Recorder,
    buffer: &Buffer,
    operation: &str,
    at: u64,
    sync: impl Fn(u32) -> Result<(), Errno>,
) -> Result<()> {
    for _ in 0..samples(buffer.size()) {
        let ((), time) = recorder.time(|| {
            sync(READ | WRITE)?;
            Ok(sync(READ | WRITE | END)?)
        })?;
        recorder.add(operation, at, time.own);
    }
    Ok(())
}

/// Into the kernel and out again.
pub fn vmap(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    let buffer = allocate(heap, size)?;
    let device = Device::new(recorder, &Setup::SNOOPING)?;
    for _ in 0..samples(size) {
        let (mapping, vmap) = device.time(recorder, |importer| importer.vmap(&buffer))?;
        let ((), vunmap) = device.time(recorder, |importer| importer.vunmap(&mapping))?;
        recorder.add("vmap", size as u64, vmap + vunmap);
    }
    Ok(())
}
