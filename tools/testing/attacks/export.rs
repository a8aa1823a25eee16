// SPDX-License-Identifier: GPL-2.0

// A dma-buf of a module that goes: it is released later than the function that drops it.

use crate::{
    dma_buf::DmaBuf,
    heap::Buffer, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

fn export(buffer: Buffer) -> Result<ARef<DmaBuf<Buffer>>> {
    DmaBuf::export(c"export", PAGE_SIZE, 0, Ok(buffer))
}
