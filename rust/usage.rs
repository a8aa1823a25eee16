// SPDX-License-Identifier: GPL-2.0

//! What the live buffers of a heap use, and the limit to it.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Counts the live buffers of a heap.
pub(crate) struct Usage {
    buffers: Atomic<usize>,
    bytes: Atomic<usize>,
    /// How many bytes there may be, 0 for any number.
    limit: Atomic<usize>,
}

impl Usage {
    /// Starts without buffers, and without a limit.
    pub(crate) const fn new() -> Self {
        Self {
            buffers: Atomic::new(0),
            bytes: Atomic::new(0),
            limit: Atomic::new(0),
        }
    }

    /// Counts a buffer of `bytes` bytes until the return value is dropped.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if the limit does not leave so much.
    pub(crate) fn count(&'static self, bytes: usize) -> Result<Counted> {
        let mut now = self.bytes.load(Relaxed);
        loop {
            let limit = self.limit.load(Relaxed);
            let then = now.checked_add(bytes).ok_or(ENOMEM)?;
            if limit != 0 && then > limit {
                return Err(ENOMEM);
            }
            match self.bytes.cmpxchg(now, then, Relaxed) {
                Ok(_) => break,
                Err(current) => now = current,
            }
        }
        self.buffers.add(1, Relaxed);
        Ok(Counted { usage: self, bytes })
    }

    /// How many buffers there are.
    pub(crate) fn buffers(&self) -> usize {
        self.buffers.load(Relaxed)
    }

    /// How many bytes they have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// The limit in bytes, 0 for none.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Sets the limit. Buffers that exist stay, even if they exceed it.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Relaxed);
    }
}

/// A live buffer, counted.
pub(crate) struct Counted {
    usage: &'static Usage,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.usage.buffers.fetch_sub(1, Relaxed);
        self.usage.bytes.fetch_sub(self.bytes, Relaxed);
    }
}
