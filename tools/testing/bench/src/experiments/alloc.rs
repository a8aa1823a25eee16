// SPDX-License-Identifier: GPL-2.0

//! What it costs to get a buffer and to give it back.

use super::{allocate, samples};
use crate::recorder::Recorder;
use anyhow::Result;
use dmabuf_coherency_selftest::heap::Heap;
use dmabuf_coherency_selftest::memory;

/// The largest buffer that is allocated more than once.
const LARGE: usize = 64 << 20;

/// How often a small buffer is allocated without a pause, and how many bytes in
/// all for larger ones.
const SUSTAINED: usize = 512;
const SUSTAINED_BYTES: usize = 8 << 20;

/// How often caches are dropped at most.
const COLD_SAMPLES: usize = 5;

pub fn run(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    cold(recorder, heap, size)?;
    warm(recorder, heap, size)?;
    sustained(recorder, heap, size)
}

/// How often it is done. Zeroing a large buffer takes long under emulation.
fn repetitions(size: usize) -> usize {
    match size {
        0..=LARGE => samples(size),
        _ => 1,
    }
}

/// After the kernel was asked to drop what it need not keep. What the
/// background thread does after the buffer is freed is not counted: it is for
/// whoever allocates next, warm.
fn cold(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    for _ in 0..repetitions(size).min(COLD_SAMPLES) {
        recorder.background.settle()?;
        memory::settled_free()?;
        let (buffer, time) = recorder.time(|| allocate(heap, size))?;
        recorder.add("alloc.cold", size as u64, time.own);
        recorder.add_background("alloc.cold", size as u64, time.background);
        drop(buffer);
    }
    recorder.background.settle()
}

/// After as large a buffer was freed, and the background thread had time for
/// what it does then; all of which is counted.
fn warm(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    let at = size as u64;
    drop(allocate(heap, size)?);
    recorder.background.settle()?;
    for _ in 0..repetitions(size) {
        let used = recorder.background.used()?;
        let (buffer, time) = recorder.time(|| allocate(heap, size))?;
        recorder.add("alloc.warm", at, time.own);
        let ((), time) = recorder.time(|| {
            drop(buffer);
            Ok(())
        })?;
        recorder.add("free", at, time.own);
        recorder.background.settle()?;
        let background = recorder.background.used()? - used;
        recorder.add_background("alloc.warm", at, background as f64);
    }
    Ok(())
}

/// One buffer after the other without a pause, for some milliseconds at least.
/// What the background thread has left to do at the end is counted.
fn sustained(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    let rounds = repetitions(size).max(SUSTAINED.min(SUSTAINED_BYTES / size));
    let used = recorder.background.used()?;
    let ((), time) = recorder.time(|| {
        for _ in 0..rounds {
            drop(allocate(heap, size)?);
        }
        Ok(())
    })?;
    recorder.background.settle()?;
    let background = recorder.background.used()? - used;
    let at = size as u64;
    recorder.add("alloc.sustained", at, time.own / rounds as f64);
    recorder.add_background("alloc.sustained", at, background as f64 / rounds as f64);
    Ok(())
}
