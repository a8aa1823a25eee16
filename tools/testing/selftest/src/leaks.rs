// SPDX-License-Identifier: GPL-2.0

//! What a test has left behind in the kernel.

use crate::bufinfo;
use crate::lost::{is_lost, lost};
use crate::memory::{settled_free, shrink_slabs, wait_until};
use crate::pages;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// Caches of the kernel grow by less than this between two looks. Tests that are
/// after small leaks repeat themselves until they would exceed it. A kernel that
/// looks for mistakes needs more for that, without limit; but it knows who holds
/// which page, and is asked at the end of all tests: see [`pages`].
const TOLERANCE: u64 = 2 << 20;

/// How things stood before a test.
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

    /// Waits a little for things to be as they were; says what is not.
    pub fn compare(&self) -> Result<Vec<String>> {
        // The last file reference is dropped by a task work, pages may wait for RCU.
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

/// The buffers of a heap that somebody should let go of.
fn buffers(heap: &str) -> Result<BTreeSet<u64>> {
    let listed = bufinfo::list()?.into_iter();
    let held = listed.filter(|buffer| buffer.exporter == heap && !is_lost(buffer));
    Ok(held.map(|buffer| buffer.inode).collect())
}

/// The module's reference count, where it is loaded, without the lost buffers.
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
