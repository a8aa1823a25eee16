// SPDX-License-Identifier: MIT OR GPL-2.0

//! Allocation, access of the CPU, and the query.

use super::heap::{CHeap, cpu_mapping};
use super::{Freed, Out, Result};
use super::{answer, borrow_fd, c_string, check_flags, make, number, os_str, pointer};
use crate::buffer::{Allocator, Buffer, Request};
use crate::error::Error;
use crate::ioctl;
use crate::map::Mapped;
use crate::query::{Answer, query};
use rustix::fd::{IntoRawFd as _, OwnedFd};
use rustix::io::fcntl_dupfd_cloexec;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ops::Range;

const READ_ONLY: u32 = 1 << 0;

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_allocator_new(heap: &CHeap, out: Out<'_, Allocator>) -> c_int {
    make(out, || Ok(heap.heap.open()?))
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_allocator_free(_: Freed<Allocator>) {}

/// # Safety
///
/// As [`os_str`] for `name`, if that is not NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dmaheap_alloc(
    allocator: &Allocator,
    size: u64,
    name: *const c_char,
    flags: u32,
) -> c_int {
    number(|| {
        check_flags(flags, READ_ONLY)?;
        let mut request = Request::new(size);
        if flags & READ_ONLY != 0 {
            request = request.read_only();
        }
        if !name.is_null() {
            // SAFETY: By the contract of this function.
            request = request.name(unsafe { os_str(name) });
        }
        let buffer = allocator.alloc(&request)?;
        Ok(OwnedFd::from(buffer).into_raw_fd())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_mapping_new(fd: c_int, out: Out<'_, Mapped>) -> c_int {
    make(out, || {
        let own = fcntl_dupfd_cloexec(borrow_fd(&fd)?, 0);
        let own = own.map_err(Error::io("duplicating a descriptor"))?;
        Ok(Buffer::from_fd(own)?.map()?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_mapping_free(_: Freed<Mapped>) {}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_mapping_data(mapping: &Mapped) -> *mut c_void {
    mapping.start.as_ptr().cast()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_mapping_size(mapping: &Mapped) -> usize {
    mapping.buffer().size()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_mapping_begin(mapping: &Mapped, flags: u32) -> c_int {
    number(|| {
        mapping.begin(direction(flags)?, None)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_mapping_end(mapping: &Mapped, flags: u32) -> c_int {
    number(|| {
        mapping.end(direction(flags)?, None)?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_mapping_begin_part(
    mapping: &Mapped,
    flags: u32,
    offset: usize,
    length: usize,
) -> c_int {
    number(|| {
        let part = part(mapping, offset, length)?;
        mapping.begin(direction(flags)?, Some(&part))?;
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_mapping_end_part(
    mapping: &Mapped,
    flags: u32,
    offset: usize,
    length: usize,
) -> c_int {
    number(|| {
        let part = part(mapping, offset, length)?;
        mapping.end(direction(flags)?, Some(&part))?;
        Ok(0)
    })
}

/// The flags of C are those of the kernel.
fn direction(flags: u32) -> Result<u64> {
    let both = ioctl::DMA_BUF_SYNC_READ | ioctl::DMA_BUF_SYNC_WRITE;
    check_flags(flags, both as u32)?;
    Ok(flags.into())
}

fn part(mapping: &Mapped, offset: usize, length: usize) -> Result<Range<usize>> {
    let end = offset.checked_add(length).ok_or(Error::OutOfBounds {
        offset,
        len: length,
        within: 0..mapping.buffer().size(),
    })?;
    Ok(offset..end)
}

/// An answer, with its string as C wants it.
pub struct CQuery {
    answer: Answer,
    heap: Option<CString>,
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_query_new(fd: c_int, out: Out<'_, CQuery>) -> c_int {
    make(out, || {
        let answer = query(borrow_fd(&fd)?)?;
        let heap = answer.heap.as_deref().map(c_string);
        Ok(CQuery { answer, heap })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_query_free(_: Freed<CQuery>) {}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_query_exported_here(query: &CQuery) -> c_int {
    query.answer.exported_here.into()
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_query_dma_coherent(query: &CQuery) -> c_int {
    answer(query.answer.dma_coherent)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_query_contiguous(query: &CQuery) -> c_int {
    answer(query.answer.contiguous)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_query_cpu_mapping(query: &CQuery) -> c_int {
    cpu_mapping(query.answer.cpu_mapping)
}

#[unsafe(no_mangle)]
pub extern "C" fn dmaheap_query_heap(query: &CQuery) -> *const c_char {
    pointer(query.heap.as_ref())
}
