// SPDX-License-Identifier: GPL-2.0

// A module that registers heaps, and whose initialisation somebody calls who then fails.

use crate::kernel::{
    dma_heap::{
        PermanentModule,
        Registrar, //
    },
    module::Forever, //
};
use kernel::prelude::*;

struct Failing;

impl PermanentModule for Failing {
    fn prepare() -> Result<Self> {
        Ok(Self)
    }

    fn register<'a>(&'a self, _: &mut Registrar<'a>) {}

    fn start(&'static self, _: Forever) {}
}
