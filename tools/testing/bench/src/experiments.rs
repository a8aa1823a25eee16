// SPDX-License-Identifier: GPL-2.0

//! What can be measured, and the loop that does.

mod alloc;
mod growth;
mod import;
mod mapping;
mod query;

use crate::recorder::Recorder;
use anyhow::{Context as _, Error, Result};
use dmabuf_coherency_selftest::expect::Skip;
use dmabuf_coherency_selftest::heap::{Heap, Request};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// Measures one or more operations, on one heap and at one size.
pub struct Experiment {
    pub name: &'static str,
    pub about: &'static str,
    run: fn(&mut Recorder, &Heap, usize) -> Result<()>,
    /// Whether it is about buffers of all sizes; else it chooses for itself.
    pub sized: bool,
}

/// All experiments.
pub const ALL: &[Experiment] = &[
    Experiment {
        name: "alloc",
        about: "allocation, warm, cold and sustained; free",
        run: alloc::run,
        sized: true,
    },
    Experiment {
        name: "charged",
        about: "the same, by a process in a control group",
        run: alloc::charged,
        sized: true,
    },
    Experiment {
        name: "mmap",
        about: "mmap and first touch, munmap, access by the CPU",
        run: mapping::run,
        sized: true,
    },
    Experiment {
        name: "import",
        about: "attach, map, unmap, detach",
        run: import::import,
        sized: true,
    },
    Experiment {
        name: "bracket",
        about: "brackets of CPU access, with attachments of every kind",
        run: import::brackets,
        sized: true,
    },
    Experiment {
        name: "vmap",
        about: "mappings into the kernel",
        run: import::vmap,
        sized: true,
    },
    Experiment {
        name: "query",
        about: "the query",
        run: query::run,
        sized: false,
    },
    Experiment {
        name: "growth",
        about: "the same, against live buffers and against attachments",
        run: growth::run,
        sized: false,
    },
];

/// Runs one experiment on one heap after the other, `rounds` times, for each size.
pub fn run(
    recorder: &mut Recorder,
    experiment: &Experiment,
    heaps: &[(String, Heap)],
    sizes: &[usize],
    rounds: usize,
) -> Result<()> {
    let sizes = if experiment.sized { sizes } else { &[0] };
    for size in sizes {
        for _ in 0..rounds {
            for (name, heap) in heaps {
                recorder.on(name);
                let outcome = (experiment.run)(recorder, heap, *size);
                let what = || format!("{} of {size} bytes on {name}", experiment.name);
                match outcome {
                    Ok(()) => {}
                    Err(error) => match skipped(&error) {
                        Some(reason) => recorder.skip(experiment.name, reason),
                        None => return Err(error).with_context(what),
                    },
                }
            }
        }
    }
    Ok(())
}

/// Why an experiment could not be done, if it is no failure that it was not.
fn skipped(error: &Error) -> Option<String> {
    if let Some(Skip(reason)) = error.downcast_ref() {
        return Some(reason.clone());
    }
    // A buffer that is larger than the region, or than what is left of memory.
    let errno: &Errno = error.downcast_ref()?;
    (*errno == Errno::NOMEM).then(|| "not enough memory".into())
}

/// How many samples are taken of an operation on a buffer of this size.
fn samples(size: usize) -> usize {
    match size {
        0x0..=0xf_ffff => 17,
        0x10_0000..=0x7f_ffff => 9,
        0x80_0000..=0x1ff_ffff => 5,
        _ => 3,
    }
}

/// Allocates a buffer by a single system call.
fn allocate(heap: &Heap, size: usize) -> Result<OwnedFd> {
    Ok(heap.request_fd(&Request::new(size as u64))?)
}
