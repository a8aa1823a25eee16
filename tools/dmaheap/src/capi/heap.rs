// SPDX-License-Identifier: MIT OR GPL-2.0

//! Heaps.

use super::{Freed, NO_NUMBER, Out, answer, c_string, make, os_str, pointer};
use crate::heap::{Access, CpuMapping, Exporter, Heap};
use crate::system::System;
use std::ffi::{CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;

/// A heap, with its strings as C wants them.
pub struct CHeap {
    pub(super) heap: Heap,
    name: CString,
    node: CString,
    group: Option<CString>,
}

impl CHeap {
    pub(super) fn new(heap: Heap) -> Self {
        Self {
            name: c_string(heap.name.as_str()),
            node: c_string(heap.node.as_os_str().as_bytes()),
            group: match &heap.access {
                Access::Denied { group } => group.as_deref().map(c_string),
                _ => None,
            },
            heap,
        }
    }
}

/// Some heaps.
pub struct CHeaps(Vec<CHeap>);

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heaps_new(system: &System, out: Out<'_, CHeaps>) -> c_int {
    make(out, || {
        let heaps = system.heaps()?.into_iter();
        Ok(CHeaps(heaps.map(CHeap::new).collect()))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heaps_free(_: Freed<CHeaps>) {}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heaps_get(heaps: &CHeaps, index: usize) -> Option<&CHeap> {
    heaps.0.get(index)
}

/// # Safety
///
/// As [`os_str`] for `handle`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dmaheap_heap_new(
    system: &System,
    handle: *const c_char,
    out: Out<'_, CHeap>,
) -> c_int {
    make(out, || {
        // SAFETY: By the contract of this function.
        Ok(CHeap::new(system.heap(unsafe { os_str(handle) })?))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_free(_: Freed<CHeap>) {}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_name(heap: &CHeap) -> *const c_char {
    heap.name.as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_node(heap: &CHeap) -> *const c_char {
    heap.node.as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_exporter(heap: &CHeap) -> c_int {
    match heap.heap.exporter {
        Exporter::Other => 0,
        Exporter::Kernel => 1,
        Exporter::Module => 2,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_dma_coherent(heap: &CHeap) -> c_int {
    answer(heap.heap.dma_coherent)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_refuses_snooping(heap: &CHeap) -> c_int {
    answer(heap.heap.refuses_snooping)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_cpu_mapping(heap: &CHeap) -> c_int {
    cpu_mapping(heap.heap.cpu_mapping)
}

/// `DMAHEAP_MAPPING_*`
pub(super) fn cpu_mapping(mapping: Option<CpuMapping>) -> c_int {
    match mapping {
        None => 0,
        Some(CpuMapping::WriteBack) => 1,
        Some(CpuMapping::WriteCombining) => 2,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_contiguous(heap: &CHeap) -> c_int {
    answer(heap.heap.contiguous)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_capacity(heap: &CHeap) -> u64 {
    heap.heap.capacity.unwrap_or(NO_NUMBER)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_limit(heap: &CHeap) -> u64 {
    heap.heap.limit.unwrap_or(NO_NUMBER)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_buffers(heap: &CHeap) -> u64 {
    heap.heap.buffers.unwrap_or(NO_NUMBER)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_bytes(heap: &CHeap) -> u64 {
    heap.heap.bytes.unwrap_or(NO_NUMBER)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_refused(heap: &CHeap) -> u64 {
    heap.heap.refused.unwrap_or(NO_NUMBER)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_access(heap: &CHeap) -> c_int {
    match heap.heap.access {
        Access::Allowed => 0,
        Access::Denied { .. } => 1,
        Access::Forbidden => 2,
        Access::NoNode => 3,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_heap_group(heap: &CHeap) -> *const c_char {
    pointer(heap.group.as_ref())
}
