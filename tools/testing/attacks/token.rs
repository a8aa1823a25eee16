// SPDX-License-Identifier: GPL-2.0

// What runs with the reservation lock held, for somebody who does not hold it.

use crate::{
    heap::Buffer,
    kernel::{
        dma_buf::{
            DmaBuf,
            Exporter,
            Mapping,
            Reserved, //
        },
        dma_mapping::DmaDevice,
        mm::vmalloc::VMap, //
    }, //
};
use kernel::{
    prelude::*,
    types::NotThreadSafe, //
};

fn map(buf: &DmaBuf<Buffer>, dev: DmaDevice<'_>) -> Result<Mapping> {
    Buffer::map(buf, dev)
}

fn vmap(buf: &DmaBuf<Buffer>) -> Result<VMap> {
    Buffer::vmap(Reserved(buf, NotThreadSafe))
}
