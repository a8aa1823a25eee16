// SPDX-License-Identifier: GPL-2.0

//! Abstractions for importing dma-bufs.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)
//!
//! | C function | here |
//! |---|---|
//! | `dma_buf_get()`, `dma_buf_put()` | [`DmaBuf::get`], drop of the [`ARef`] |
//! | `dma_buf_attach()`, `dma_buf_dynamic_attach()`, `dma_buf_detach()` | [`Attachment`] |
//! | `dma_buf_map_attachment()`, `dma_buf_unmap_attachment()` | [`Mapping`] |
//! | `dma_buf_vmap()`, `dma_buf_vunmap()` | [`VMap`] |
//! | `dma_buf_begin_cpu_access()`, `dma_buf_end_cpu_access()` | methods of the same name |
//!
//! Each type undoes its operation when it is dropped. Each value keeps alive what it needs: a
//! mapping keeps its attachment, and an attachment keeps its buffer and its device. So values can
//! be dropped in any order.
//!
//! # Locking
//!
//! All functions and drops here may sleep. They take the reservation lock of the buffer where the
//! dma-buf locking convention for importers demands it. The caller must not hold that lock.
//!
//! # What exporters promise
//!
//! Exporters are C code, or Rust code on the other side of the C API. This code relies on their
//! part of the dma-buf contract:
//!
//! - Until a mapping is undone, its table names the memory of the buffer.
//! - Until `vunmap`, the address that `vmap` returned is the memory of the buffer.

use crate::{
    bindings,
    device::Device, //
};
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    dma::DataDirection,
    error::{
        from_err_ptr,
        to_result, //
    },
    page::PAGE_SIZE,
    prelude::*,
    scatterlist::SGTable,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        Arc, //
    },
    types::{
        NotThreadSafe,
        Opaque,
        ScopeGuard, //
    }, //
};

/// The direction of a transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The device reads and writes.
    Bidirectional,
    /// The device reads.
    ToDevice,
    /// The device writes.
    FromDevice,
}

impl From<Direction> for bindings::dma_data_direction {
    fn from(dir: Direction) -> Self {
        match dir {
            Direction::Bidirectional => DataDirection::Bidirectional,
            Direction::ToDevice => DataDirection::ToDevice,
            Direction::FromDevice => DataDirection::FromDevice,
        }
        .into()
    }
}

/// A mapping of a buffer's memory. Others may change the memory at any time. So this trait copies
/// data, and never lends a reference to it.
pub(crate) trait Memory {
    /// Returns the size in bytes.
    fn size(&self) -> u64;

    /// Copies data from `offset` in the memory to `to`.
    ///
    /// # Errors
    ///
    /// - [`EACCES`] if the mapping does not permit reading.
    /// - [`EINVAL`] if the range exceeds the memory.
    /// - [`ENXIO`] if the CPU cannot access the memory.
    fn read(&self, offset: u64, to: &mut [u8]) -> Result;

    /// Copies data from `from` to `offset` in the memory.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`].
    fn write(&self, offset: u64, from: &[u8]) -> Result;

    /// Returns [`EINVAL`] if the memory does not have `len` bytes at `offset`.
    fn check(&self, offset: u64, len: u64) -> Result {
        match offset.checked_add(len) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(EINVAL),
        }
    }
}

/// A dma-buf of any exporter.
#[repr(transparent)]
pub(crate) struct DmaBuf(Opaque<bindings::dma_buf>);

// SAFETY: A dma-buf may be used and released by any task.
unsafe impl Send for DmaBuf {}

// SAFETY: As above, at the same time.
unsafe impl Sync for DmaBuf {}

// SAFETY: The references are those of the dma-buf's file. A dma-buf lives as long as its file.
unsafe impl AlwaysRefCounted for DmaBuf {
    fn inc_ref(&self) {
        // SAFETY: `self` is proof of a reference.
        unsafe { bindings::get_file((*self.as_raw()).file) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::dma_buf_put(obj.cast().as_ptr()) };
    }
}

