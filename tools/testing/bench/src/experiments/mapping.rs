// SPDX-License-Identifier: GPL-2.0

//! What it costs a process to map a buffer, and to read and write it.

use super::{allocate, samples};
use crate::recorder::Recorder;
use anyhow::Result;
use dmabuf_coherency_selftest::heap::Heap;
use dmabuf_coherency_selftest::mapping::{Mapping, page_size};

/// What a large mapping has to be aligned to, for the largest page tables' entries.
const ALIGNMENT: usize = 2 << 20;

/// How often the CPU reads and writes all of a buffer.
const ACCESS_SAMPLES: usize = 3;

pub fn run(recorder: &mut Recorder, heap: &Heap, size: usize) -> Result<()> {
    let buffer = allocate(heap, size)?;
    let at = size as u64;
    for (suffix, shift) in [("aligned", 0), ("unaligned", page_size())] {
        let address = free_address(size)? + shift;
        for _ in 0..samples(size) {
            let (mapping, time) = recorder.time(|| {
                let mapping = Mapping::at(&buffer, size, address)?;
                mapping.touch();
                Ok(mapping)
            })?;
            // What the CPU's own stores take is no cost of the mapping.
            let ((), stores) = recorder.time(|| {
                mapping.touch();
                Ok(())
            })?;
            let first_touch = (time.own - stores.own).max(0.0);
            recorder.add(&format!("mmap.{suffix}"), at, first_touch);
            let ((), time) = recorder.time(|| {
                drop(mapping);
                Ok(())
            })?;
            recorder.add(&format!("munmap.{suffix}"), at, time.own);
        }
    }

    let mapping = Mapping::at(&buffer, size, free_address(size)?)?;
    for _ in 0..ACCESS_SAMPLES {
        let ((), time) = recorder.time(|| {
            mapping.write_words(0x5a5a_5a5a);
            Ok(())
        })?;
        recorder.add("cpu.write", at, time.own);
        let ((), time) = recorder.time(|| {
            mapping.read_words();
            Ok(())
        })?;
        recorder.add("cpu.read", at, time.own);
    }
    Ok(())
}

/// An aligned address where nothing is mapped, with room for `size` bytes and more.
fn free_address(size: usize) -> Result<usize> {
    let room = Mapping::anonymous(size + 2 * ALIGNMENT)?;
    Ok(room.address().next_multiple_of(ALIGNMENT))
}
