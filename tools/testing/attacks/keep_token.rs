// SPDX-License-Identifier: GPL-2.0

// The proof that a lock is held, for later.

use crate::{
    heap::Buffer,
    kernel::dma_buf::Reserved, //
};

fn keep<'a>(buf: Reserved<'a, Buffer>, kept: &mut Option<Reserved<'static, Buffer>>) {
    *kept = Some(buf);
}