impl DmaBuf {
    /// Returns the dma-buf behind a file descriptor of the current task.
    ///
    /// # Errors
    ///
    /// - [`EBADF`] if the file descriptor is not open.
    /// - [`EINVAL`] if the file is no dma-buf.
    pub(crate) fn get(fd: i32) -> Result<ARef<Self>> {
        // SAFETY: A descriptor may have any value.
        let buf = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;

        // SAFETY: `dma_buf_get()` returns a reference, never NULL.
        Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(buf.cast())) })
    }

    fn as_raw(&self) -> *mut bindings::dma_buf {
        self.0.get()
    }

    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> usize {
        // SAFETY: The dma-buf is valid; its size never changes.
        unsafe { (*self.as_raw()).size }
    }

    /// Returns whether the exporter checks that a device has a DMA mask before it maps the buffer.
    fn looks_for_mask(&self) -> bool {
        // SAFETY: The dma-buf is valid.
        let owner = unsafe { (*self.as_raw()).owner };
        if owner.is_null() {
            return false;
        }
        // SAFETY: The dma-buf holds a reference to its exporter's module. The name of a module is a
        // C string that does not change.
        let name = unsafe { CStr::from_char_ptr((&raw const (*owner).name).cast()) };

        name == c"dmabuf_coherency"
    }

    /// Waits for devices, and makes what they have written visible to the CPU.
    pub(crate) fn begin_cpu_access(&self, dir: Direction) -> Result {
        // SAFETY: The dma-buf is valid, and so is the direction.
        to_result(unsafe { bindings::dma_buf_begin_cpu_access(self.as_raw(), dir.into()) })
    }

    /// Makes what the CPU has written visible to devices.
    pub(crate) fn end_cpu_access(&self, dir: Direction) -> Result {
        // SAFETY: The dma-buf is valid, and so is the direction.
        to_result(unsafe { bindings::dma_buf_end_cpu_access(self.as_raw(), dir.into()) })
    }

    /// Returns the result of `dmabuf_is_dma_coherent()`, called from Rust.
    pub(crate) fn is_dma_coherent(&self) -> bool {
        // SAFETY: `self` is proof of a reference.
        unsafe { bindings::dmabuf_is_dma_coherent(self.as_raw()) }
    }

    /// Returns the result of `dmabuf_is_dma_coherent()`, called from C.
    pub(crate) fn is_dma_coherent_from_c(&self) -> bool {
        // SAFETY: `self` is proof of a reference.
        unsafe { bindings::importer_is_dma_coherent_from_c(self.as_raw()) }
    }

    /// Takes the reservation lock.
    fn reserve(&self) -> Reservation<'_> {
        // SAFETY: The dma-buf is valid, and keeps its reservation object. The call cannot fail,
        // because there is no acquire context.
        unsafe { bindings::dma_resv_lock((*self.as_raw()).resv, core::ptr::null_mut()) };

        // INVARIANT: The lock has just been taken.
        Reservation(self, NotThreadSafe)
    }
}

/// A guard of the reservation lock of a dma-buf.
///
/// # Invariants
///
/// The current task holds the reservation lock of the dma-buf.
struct Reservation<'a>(&'a DmaBuf, NotThreadSafe);

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::dma_resv_unlock((*self.0.as_raw()).resv) };
    }
}

/// How an importer makes sure that the exporter does not move a buffer while it is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The dma-buf core pins the buffer when the importer maps it.
    Static,
    /// The importer pins the buffer itself, for as long as it is mapped. So the buffer does not
    /// move meanwhile, and the importer needs no callback for moves.
    Dynamic,
}

impl Kind {
    const DYNAMIC: &'static bindings::dma_buf_attach_ops = &bindings::dma_buf_attach_ops {
        allow_peer2peer: false,
        invalidate_mappings: None,
    };
}

/// An attachment of a device to a dma-buf. The drop detaches the device.
///
/// # Invariants
///
/// - `raw` is an attachment of `device` to `buf`, and nobody else detaches it.
/// - The attachment is dynamic if `kind` says so.
pub(crate) struct Attachment {
    // `drop()` detaches the device before the references to the buffer and the device are dropped.
    raw: NonNull<bindings::dma_buf_attachment>,
    kind: Kind,
    buf: ARef<DmaBuf>,
    device: Arc<Device>,
}

