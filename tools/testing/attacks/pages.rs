// SPDX-License-Identifier: GPL-2.0

// Pages in user space that do not outlive the buffer.

use crate::{
    dma_buf::DmaBuf,
    heap::Buffer,
    mm::{
        BufferVma,
        MappedVma, //
    },
    page::{
        Caching,
        Pages, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

fn mmap<'a>(_: &'a DmaBuf<Buffer>, vma: BufferVma<'a>) -> Result<MappedVma<'a>> {
    let pages: Arc<Pages> = Pages::new(Caching::WriteBack, None)?.into();

    vma.map_pages(&pages)
}
