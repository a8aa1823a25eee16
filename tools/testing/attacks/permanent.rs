// SPDX-License-Identifier: GPL-2.0

// The initialisation of a module that stays, called by somebody who then fails.

use crate::kernel::module::{
    self,
    PermanentModule, //
};
use kernel::prelude::*;

fn fail<M: PermanentModule>(module: &'static ThisModule) -> Result {
    module::init::<M>(module)?;
    Err(ENODEV)
}
