// SPDX-License-Identifier: GPL-2.0

//! The ioctls and their arguments.
//!
//! C header: `dmabuf_importer.h`

use crate::bindings;
use kernel::transmute::{
    AsBytes,
    FromBytes, //
};

pub(crate) use bindings::{
    dmabuf_importer_access as Access,
    dmabuf_importer_attach as Attach,
    dmabuf_importer_cpu_access as CpuAccess,
    dmabuf_importer_handle as Handle,
    dmabuf_importer_map as Map,
    dmabuf_importer_mask as Mask,
    dmabuf_importer_query as Query,
    dmabuf_importer_setup as Setup,
    dmabuf_importer_vmap as VMap,
    DMABUF_IMPORTER_BIDIRECTIONAL as BIDIRECTIONAL,
    DMABUF_IMPORTER_DYNAMIC as DYNAMIC,
    DMABUF_IMPORTER_EDU as EDU,
    DMABUF_IMPORTER_FROM_DEVICE as FROM_DEVICE,
    DMABUF_IMPORTER_IOMEM as IOMEM,
    DMABUF_IMPORTER_NO_MASK as NO_MASK,
    DMABUF_IMPORTER_SNOOPS as SNOOPS,
    DMABUF_IMPORTER_TO_DEVICE as TO_DEVICE,
    DMABUF_IMPORTER_UNCOUNTED as UNCOUNTED,
    DMABUF_IMPORTER_VMALLOC as VMALLOC, //
};

pub(crate) mod ioctl {
    //! The ioctl numbers.

    pub(crate) use crate::bindings::{
        IMPORTER_ATTACH as ATTACH,
        IMPORTER_BEGIN_CPU_ACCESS as BEGIN_CPU_ACCESS,
        IMPORTER_DETACH as DETACH,
        IMPORTER_END_CPU_ACCESS as END_CPU_ACCESS,
        IMPORTER_KREAD as KREAD,
        IMPORTER_KWRITE as KWRITE,
        IMPORTER_MAP as MAP,
        IMPORTER_MASK as MASK,
        IMPORTER_QUERY as QUERY,
        IMPORTER_READ as READ,
        IMPORTER_SETUP as SETUP,
        IMPORTER_UNMAP as UNMAP,
        IMPORTER_VMAP as VMAP,
        IMPORTER_VUNMAP as VUNMAP,
        IMPORTER_WRITE as WRITE, //
    };
}

/// The argument of an ioctl.
pub(crate) trait Argument: FromBytes + AsBytes {}

macro_rules! arguments {
    ($($t:ident { $($field:ident: $ty:ty),* $(,)? })*) => {
        $(
            // If there is no padding, the sizes of the fields add up to that of the structure.
            const _: () = {
                let size = 0 $(+ size_of::<$ty>())*;
                assert!(size_of::<$t>() == size);
                let _ = |arg: $t| {
                    $(let _: $ty = arg.$field;)*
                };
            };

            // SAFETY: All fields are integers.
            unsafe impl FromBytes for $t {}

            // SAFETY: All fields are integers, and as checked above there is no padding.
            unsafe impl AsBytes for $t {}

            impl Argument for $t {}
        )*
    };
}

arguments! {
    Access { handle: u32, flags: u32, offset: u64, length: u64, data: u64 }
    Attach { fd: i32, flags: u32, attachment: u32, reserved: u32 }
    CpuAccess { fd: i32, direction: u32 }
    Handle { handle: u32, flags: u32 }
    Map {
        attachment: u32,
        direction: u32,
        flags: u32,
        mapping: u32,
        segments: u32,
        crossing: u32,
        length: u64,
        largest: u64,
    }
    Mask { flags: u32, mask_bits: u32 }
    Query { fd: i32, flags: u32, seen_from_rust: u32, seen_from_c: u32 }
    Setup {
        flags: u32,
        mask_bits: u32,
        max_segment_size: u32,
        number: u32,
        segment_boundary: u64,
        offset: u64,
    }
    VMap { fd: i32, flags: u32, vmap: u32, place: u32 }
}
