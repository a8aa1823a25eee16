// SPDX-License-Identifier: GPL-2.0

// The proof that a lock is held, for later.

use crate::{
    dma_buf::Reserved,
    heap::Buffer, //
};

fn keep<'a>(buf: Reserved<'a, Buffer>, kept: &mut Option<Reserved<'static, Buffer>>) {
    *kept = Some(buf);
}
