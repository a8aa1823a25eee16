// SPDX-License-Identifier: GPL-2.0

//! `/dev/dmabuf_coherency`: ioctls on a dma-buf of which user space has a file descriptor.
//!
//! C header: `include/uapi/linux/dmabuf_coherency.h`

use crate::{
    bindings::{
        self,
        dmabuf_coherency_query as Query,
        dmabuf_coherency_sync as Sync, //
    },
    heap::Buffer,
    kernel::{
        compat::eopnotsupp,
        dma_buf::DmaBuf,
        module::Forever, //
    },
    policy::CpuMapping, //
};
use core::mem::size_of;
use kernel::{
    dma::DataDirection,
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    transmute::FromBytes,
    uaccess::{
        UserPtr,
        UserSlice,
        UserSliceReader,
        UserSliceWriter, //
    }, //
};

/// An open file of the device node. It has no state.
struct Node;

/// Creates the device node. It exists as long as the module does.
///
/// # Errors
///
/// - [`EEXIST`] if another driver has a node of this name. The kernel then also dumps the stack.
/// - [`EBUSY`] if the node has been created before, or if no minor number is left.
/// - [`ENOMEM`] if there is not enough memory.
pub(crate) fn start(_forever: Forever) -> Result {
    static IS_STARTED: Atomic<bool> = Atomic::new(false);

    if IS_STARTED.xchg(true, Relaxed) {
        return Err(EBUSY);
    }
    let options = MiscDeviceOptions {
        name: c"dmabuf_coherency",
    };

    let node = KBox::pin_init(
        MiscDeviceRegistration::<Node>::register(options),
        GFP_KERNEL,
    )?;
    core::mem::forget(node);
    Ok(())
}

#[vtable]
impl MiscDevice for Node {
    type Ptr = ();

    fn open(_file: &File, _node: &MiscDeviceRegistration<Self>) -> Result {
        Ok(())
    }

    fn ioctl(_node: (), _file: &File, request: u32, arg: usize) -> Result<isize> {
        match request {
            bindings::DMACOH_IOCTL_QUERY => query(UserPtr::from_addr(arg)),
            bindings::DMACOH_IOCTL_SYNC => sync(UserPtr::from_addr(arg)),
            _ => Err(ENOTTY),
        }
        .map(|()| 0)
    }
}

// Neither structure has grown since its first version.
const _: () = {
    assert!(size_of::<Query>() == bindings::DMABUF_COHERENCY_QUERY_SIZE_VER0 as usize);
    assert!(size_of::<Sync>() == bindings::DMABUF_COHERENCY_SYNC_SIZE_VER0 as usize);
};

/// Reads a request from user space, and returns it together with a writer for the answer.
///
/// A request is a structure whose first field is its size in bytes. Later versions may add fields
/// at the end. `T` has the fields that this version knows. A caller may pass more fields, if all
/// of them are zero.
///
/// # Errors
///
/// - [`EINVAL`] if the request is smaller than `T`.
/// - [`E2BIG`] if it is larger than a page, or if a field behind `T` is not zero.
/// - [`EFAULT`] if it cannot be read.
fn read<T: FromBytes>(arg: UserPtr) -> Result<(T, UserSliceWriter)> {
    let size: u32 = UserSlice::new(arg, size_of::<u32>()).reader().read()?;
    // CAST: `usize` is at least as large as `u32`.
    let size = size as usize;
    if size < size_of::<T>() {
        return Err(EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(E2BIG);
    }

    let (mut reader, writer) = UserSlice::new(arg, size).reader_writer();
    let request = reader.read()?;
    if !is_zero(reader)? {
        return Err(E2BIG);
    }
    Ok((request, writer))
}

/// Handles `DMABUF_COHERENCY_IOCTL_QUERY`.
fn query(arg: UserPtr) -> Result {
    let (request, mut writer) = read::<Query>(arg)?;
    if request.flags != 0 {
        return Err(EINVAL);
    }

    let mut answer = Query {
        size: request.size,
        fd: request.fd,
        ..pin_init::zeroed()
    };
    if let Some(buf) = DmaBuf::<Buffer>::get(request.fd)? {
        describe(&buf, &mut answer);
    }
    writer.write(&answer)
}

/// Returns whether all bytes that `reader` has left are zero.
fn is_zero(mut reader: UserSliceReader) -> Result<bool> {
    let mut chunk = [0; 64];

    while !reader.is_empty() {
        let len = reader.len().min(chunk.len());
        let chunk = &mut chunk[..len];

        reader.read_slice(chunk)?;
        if chunk.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn describe(buf: &Buffer, answer: &mut Query) {
    let heap = buf.heap();
    let kind = heap.kind();

    answer.cpu_mapping = match kind.cpu_mapping() {
        CpuMapping::WriteBack => bindings::DMABUF_COHERENCY_MAPPING_WRITE_BACK,
        CpuMapping::WriteCombining => bindings::DMABUF_COHERENCY_MAPPING_WRITE_COMBINING,
    };
    answer.properties = bindings::DMACOH_EXPORTED_HERE;
    if kind.is_dma_coherent() {
        answer.properties |= bindings::DMACOH_DMA_COHERENT;
    }
    if kind.region.is_contiguous() {
        answer.properties |= bindings::DMACOH_CONTIGUOUS;
    }

    // The last byte stays zero: it ends the string.
    let room = answer.heap.len() - 1;
    for (to, from) in answer.heap[..room].iter_mut().zip(heap.name().to_bytes()) {
        *to = *from;
    }
}

/// Handles `DMABUF_COHERENCY_IOCTL_SYNC`.
fn sync(arg: UserPtr) -> Result {
    let (request, _) = read::<Sync>(arg)?;
    let buf = DmaBuf::<Buffer>::get(request.fd)?.ok_or_else(eopnotsupp)?;
    let is_end = request.flags & u64::from(bindings::DMA_BUF_SYNC_END) != 0;
    let dir = match (request.flags & !u64::from(bindings::DMA_BUF_SYNC_END)).try_into() {
        Ok(bindings::DMA_BUF_SYNC_READ) => DataDirection::FromDevice,
        Ok(bindings::DMA_BUF_SYNC_WRITE) => DataDirection::ToDevice,
        Ok(bindings::DMA_BUF_SYNC_RW) => DataDirection::Bidirectional,
        _ => return Err(EINVAL),
    };
    let (offset, length): (usize, usize) = (request.offset.try_into()?, request.length.try_into()?);
    let end = offset
        .checked_add(length)
        .filter(|end| length > 0 && *end <= buf.size())
        .ok_or(EINVAL)?;

    if is_end {
        Buffer::end_access(&buf, dir, offset..end);
        Ok(())
    } else {
        // The dma-buf core also waits for devices in `DMA_BUF_IOCTL_SYNC`, whatever the exporter
        // does.
        buf.wait_for_devices(dir)?;
        Buffer::begin_access(&buf, dir, offset..end)
    }
}
