// SPDX-License-Identifier: GPL-2.0

//! The number and size of a heap's live buffers, and the limit of their size.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Counts the live buffers of a heap, and limits their size.
pub(crate) struct Usage {
    buffers: Atomic<usize>,
    bytes: Atomic<usize>,
    /// The largest permitted value of `bytes`; 0 for no limit.
    limit: Atomic<usize>,
}

impl Usage {
    /// Creates a counter without buffers and without a limit.
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
    /// [`ENOMEM`] if the buffer would exceed the limit.
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

    /// Returns the number of live buffers.
    pub(crate) fn buffers(&self) -> usize {
        self.buffers.load(Relaxed)
    }

    /// Returns the size of all live buffers together, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Returns the limit in bytes; 0 for no limit.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Sets the limit in bytes; 0 for no limit. Existing buffers stay, even if they exceed it.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Relaxed);
    }
}

/// Counts one live buffer until it is dropped.
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
