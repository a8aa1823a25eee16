// SPDX-License-Identifier: GPL-2.0

//! What buffers cost that several CPUs allocate and free at once, the waits for locks included.

use crate::recorder::Recorder;
use anyhow::{Result, bail};
use dmabuf_coherency_selftest::heap::Heap;
use dmabuf_coherency_selftest::mapping::page_size;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::thread;

pub const NAME: &str = "parallel";
pub const ABOUT: &str = "allocating and freeing on several CPUs at once";

/// How many CPUs do it at once.
const CPUS: [usize; 3] = [1, 2, 4];

/// How many buffers each allocates and frees.
const BUFFERS: usize = 2000;

const SAMPLES: usize = 5;

/// Measures for each number of CPUs that there is.
pub fn measure(recorder: &mut Recorder, heap: &Heap, cpus: usize) -> Result<()> {
    for count in CPUS {
        if count > cpus {
            recorder.skip(NAME, format!("there are no {count} CPUs"));
            break;
        }
        for _ in 0..SAMPLES {
            recorder.background.settle()?;
            let ((), time) = recorder.time(|| all(heap, count))?;
            recorder.add(NAME, count as u64, time.own / (count * BUFFERS) as f64);
        }
    }
    Ok(())
}

/// Has so many CPUs do it, and waits for the last one.
fn all(heap: &Heap, count: usize) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = (0..count)
            .map(|cpu| scope.spawn(move || one(heap, cpu)))
            .collect();
        for thread in running {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a thread that allocates has panicked"),
            }
        }
        Ok(())
    })
}

fn one(heap: &Heap, cpu: usize) -> Result<()> {
    let mut own = CpuSet::new();
    own.set(cpu);
    sched_setaffinity(None, &own)?;
    for _ in 0..BUFFERS {
        drop(heap.alloc(page_size())?);
    }
    Ok(())
}
