// SPDX-License-Identifier: GPL-2.0

//! What it costs to get a buffer and to give it back.

use super::{allocate, samples};
use crate::recorder::Recorder;
use anyhow::Result;
use dmabuf_coherency_selftest::cgroup::Group;
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

/// The largest buffer that is charged. It costs the same for all larger ones.
const LARGEST_CHARGED: usize = 8 << 20;

/// What the operations are called.
struct Names {
    cold: &'static str,
    warm: &'static str,
    sustained: &'static str,
    free: &'static str,
}

const NAMES: Names = Names {
    cold: "alloc.cold",
    warm: "alloc.warm",
    sustained: "alloc.sustained",
    free: "free",
};

const CHARGED: Names = Names {
    cold: "charged.cold",
    warm: "charged.warm",
    sustained: "charged.sustained",
    free: "charged.free",
};

pub fn run(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    measure(recorder, heap, size, &NAMES)
}

/// In a control group of its own. The root group is not charged.
pub fn charged(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    if size > LARGEST_CHARGED {
        return Ok(());
    }
    let group = Group::new("memory")?;
    let _member = group.join()?;
    measure(recorder, heap, size, &CHARGED)
}

fn measure(recorder: &mut Recorder, heap: &Heap, size: usize, names: &Names) -> Result<()> {
    cold(recorder, heap, size, names)?;
    warm(recorder, heap, size, names)?;
    sustained(recorder, heap, size, names)
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
/// the next allocation, which is warm.
fn cold(recorder: &mut Recorder, heap: &Heap, size: usize, names: &Names) -> Result<()> {
    for _ in 0..repetitions(size).min(COLD_SAMPLES) {
        recorder.background.settle()?;
        memory::settled_free()?;
        let (buffer, time) = recorder.time(|| allocate(heap, size))?;
        recorder.add(names.cold, size as u64, time.own);
        recorder.add_background(names.cold, size as u64, time.background);
        drop(buffer);
    }
    recorder.background.settle()
}

/// After as large a buffer was freed, and the background thread had time for
/// what it does then; all of which is counted.
fn warm(recorder: &mut Recorder, heap: &Heap, size: usize, names: &Names) -> Result<()> {
    let at = size as u64;
    drop(allocate(heap, size)?);
    recorder.background.settle()?;
    for _ in 0..repetitions(size) {
        let used = recorder.background.used()?;
        let (buffer, time) = recorder.time(|| allocate(heap, size))?;
        recorder.add(names.warm, at, time.own);
        let ((), time) = recorder.time(|| {
            drop(buffer);
            Ok(())
        })?;
        recorder.add(names.free, at, time.own);
        recorder.background.settle()?;
        let background = recorder.background.used()? - used;
        recorder.add_background(names.warm, at, background as f64);
    }
    Ok(())
}

/// One buffer after the other without a pause, for some milliseconds at least.
/// What the background thread has left to do at the end is counted.
fn sustained(recorder: &mut Recorder, heap: &Heap, size: usize, names: &Names) -> Result<()> {
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
    recorder.add(names.sustained, at, time.own / rounds as f64);
    recorder.add_background(names.sustained, at, background as f64 / rounds as f64);
    Ok(())
}
