// SPDX-License-Identifier: GPL-2.0

//! How much memory the system has, and has left.

use crate::mapping::page_size;
use anyhow::{Context as _, Result};
use std::time::{Duration, Instant};

/// A counter of /proc/vmstat.
pub fn vmstat(key: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").context("reading /proc/vmstat")?;
    value(&text, key).with_context(|| format!("expected `{key}` in /proc/vmstat"))
}

/// A line of /proc/meminfo, in bytes.
pub fn meminfo(key: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let kib = value(&text, &format!("{key}:"));
    Ok(kib.with_context(|| format!("expected `{key}` in /proc/meminfo"))? * 1024)
}

fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(key)).then(|| words.next()?.parse().ok())?
    })
}

/// Free memory in bytes, after the kernel was asked to drop what it need not keep.
pub fn settled_free() -> Result<u64> {
    // 4 keeps the kernel from logging that somebody asks, from then on.
    for request in ["4", "3"] {
        std::fs::write("/proc/sys/vm/drop_caches", request).context("dropping caches")?;
    }
    free()
}

/// Has the slab allocator give back what it keeps for objects to come, where it shows its caches.
/// What is free inside of slabs in use stays there.
pub fn shrink_slabs() -> Result<()> {
    let Ok(caches) = std::fs::read_dir("/sys/kernel/slab") else {
        return Ok(());
    };
    for cache in caches {
        std::fs::write(cache?.path().join("shrink"), "1").context("shrinking a slab cache")?;
    }
    Ok(())
}

/// Free memory in bytes, with what lies on the lists of free pages that each CPU has.
pub fn free() -> Result<u64> {
    let zones = std::fs::read_to_string("/proc/zoneinfo").context("reading /proc/zoneinfo")?;
    let pages = vmstat("nr_free_pages")? + listed_pages(&zones);
    Ok(pages * page_size() as u64)
}

/// What /proc/zoneinfo counts on the CPUs' lists.
fn listed_pages(zones: &str) -> u64 {
    let counts = zones
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count:"));
    counts
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum()
}

/// How many blocks of `pages` pages or more, a power of two, the page allocator has free.
pub fn free_blocks(pages: usize) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/buddyinfo").context("reading /proc/buddyinfo")?;
    let order = pages.trailing_zeros() as usize;
    let blocks = text.lines().flat_map(|line| {
        let counts = line.split_whitespace().skip(4);
        counts
            .enumerate()
            .skip(order)
            .filter_map(move |(found, count)| Some(count.parse::<u64>().ok()? << (found - order)))
    });
    Ok(blocks.sum())
}

/// Waits until `condition` holds, which it does in moments where all is well, also on a busy
/// machine; says whether it does.
pub fn eventually(condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    wait_until(Duration::from_secs(120), condition)
}

/// Waits until `condition` holds, for `limit` at most; says whether it does.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let start = Instant::now();
    loop {
        if condition()? {
            return Ok(true);
        }
        if start.elapsed() > limit {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_are_found_by_their_whole_first_word() {
        let text = "nr_free_pages_blocks 7\nnr_free_pages 12\n";
        assert_eq!(super::value(text, "nr_free_pages"), Some(12));
        assert_eq!(super::value(text, "nr_free"), None);
        assert_eq!(super::value("MemFree:   20 kB\n", "MemFree:"), Some(20));
    }

    #[test]
    fn the_lists_of_all_cpus_are_counted() {
        let zones = "  pagesets\n    cpu: 0\n              count:    12\n              high:     90\n\
            \x20   cpu: 1\n              count:    30\n  vm stats threshold: 8\n";
        assert_eq!(super::listed_pages(zones), 42);
    }
}
