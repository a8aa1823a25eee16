// SPDX-License-Identifier: GPL-2.0

//! Buffers that an importer in the kernel has lost.

use crate::bufinfo::{self, Listed};
use crate::options::is_ours;
use anyhow::Result;
use std::ffi::CStr;

/// The name that tests give to buffers that an importer in the kernel has lost. If
/// videobuf2 of Linux 7.3 cannot attach a device, it forgets its reference to the buffer,
/// with any exporter. Such a buffer lives for ever. It is no leak of the heap, and does
/// not count as one.
pub const LOST: &CStr = c"lost by its importer";

pub fn is_lost(buffer: &Listed) -> bool {
    buffer.name.as_bytes() == LOST.to_bytes()
}

/// The lost buffers of the module's heaps.
pub fn lost() -> Result<impl Iterator<Item = Listed>> {
    let listed = bufinfo::list()?.into_iter();
    Ok(listed.filter(|buffer| is_ours(&buffer.exporter) && is_lost(buffer)))
}
