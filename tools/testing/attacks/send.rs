// SPDX-License-Identifier: GPL-2.0

// The proof that this task holds a lock, for another task.

use crate::{
    heap::Buffer,
    kernel::dma_buf::Reserved, //
};

fn send<T: Send>(_: T) {}

fn to_another(buf: Reserved<'_, Buffer>) {
    send(buf);
}
