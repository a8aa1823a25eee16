// SPDX-License-Identifier: GPL-2.0

// A module that stays, and whose initialisation somebody calls who then fails.

use crate::kernel::module::{
    Forever,
    Main,
    PermanentModule,
    Registrar, //
};
use kernel::prelude::*;

struct Failing;

impl Main for Failing {}

impl PermanentModule for Failing {
    fn prepare() -> Result<Self> {
        Ok(Self)
    }

    fn register<'a>(&'a self, _: &mut Registrar<'a>) {}

    fn start(&'static self, _: Forever) {}
}
