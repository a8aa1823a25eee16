// SPDX-License-Identifier: GPL-2.0

//! The pages that the module holds. A kernel with CONFIG_PAGE_OWNER and the parameter
//! `page_owner=on` knows who allocated each page.
//!
//! Slab caches, page tables and the like also allocate pages on the module's behalf, and
//! keep them for later users. kmemleak checks those.
//!
//! The kernel's shorter list, `page_owner_stacks`, does not have pages that were
//! allocated without reclaim, and large blocks are.

use crate::ktap;
use crate::lost::lost;
use crate::mapping::page_size;
use crate::memory::settled_free;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};

const OWNERS: &str = "/sys/kernel/debug/page_owner";

/// How the names of the page allocator's functions begin, and of those by which Rust calls it.
const ALLOCATOR: &[&str] = &[
    "rust_helper_alloc_",
    "post_alloc_hook",
    "get_page_from_freelist",
    "__alloc_",
    "alloc_",
    "cma_",
    "__cma_",
    "split_",
];

/// Whether the kernel knows who allocated each page.
pub fn are_known() -> Result<bool> {
    Ok(fs::exists(OWNERS)?)
}

/// Reads the list. The kernel allocates a buffer of the size of each read, and returns one
/// entry at a time.
fn read() -> io::Result<String> {
    let mut file = File::open(OWNERS)?;
    let mut text = Vec::new();
    let mut entry = [0; 4096];
    loop {
        match file.read(&mut entry)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            len => text.extend_from_slice(&entry[..len]),
        }
    }
}

/// Parses one entry: the order of a block, and the module's function that allocated it.
/// Returns nothing if the module did not.
fn parse(entry: &str) -> Option<(u32, &str)> {
    let mut lines = entry.lines();
    let order = lines.next()?.strip_prefix("Page allocated via order ")?;
    let (order, _) = order.split_once(',')?;
    // The second line is about the page.
    let mut stack = lines.skip(1).map(str::trim);
    let caller = stack.find(|line| !ALLOCATOR.iter().any(|start| line.starts_with(start)))?;
    let ours = caller.ends_with("[dmabuf_coherency]");
    Some((order.parse().ok()?, caller)).filter(|_| ours)
}

/// Prints the pages that the module has allocated and nobody has freed. They include buffers that
/// importers have lost: see [`lost`]. Returns the exit status.
pub fn print() -> Result<u8> {
    if !are_known()? {
        println!("there is no {OWNERS}: boot a kernel with CONFIG_PAGE_OWNER, with page_owner=on");
        return Ok(ktap::SKIPPED);
    }
    // This empties the pool.
    settled_free()?;
    let owners = read().context(OWNERS)?;
    let mut held = BTreeMap::<&str, u64>::new();
    for (order, caller) in owners.split("\n\n").filter_map(parse) {
        *held.entry(caller).or_default() += 1 << order;
    }
    for (caller, pages) in &held {
        println!("{pages} pages by {caller}");
    }
    let lost: u64 = lost()?.map(|buffer| buffer.size).sum();
    let lost = lost / page_size() as u64;
    println!("{lost} pages of buffers that importers have lost");
    Ok(if held.values().sum::<u64>() <= lost {
        ktap::PASSED
    } else {
        ktap::FAILED
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_what_the_module_itself_has_allocated_counts() {
        let block = "Page allocated via order 8, mask 0x1521c0(__GFP_IO), pid 75, tgid 75 (sh), ts 1 ns\n\
            PFN 0x9b00 type Unmovable Block 77 type Unmovable Flags 0x40(head|zone=0)\n \
            post_alloc_hook+0x21c/0x340\n get_page_from_freelist+0x22c3/0x2380\n \
            __alloc_pages_noprof+0xc/0xf0\n _RNv4heap+0x483/0xe30 [dmabuf_coherency]\n \
            dma_heap_ioctl+0x2aa/0x500";
        assert_eq!(
            parse(block),
            Some((8, "_RNv4heap+0x483/0xe30 [dmabuf_coherency]"))
        );
        assert_eq!(
            parse(&block.replace(" _RNv", " rust_helper_alloc_pages+0x18/0x20\n _RNv")),
            parse(block)
        );
        assert_eq!(
            parse(&block.replace(" _RNv", " allocate_slab+0x7b/0x600\n _RNv")),
            None
        );
        assert_eq!(parse(&block.replace("dmabuf_coherency", "vgem")), None);
        assert_eq!(parse(""), None);
    }
}
