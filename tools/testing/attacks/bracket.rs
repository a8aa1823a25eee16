// SPDX-License-Identifier: GPL-2.0

// A guard that keeps brackets waiting, for an exporter that then calls one.

use crate::{
    heap::Buffer,
    kernel::dma_buf::DmaBuf, //
};

fn bracket(buf: &DmaBuf<Buffer>) {
    let change = buf.private().maintained.change();
    buf.sync_for_device(0..1);
    drop(change);
}
