// SPDX-License-Identifier: GPL-2.0

// A dma-buf of a module that goes: it is released later than the function that drops it.

use crate::{
    heap::Buffer,
    kernel::dma_buf::DmaBuf, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

fn export(buffer: Buffer) -> Result<ARef<DmaBuf<Buffer>>> {
    DmaBuf::export(c"export", PAGE_SIZE, 0, Ok(buffer))
}
