// SPDX-License-Identifier: GPL-2.0

// The callbacks of any exporter, which the compiler may merge with those of another.

use crate::kernel::dma_buf::{
    Exporter,
    Ops, //
};

fn ops<T: Exporter>() -> &'static Ops<T> {
    const { &Ops::new() }
}
