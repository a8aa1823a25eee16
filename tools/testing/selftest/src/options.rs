// SPDX-License-Identifier: GPL-2.0

//! What tests are told from outside.

use crate::expect::{outcome, skip};
use crate::heap::Heap;
use anyhow::{Result, bail};
use clap::{ArgAction, Args};
use rustix::io::Errno;
use std::path::PathBuf;

/// The heap whose buffers every device takes, to compare with.
pub const CONTROL: &str = "system";

/// The in-tree heap of the default contiguous area.
pub const CONTIGUOUS_CONTROL: &str = "default_cma_region";

/// Whether a heap of this name is one of the module's, by the suffix that says
/// how it keeps buffers coherent.
pub fn is_ours(heap: &str) -> bool {
    region(heap) != heap
}

/// The region that a heap of this name takes from.
fn region(heap: &str) -> &str {
    let modes = ["-coherent", "-noncoherent", "-uncached"];
    let region = modes.iter().find_map(|mode| heap.strip_suffix(mode));
    region.unwrap_or(heap)
}

/// Whether a heap of this name takes from all memory, not from a region of its own.
pub fn is_of_system_region(heap: &str) -> bool {
    region(heap) == "system"
}

/// Whether a heap of this name has each of its buffers in one block.
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

    /// The module has been told not to charge buffers to control groups.
    #[arg(long = "uncharged", global = true, action = ArgAction::SetFalse)]
    pub charged: bool,

    /// The module has been told to keep no memory for new buffers.
    #[arg(long = "unpooled", global = true, action = ArgAction::SetFalse)]
    pub pooled: bool,
    /// Where the test that loads the module begins, in faults. A fault that does not
    /// keep it from loading ends the test, so that it takes several to try all.
    #[arg(long, global = true, default_value_t = 0, value_name = "COUNT")]
    pub skip_faults: usize,

    /// How often the tests that repeat something do it.
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

    /// Opens the heap under test. There being none is a failure.
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

    /// Opens the in-tree heap that refuses nobody.
    pub fn control(&self) -> Result<Heap> {
        match Heap::open(CONTROL) {
            Ok(heap) => Ok(heap),
            Err(Errno::NOENT) => skip(format!("no heap `{CONTROL}` to compare with")),
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
        skip(format!("{} takes from a region of its own", self.heap))
    }

    /// Skips a test whose rule holds for heaps that refuse.
    pub fn need_strict_heap(&self) -> Result<()> {
        if self.heap_is_strict() {
            return Ok(());
        }
        skip(format!("{} is a heap that refuses no device", self.heap))
    }
}
