// SPDX-License-Identifier: GPL-2.0

//! May a device use a buffer? The one place where that is decided.

use crate::{
    dma_mapping::DmaDevice,
    policy::Mode, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// Why a device may not use a buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its DMA does not see the CPU caches.
    NotSnooping,
    /// It has no DMA mask: its driver does no DMA with it.
    NoDmaMask,
    /// The DMA API would let it work on a copy of the buffer.
    MayBounce,
}

impl From<Refusal> for Error {
    /// The DMA API's own error for a device that is not coherent, told apart from the [`EINVAL`]
    /// of a malformed request.
    fn from(_: Refusal) -> Self {
        EOPNOTSUPP
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSnooping => "it does not snoop the CPU caches",
            Self::NoDmaMask => "it has no DMA mask",
            Self::MayBounce => "its DMA may go through a bounce buffer",
        })
    }
}

/// Returns whether `dev` may attach to the buffers of a heap of mode `mode`.
pub(crate) fn accepts(mode: Mode, dev: DmaDevice<'_>) -> Result<(), Refusal> {
    match mode {
        Mode::Strict if !dev.is_dma_coherent() => Err(Refusal::NotSnooping),
        Mode::Strict if !dev.has_dma_mask() => Err(Refusal::NoDmaMask),
        Mode::Strict if dev.may_bounce() => Err(Refusal::MayBounce),
        // Bounce buffers are filled through the kernel's own mapping, which is cached except on x86.
        Mode::Uncached if !cfg!(CONFIG_X86) && dev.may_bounce() => Err(Refusal::MayBounce),
        Mode::Strict | Mode::Maintained | Mode::Uncached => Ok(()),
    }
}

/// Returns whether `dev` may map what it has attached to: as [`accepts`] says, which may have changed,
/// and not without a DMA mask, of which the DMA API would warn. There are drivers that do no DMA and
/// attach all the same.
pub(crate) fn may_map(mode: Mode, dev: DmaDevice<'_>) -> Result<(), Refusal> {
    accepts(mode, dev)?;
    if dev.has_dma_mask() {
        Ok(())
    } else {
        Err(Refusal::NoDmaMask)
    }
}
