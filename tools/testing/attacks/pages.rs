// SPDX-License-Identifier: GPL-2.0

// Pages in user space that do not outlive the buffer.

use crate::{
    heap::Buffer,
    kernel::{
        dma_buf::DmaBuf,
        mm::{
            page::{
                Caching,
                Pages, //
            },
            BufferVma,
            MappedVma, //
        }, //
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