// SAFETY: An attachment does not belong to a task. Any task that may sleep can detach it.
unsafe impl Send for Attachment {}

// SAFETY: All methods of a shared `Attachment` require the reservation lock.
unsafe impl Sync for Attachment {}

impl Attachment {
    /// Attaches `device` to `buf`. Passes on the exporter's error unchanged.
    pub(crate) fn new(device: Arc<Device>, buf: ARef<DmaBuf>, kind: Kind) -> Result<Self> {
        let raw = match kind {
            // SAFETY: The buffer and the device are valid. The device stays bound until the
            // attachment is gone, because `Attachment` holds a reference to it.
            Kind::Static => unsafe { bindings::dma_buf_attach(buf.as_raw(), device.as_raw()) },
            // SAFETY: As above. The callbacks are static.
            Kind::Dynamic => unsafe {
                bindings::dma_buf_dynamic_attach(
                    buf.as_raw(),
                    device.as_raw(),
                    Kind::DYNAMIC,
                    core::ptr::null_mut(),
                )
            },
        };

        // INVARIANT: Unless there was an error, `raw` is the new attachment, of this kind.
        Ok(Self {
            // SAFETY: These functions never return NULL.
            raw: unsafe { NonNull::new_unchecked(from_err_ptr(raw)?) },
            kind,
            buf,
            device,
        })
    }

    /// Maps the attachment. The caller must hold the reservation lock of the buffer.
    fn map(&self, dir: Direction, _reservation: &Reservation<'_>) -> Result<SGTablePtr> {
        // SAFETY: The attachment is valid; the lock is held.
        let table = unsafe { bindings::dma_buf_map_attachment(self.raw.as_ptr(), dir.into()) };

        // SAFETY: This function never returns NULL.
        from_err_ptr(table).map(|table| unsafe { NonNull::new_unchecked(table) })
    }

    /// Undoes [`Attachment::map`].
    ///
    /// # Safety
    ///
    /// `table` must come from [`Attachment::map`] of `self` with the same direction, and must not
    /// be used any more.
    unsafe fn unmap(&self, table: SGTablePtr, dir: Direction, _reservation: &Reservation<'_>) {
        // SAFETY: By this function's safety requirements; the lock is held.
        unsafe {
            bindings::dma_buf_unmap_attachment(self.raw.as_ptr(), table.as_ptr(), dir.into())
        };
    }

    /// Pins the buffer if the attachment is dynamic. Otherwise [`Attachment::map`] pins it.
    fn pin(&self, _reservation: &Reservation<'_>) -> Result {
        match self.kind {
            Kind::Static => Ok(()),
            // SAFETY: The attachment is valid and dynamic; the lock is held.
            Kind::Dynamic => to_result(unsafe { bindings::dma_buf_pin(self.raw.as_ptr()) }),
        }
    }

    /// Undoes [`Attachment::pin`].
    fn unpin(&self, _reservation: &Reservation<'_>) {
        if self.kind == Kind::Dynamic {
            // SAFETY: The attachment is valid and dynamic; the lock is held.
            unsafe { bindings::dma_buf_unpin(self.raw.as_ptr()) };
        }
    }

    /// Waits until the exporter has finished moving the buffer, if the attachment is dynamic.
    /// Otherwise [`Attachment::map`] has waited.
    fn wait(&self, _reservation: &Reservation<'_>) -> Result {
        if self.kind == Kind::Static {
            return Ok(());
        }

        // SAFETY: The dma-buf is valid, and keeps its reservation object.
        let left = unsafe {
            bindings::dma_resv_wait_timeout(
                (*self.buf.as_raw()).resv,
                bindings::dma_resv_usage_DMA_RESV_USAGE_KERNEL,
                true,
                // `MAX_SCHEDULE_TIMEOUT`.
                c_long::MAX as c_ulong,
            )
        };
        to_result(left.min(0) as c_int)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY: By the type invariants only this detaches it. It is not mapped, because a
        // `Mapping` would hold a reference to `self`.
        unsafe { bindings::dma_buf_detach(self.buf.as_raw(), self.raw.as_ptr()) };
    }
}

