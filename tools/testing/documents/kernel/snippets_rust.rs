// SPDX-License-Identifier: GPL-2.0

//! What the driver guide shows in Rust.

use kernel::prelude::*;

module! {
    type: Snippets,
    name: "snippets_rust",
    authors: ["dmabuf-coherency"],
    description: "What the driver guide shows in Rust",
    license: "GPL",
}

struct Snippets;

impl kernel::Module for Snippets {
    fn init(_: &'static ThisModule) -> Result<Self> {
        pr_info!("{}\n", is_coherent(core::ptr::null()));
        Ok(Self)
    }
}

fn is_coherent(dma_buf: *const kernel::bindings::dma_buf) -> bool {
    // snippet: coherent-rust
    coherent
}
