// SPDX-License-Identifier: GPL-2.0

//! What it costs to ask about a buffer.

use super::{allocate, samples};
use crate::recorder::Recorder;
use anyhow::{Error, Result};
use dmabuf_coherency_selftest::expect::Skip;
use dmabuf_coherency_selftest::heap::Heap;
use dmabuf_coherency_selftest::mapping::page_size;
use dmabuf_coherency_selftest::query::{self, Query};
use rustix::fd::AsRawFd as _;

pub fn run(recorder: &mut Recorder, heap: &Heap, _size: usize) -> Result<()> {
    let node = query::open().map_err(|error| Error::new(Skip(format!("{error:#}"))))?;
    let size = page_size();
    let buffer = allocate(heap, size)?;
    for _ in 0..samples(size) {
        let (_, time) = recorder.time(|| Ok(Query::about(buffer.as_raw_fd()).answer(&node)?))?;
        recorder.add("query", size as u64, time.own);
    }
    Ok(())
}
