// SPDX-License-Identifier: GPL-2.0

//! How much memory the system has, and how much is free.

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

/// Free memory in bytes, after the kernel was asked to drop its caches.
pub fn settled_free() -> Result<u64> {
    // After 4 the kernel no longer logs such requests.
    for request in ["4", "3"] {
        std::fs::write("/proc/sys/vm/drop_caches", request).context("dropping caches")?;
    }
    free()
}

/// Tells the slab allocator to give back empty slabs, if the kernel shows its caches. Free objects in
/// slabs that are in use stay there.
pub fn shrink_slabs() -> Result<()> {
    let Ok(caches) = std::fs::read_dir("/sys/kernel/slab") else {
        return Ok(());
    };
    for cache in caches {
        std::fs::write(cache?.path().join("shrink"), "1").context("shrinking a slab cache")?;
    }
    Ok(())
}

/// Free memory in bytes, including the pages on the CPUs' lists of free pages.
pub fn free() -> Result<u64> {
    let zones = std::fs::read_to_string("/proc/zoneinfo").context("reading /proc/zoneinfo")?;
    let pages = vmstat("nr_free_pages")? + listed_pages(&zones);
    Ok(pages * page_size() as u64)
}

/// How many pages are on the CPUs' lists, according to /proc/zoneinfo.
fn listed_pages(zones: &str) -> u64 {
    let counts = zones
        .lines()
        .filter_map(|line| line.trim().strip_prefix("count:"));
    counts
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum()
}

/// How many free blocks of `pages` pages or more the page allocator has for all purposes. `pages` is a
/// power of two. Blocks of contiguous areas do not count.
pub fn free_blocks(pages: usize) -> Result<u64> {
    let text =
        std::fs::read_to_string("/proc/pagetypeinfo").context("reading /proc/pagetypeinfo")?;
    Ok(count_blocks(&text, pages.trailing_zeros() as usize))
}

fn count_blocks(text: &str, order: usize) -> u64 {
    let counts = |line: &str| -> Option<u64> {
        let mut words = line.split_whitespace();
        let kind = words.by_ref().skip_while(|word| *word != "type").nth(1)?;
        let counts = words.enumerate().skip(order);
        let usable = !["CMA", "Isolate"].contains(&kind);
        usable.then(|| {
            // The kernel shows a large count as ">100000".
            let count = |word: &str| word.trim_start_matches('>').parse::<u64>().unwrap_or(0);
            counts
                .map(|(found, word)| count(word) << (found - order))
                .sum()
        })
    };
    // The part after this line counts whole pageblocks.
    let blocks = text
        .lines()
        .take_while(|line| !line.starts_with("Number of blocks"));
    let zones = blocks.filter(|line| line.starts_with("Node"));
    zones.filter_map(counts).sum()
}

/// Makes the kernel compact memory, unless it has `count` free blocks of `pages` pages, a power of two.
/// Returns whether it has them then.
pub fn make_blocks(pages: usize, count: u64) -> Result<bool> {
    if free_blocks(pages)? >= count {
        return Ok(true);
    }
    settled_free()?;
    std::fs::write("/proc/sys/vm/compact_memory", "1").context("compacting memory")?;
    Ok(free_blocks(pages)? >= count)
}

/// Waits until `condition` holds. If all is well, that takes moments. The limit is for a busy machine.
/// Returns whether the condition holds.
pub fn eventually(condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    wait_until(Duration::from_secs(120), condition)
}

/// Waits until `condition` holds, for `limit` at most. Returns whether it holds.
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
    fn blocks_of_contiguous_areas_are_not_counted() {
        let text = "Page block order: 9\nPages per block:  512\n\n\
            Free pages count per migrate type at order       0      1      2\n\
            Node    0, zone    DMA32, type    Unmovable      5      3      2\n\
            Node    0, zone    DMA32, type      Movable      1   >100000      1\n\
            Node    0, zone    DMA32, type          CMA      7      7      7\n\n\
            Number of blocks type     Unmovable      Movable\n\
            Node 0, zone    DMA32            7           7\n";
        assert_eq!(super::count_blocks(text, 2), 3);
        assert_eq!(super::count_blocks(text, 1), 3 + 4 + 100000 + 2);
    }

    #[test]
    fn the_lists_of_all_cpus_are_counted() {
        let zones = "  pagesets\n    cpu: 0\n              count:    12\n              high:     90\n\
            \x20   cpu: 1\n              count:    30\n  vm stats threshold: 8\n";
        assert_eq!(super::listed_pages(zones), 42);
    }
}