/// The table that the exporter returns for a mapping.
type SGTablePtr = NonNull<bindings::sg_table>;

/// A DMA mapping of an attachment. The drop unmaps it. Its [`Memory`] is what the device sees.
///
/// # Invariants
///
/// - `table` is a mapping of `attachment` in direction `dir`, and nobody else unmaps it.
/// - The buffer is pinned.
pub(crate) struct Mapping {
    table: SGTablePtr,
    dir: Direction,
    attachment: Arc<Attachment>,
}

// SAFETY: A mapping does not belong to a task. Any task that may sleep can unmap it.
unsafe impl Send for Mapping {}

// SAFETY: The table does not change while it is mapped. The memory behind it is only copied, by C
// code.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `attachment`. Passes on the exporter's error unchanged.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the device has no DMA mask and the exporter does not check this. The DMA API
    ///   would warn about the mapping.
    /// - [`ERESTARTSYS`] if a signal came while the exporter was moving the buffer.
    pub(crate) fn new(attachment: Arc<Attachment>, dir: Direction) -> Result<Self> {
        if !attachment.device.has_mask() && !attachment.buf.looks_for_mask() {
            return Err(EINVAL);
        }

        let reservation = attachment.buf.reserve();

        attachment.pin(&reservation)?;
        let pinned = ScopeGuard::new(|| attachment.unpin(&reservation));

        let table = attachment.map(dir, &reservation)?;
        attachment.wait(&reservation).inspect_err(|_| {
            // SAFETY: `table` has just been mapped in this direction, and nobody uses it.
            unsafe { attachment.unmap(table, dir, &reservation) };
        })?;

        pinned.dismiss();
        drop(reservation);

        // SAFETY: The device and the buffer are valid, and the table is mapped for the device.
        unsafe {
            bindings::importer_tell(
                attachment.device.as_raw(),
                attachment.buf.as_raw(),
                table.as_ptr(),
            )
        };

        // INVARIANT: The attachment has been pinned and mapped.
        Ok(Self {
            table,
            dir,
            attachment,
        })
    }

    /// Returns whether this is a mapping of `attachment`.
    pub(crate) fn is_of(&self, attachment: &Arc<Attachment>) -> bool {
        Arc::ptr_eq(&self.attachment, attachment)
    }

    /// Iterates over the DMA address and the length of each segment.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (bindings::dma_addr_t, u64)> + '_ {
        // SAFETY: By the type invariants the table is valid, and the exporter does not change it
        // while it is mapped.
        let table = unsafe { SGTable::from_raw(self.table.as_ptr()) };

        table
            .iter()
            .map(|entry| (entry.dma_address(), entry.dma_len()))
    }

    /// Returns four properties of the segments: their number, the number of those that cross the
    /// device's boundary, their total size, and the size of the largest. Sizes are in bytes.
    pub(crate) fn measure(&self) -> (u32, u32, u64, u64) {
        let (mut segments, mut crossing, mut length, mut largest) = (0, 0, 0, 0);

        // SAFETY: By the type invariants the table is valid, and so is the attachment's device.
        unsafe {
            bindings::importer_measure(
                self.attachment.device.as_raw(),
                self.table.as_ptr(),
                &mut segments,
                &mut crossing,
                &mut length,
                &mut largest,
            )
        };
        (segments, crossing, length, largest)
    }

    /// Splits a range at page boundaries, and calls `access` for each piece. Passes the DMA address
    /// of the piece, and its position in the range.
    fn for_each_piece(
        &self,
        offset: u64,
        len: usize,
        mut access: impl FnMut(bindings::dma_addr_t, Range<usize>) -> Result,
    ) -> Result {
        self.check(offset, len.try_into()?)?;

        let mut skip = offset;
        let mut done = 0;
        for (start, size) in self.segments() {
            while skip < size && done < len {
                let addr = start + skip;
                let in_page = PAGE_SIZE - addr as usize % PAGE_SIZE;
                let in_segment = usize::try_from(size - skip)?;
                let piece = in_page.min(in_segment).min(len - done);

                access(addr, done..done + piece)?;
                done += piece;
                skip += piece as u64;
            }
            skip -= skip.min(size);
        }

        Ok(())
    }
}

