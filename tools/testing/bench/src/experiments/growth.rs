// SPDX-License-Identifier: GPL-2.0

//! How costs grow with what is there already.

use super::{allocate, import, samples};
use crate::recorder::Recorder;
use anyhow::{Context as _, Result};
use dmabuf_coherency_selftest::heap::{Buffer, Heap};
use dmabuf_coherency_selftest::mapping::page_size;
use dmabuf_coherency_selftest::memory;
use dmabuf_coherency_selftest::test_importer::{Direction, Kind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many buffers live while one more is allocated and freed.
const BUFFERS: [usize; 5] = [1, 10, 100, 1_000, 10_000];

/// How many attachments a buffer has while one more comes and goes.
const ATTACHMENTS: [usize; 4] = [1, 10, 100, 1_000];

pub fn run(recorder: &mut Recorder, heap: &Heap, _size: usize) -> Result<()> {
    against_buffers(recorder, heap)?;
    against_attachments(recorder, heap)
}

fn against_buffers(recorder: &mut Recorder, heap: &Heap) -> Result<()> {
    allow_descriptors(BUFFERS[BUFFERS.len() - 1] as u64 + 100)?;
    // What earlier experiments have left to the heaps is no part of this.
    memory::settled_free()?;
    let size = page_size();
    let mut live = Vec::new();
    for count in BUFFERS {
        while live.len() < count {
            live.push(allocate(heap, size)?);
        }
        for _ in 0..samples(size) {
            recorder.background.settle()?;
            let (buffer, time) = recorder.time(|| allocate(heap, size))?;
            recorder.add("growth.alloc", count as u64, time.own);
            let ((), time) = recorder.time(|| {
                drop(buffer);
                Ok(())
            })?;
            recorder.add("growth.free", count as u64, time.own);
        }
    }
    Ok(())
}

fn against_attachments(recorder: &mut Recorder, heap: &Heap) -> Result<()> {
    let size = page_size();
    let buffer = Buffer::from_fd(allocate(heap, size)?)?;
    // What comes and goes is on a device of its own, so that what the importer
    // itself keeps does not grow.
    let crowd = import::Device::of_heap(recorder, &buffer)?;
    let device = import::Device::of_heap(recorder, &buffer)?;
    let mut joined = 0;
    for count in ATTACHMENTS {
        while joined < count {
            crowd
                .join(&buffer)?
                .context("a device like one that was accepted was refused")?;
            joined += 1;
        }
        let at = count as u64;
        for _ in 0..samples(size) {
            let (attachment, attach) =
                device.time(recorder, |importer| importer.attach(&buffer, Kind::Static))?;
            let (mapped, map) = device.time(recorder, |importer| {
                importer.map_uncounted(attachment, Direction::Bidirectional)
            })?;
            let ((), unmap) = device.time(recorder, |importer| importer.unmap(&mapped))?;
            let ((), detach) = device.time(recorder, |importer| importer.detach(attachment))?;
            recorder.add("growth.attach", at, attach + detach);
            recorder.add("growth.map", at, map + unmap);
        }
        import::bracket(recorder, &buffer, "growth.bracket", at)?;
    }
    Ok(())
}

/// Raises the limit of open files.
fn allow_descriptors(count: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = |limit: Option<u64>| limit.map(|limit| limit.max(count));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: raised(limit.current),
            maximum: raised(limit.maximum),
        },
    )
    .context("raising the limit of open files: run this as root")
}
