// SPDX-License-Identifier: GPL-2.0

//! The options of the tests.

use crate::expect::{outcome, skip};
use crate::heap::Heap;
use anyhow::{Result, bail};
use clap::{ArgAction, Args};
use rustix::io::Errno;
use std::path::PathBuf;

/// The in-tree heap, which refuses no device. Tests compare with it.
pub const CONTROL: &str = "system";

/// The in-tree heap of the default contiguous area.
pub const CONTIGUOUS_CONTROL: &str = "default_cma_region";

/// Whether a heap of this name is one of the module's. The suffix for its mode shows it.
pub fn is_ours(heap: &str) -> bool {
    region(heap) != heap
}

/// The region of memory that a heap of this name uses.
fn region(heap: &str) -> &str {
    let modes = ["-coherent", "-noncoherent", "-uncached"];
    let region = modes.iter().find_map(|mode| heap.strip_suffix(mode));
    region.unwrap_or(heap)
}

/// Whether a heap of this name uses all memory, and not a region.
pub fn is_of_system_region(heap: &str) -> bool {
    region(heap) == "system"
}

/// Whether each buffer of a heap of this name is one block.
pub fn is_contiguous(heap: &str) -> bool {
    !["system", "system-dma32"].contains(&region(heap))
}

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The heap to test, by its name in /dev/dma_heap.
    #[arg(long, global = true, default_value = "system-coherent")]
    pub heap: String,

    /// The module's file, for the tests that load it.
    #[arg(long, global = true, env = "DMABUF_COHERENCY_KO")]
    pub module: Option<PathBuf>,

    /// Expect the module not to charge buffers to control groups (accounting=0).
    #[arg(long = "uncharged", global = true, action = ArgAction::SetFalse)]
    pub charged: bool,

    /// Expect the module to keep no memory for new buffers (pool_percent=0).
    #[arg(long = "unpooled", global = true, action = ArgAction::SetFalse)]
    pub pooled: bool,
    /// How many faults the test fail_nth.load skips at first. A fault that does not keep
    /// the module from loading ends the test, so several runs are needed for all faults.
    #[arg(long, global = true, default_value_t = 0, value_name = "COUNT")]
    pub skip_faults: usize,

    /// How many rounds the tests make that repeat something.
    #[arg(long, global = true, default_value_t = 50, value_name = "COUNT")]
    pub rounds: usize,
}

impl Options {
    /// The same options as arguments of another process.
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--heap={}", self.heap)];
        if let Some(module) = &self.module {
            arguments.push(format!("--module={}", module.display()));
        }
        if !self.charged {
            arguments.push("--uncharged".to_owned());
        }
        if !self.pooled {
            arguments.push("--unpooled".to_owned());
        }
        arguments.push(format!("--rounds={}", self.rounds));
        arguments.push(format!("--skip-faults={}", self.skip_faults));
        arguments
    }

    /// Opens the heap under test. It is a failure if there is none.
    pub fn heap(&self) -> Result<Heap> {
        match Heap::open(&self.heap) {
            Ok(heap) => Ok(heap),
            Err(errno) => bail!(
                "expected a heap {}, got {}: is the module loaded?",
                Heap::path(&self.heap).display(),
                outcome::<()>(&Err(errno))
            ),
        }
    }

    /// Opens the in-tree heap that refuses no device.
    pub fn control(&self) -> Result<Heap> {
        match Heap::open(CONTROL) {
            Ok(heap) => Ok(heap),
            Err(Errno::NOENT) => skip(format!(
                "no heap `{CONTROL}` to compare with: try a kernel with CONFIG_DMABUF_HEAPS_SYSTEM"
            )),
            Err(errno) => bail!("opening the heap {CONTROL}: {}", outcome::<()>(&Err(errno))),
        }
    }

    /// Whether the heap under test is one of the module's.
    pub fn heap_is_ours(&self) -> bool {
        is_ours(&self.heap)
    }

    /// Whether the heap under test refuses devices that do not snoop.
    pub fn heap_is_strict(&self) -> bool {
        self.heap.ends_with("-coherent")
    }

    /// Skips a test whose rule holds for the module's heaps only.
    pub fn need_our_heap(&self) -> Result<()> {
        if self.heap_is_ours() {
            return Ok(());
        }
        skip(format!("{} is not a heap of this module", self.heap))
    }

    /// Skips a test that fills the memory that a heap takes from, unless that is
    /// all memory.
    pub fn need_system_region(&self) -> Result<()> {
        if is_of_system_region(&self.heap) {
            return Ok(());
        }
        skip(format!(
            "{} does not use all memory: try --heap system-coherent",
            self.heap
        ))
    }

    /// Skips a test whose rule holds only for strict heaps.
    pub fn need_strict_heap(&self) -> Result<()> {
        if self.heap_is_strict() {
            return Ok(());
        }
        skip(format!("{} is not a strict heap (*-coherent)", self.heap))
    }
}
