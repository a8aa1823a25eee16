// SPDX-License-Identifier: GPL-2.0

// A VMA that is said to be mapped, and is not.

use crate::kernel::mm::{
    BufferVma,
    MappedVma, //
};
use core::marker::PhantomData;
use kernel::prelude::*;

fn mmap<'a>(_: BufferVma<'a>) -> Result<MappedVma<'a>> {
    Ok(MappedVma(PhantomData))
}