impl Memory for Mapping {
    fn size(&self) -> u64 {
        self.segments().map(|(_, size)| size).sum()
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> Result {
        if self.dir == Direction::FromDevice {
            return Err(EACCES);
        }

        let dev = &self.attachment.device;
        self.for_each_piece(offset, to.len(), |addr, range| {
            // SAFETY: By the type invariants the memory at `addr` is mapped for the device, in a
            // direction that permits this. The range does not exceed the page.
            unsafe { dev.read(addr, &mut to[range]) }
        })
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result {
        if self.dir == Direction::ToDevice {
            return Err(EACCES);
        }

        let dev = &self.attachment.device;
        self.for_each_piece(offset, from.len(), |addr, range| {
            // SAFETY: As in `read()`.
            unsafe { dev.write(addr, &from[range]) }
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let reservation = self.attachment.buf.reserve();

        // SAFETY: By the type invariants `table` is mapped in this direction. Nobody uses it any
        // more.
        unsafe { self.attachment.unmap(self.table, self.dir, &reservation) };
        self.attachment.unpin(&reservation);
    }
}

/// Where a kernel mapping is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the kernel's direct mapping.
    DirectMapping,
    /// In the vmalloc area.
    Vmalloc,
    /// In I/O memory.
    Io,
}

/// A kernel mapping of a whole dma-buf. The drop unmaps it.
///
/// # Invariants
///
/// `map` is the result of `dma_buf_vmap()` for `buf`, and is still mapped.
pub(crate) struct VMap {
    map: bindings::iosys_map,
    buf: ARef<DmaBuf>,
}

// SAFETY: A kernel mapping does not belong to a task. Any task that may sleep can unmap it.
unsafe impl Send for VMap {}

// SAFETY: The memory behind a shared `VMap` is only copied, by C code.
unsafe impl Sync for VMap {}

impl VMap {
    /// Maps `buf`. Passes on the exporter's error unchanged.
    pub(crate) fn new(buf: ARef<DmaBuf>) -> Result<Self> {
        let mut map = bindings::iosys_map::default();

        // SAFETY: The dma-buf is valid, and `map` may be written.
        to_result(unsafe { bindings::dma_buf_vmap_unlocked(buf.as_raw(), &mut map) })?;

        // INVARIANT: `map` is the result of the call above.
        Ok(Self { map, buf })
    }

    /// Returns where the mapping is.
    pub(crate) fn place(&self) -> Place {
        if self.map.is_iomem {
            return Place::Io;
        }
        // SAFETY: As just checked, this field of the union is in use. The function accepts any
        // address.
        if unsafe { bindings::is_vmalloc_addr(self.map.__bindgen_anon_1.vaddr) } {
            return Place::Vmalloc;
        }
        Place::DirectMapping
    }
}

impl Memory for VMap {
    fn size(&self) -> u64 {
        self.buf.size() as u64
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> Result {
        self.check(offset, to.len() as u64)?;

        // SAFETY: By the type invariants the buffer is mapped. As checked above, the range lies in
        // it. `to` may be written for its length.
        unsafe {
            bindings::importer_iosys_map_memcpy_from(
                to.as_mut_ptr().cast(),
                &self.map,
                offset as usize,
                to.len(),
            )
        };
        Ok(())
    }

    fn write(&self, offset: u64, from: &[u8]) -> Result {
        self.check(offset, from.len() as u64)?;
        let mut map = self.map;

        // SAFETY: As in `read()`.
        unsafe {
            bindings::importer_iosys_map_memcpy_to(
                &mut map,
                offset as usize,
                from.as_ptr().cast(),
                from.len(),
            )
        };
        Ok(())
    }
}

impl Drop for VMap {
    fn drop(&mut self) {
        // SAFETY: By the type invariants `map` is mapped. Only this unmaps it.
        unsafe { bindings::dma_buf_vunmap_unlocked(self.buf.as_raw(), &mut self.map) };
    }
}
