// SPDX-License-Identifier: GPL-2.0

//! Leaks: what a test has left behind in the kernel.

use crate::bufinfo;
use crate::lost::{is_lost, lost};
use crate::memory::{settled_free, shrink_slabs, wait_until};
use crate::pages;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// How much less memory may be free after a test. Caches of the kernel grow by less. Tests
/// for small leaks repeat themselves until a leak would exceed it. A debug kernel allocates
/// memory for its records without limit. But it knows who holds which page, and is asked
/// at the end of all tests: see [`pages`].
const TOLERANCE: u64 = 2 << 20;

/// The state before a test.
pub struct Before<'a> {
    heap: &'a str,
    buffers: BTreeSet<u64>,
    references: Option<u64>,
    free: u64,
}

impl<'a> Before<'a> {
    pub fn look(heap: &'a str) -> Result<Self> {
        Ok(Self {
            heap,
            buffers: buffers(heap)?,
            references: references()?,
            free: settled_free()?,
        })
    }

    /// Waits a little for everything to be as before. Returns what is not.
    pub fn compare(&self) -> Result<Vec<String>> {
        // A task work drops the last reference to a file, and pages may wait for RCU.
        let mut left = Vec::new();
        wait_until(Duration::from_secs(20), || {
            left = self.left_behind()?;
            Ok(left.is_empty())
        })?;
        Ok(left)
    }

    fn left_behind(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for inode in buffers(self.heap)?.difference(&self.buffers) {
            left.push(format!("the dma-buf with inode {inode} still exists"));
        }
        let references = references()?;
        // A test may have loaded the module.
        if self.references.is_some() && references != self.references {
            left.push(format!(
                "the module's reference count was {:?} and is {references:?}",
                self.references
            ));
        }
        if !pages::are_known()? && self.missing()? > TOLERANCE {
            shrink_slabs()?;
            let missing = self.missing()?;
            if missing > TOLERANCE {
                left.push(format!(
                    "{} KiB of memory have not come back",
                    missing >> 10
                ));
            }
        }
        Ok(left)
    }

    /// How many bytes are no longer free.
    fn missing(&self) -> Result<u64> {
        Ok(self.free.saturating_sub(settled_free()?))
    }
}

/// The buffers of a heap, without the lost ones.
fn buffers(heap: &str) -> Result<BTreeSet<u64>> {
    let listed = bufinfo::list()?.into_iter();
    let held = listed.filter(|buffer| buffer.exporter == heap && !is_lost(buffer));
    Ok(held.map(|buffer| buffer.inode).collect())
}

/// The module's reference count, without the lost buffers, if the module is loaded.
fn references() -> Result<Option<u64>> {
    let Ok(count) = fs::read_to_string("/sys/module/dmabuf_coherency/refcnt") else {
        return Ok(None);
    };
    let count: u64 = count
        .trim()
        .parse()
        .context("the module's reference count")?;
    Ok(Some(count.saturating_sub(lost()?.count() as u64)))
}
