// SPDX-License-Identifier: GPL-2.0

// A mapped table that outlives its attachment.

use crate::kernel::{
    dma_mapping::{
        Attrs,
        DmaDevice, //
    },
    mm::page::Pages,
    scatterlist::MappedTable, //
};
use kernel::{
    dma::DataDirection,
    prelude::*,
    sync::Arc, //
};

fn table(dev: DmaDevice<'_>, pages: Arc<Pages>) -> Result<Pin<KBox<MappedTable>>> {
    KBox::pin_init(
        MappedTable::new(dev, pages, DataDirection::Bidirectional, Attrs::NONE)?,
        GFP_KERNEL,
    )
}
