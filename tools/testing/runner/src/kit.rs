// SPDX-License-Identifier: GPL-2.0

//! The images and programs of guests, built when they are first needed.

use crate::coverage::Coverage;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use vm::{Arch, Image, Kernel, Line};

/// The package of the test program, and its name in a guest.
pub const SELFTEST: &str = "dmabuf_coherency_selftest";

/// The package of the benchmark, and its name in a guest.
pub const BENCH: &str = "dmabuf_coherency_bench";

/// The source of the example that chooses a heap without dmaheap.
pub const CHOOSE: &str = "tools/dmaheap/examples/choose.c";

/// Image and programs for one architecture.
pub struct Kit {
    pub image: Image,
    pub kernel: Kernel,
    blocks: OnceLock<BTreeMap<i64, Line>>,
    /// Whether its kernel is a debug kernel, which is slow.
    pub debug: bool,
    /// Whether its kernel is one of Debian's own.
    pub stock: bool,
    pub selftest: PathBuf,
    pub bench: PathBuf,
    /// The camera without hardware, and the program that captures from it.
    pub camera: PathBuf,
    pub capture: PathBuf,
    /// The program that brings frames from that camera to a display.
    pub pipeline: PathBuf,
    /// The kernel's own tests.
    selftests: Vec<PathBuf>,
    /// The command dmaheap, its test, and the example that does without it.
    pub dmaheap: PathBuf,
    pub dmaheap_test: PathBuf,
    pub choose: PathBuf,
}

impl Kit {
    fn new(arch: Arch, kits: &Kits) -> Result<Self> {
        let mut kernel = vm::kernel(arch, &kits.kernel)?;
        let camera = vm::rust_program(arch, "dmabuf_coherency_camera")?;
        // Selftests are those of the kernel's version, so running them on our kernels is enough.
        let selftests = match kernel.is_stock() {
            true => Vec::new(),
            false => vm::selftests(&kernel)?,
        };
        if kits.coverage.is_some() {
            kernel = kernel.with_coverage();
        }
        Ok(Self {
            image: Image::new(&kernel)?,
            debug: kernel.debug,
            stock: kernel.is_stock(),
            selftest: vm::rust_program(arch, SELFTEST)?,
            bench: vm::rust_program(arch, BENCH)?,
            capture: camera.with_file_name("capture"),
            camera,
            pipeline: vm::rust_program(arch, "pipeline")?,
            selftests,
            dmaheap: vm::rust_program(arch, "dmaheap")?,
            dmaheap_test: vm::checkout().join("tools/dmaheap/tests/guest.sh"),
            choose: vm::c_program(arch, CHOOSE)?,
            kernel,
            blocks: OnceLock::new(),
        })
    }

    /// The basic blocks of the module, for coverage.
    pub fn blocks(&self) -> Result<&BTreeMap<i64, Line>> {
        if let Some(blocks) = self.blocks.get() {
            return Ok(blocks);
        }
        let blocks = vm::blocks(&self.kernel)?;
        Ok(self.blocks.get_or_init(|| blocks))
    }

    /// The programs that a guest has in `/`.
    pub fn programs(&self) -> Vec<&Path> {
        let programs = [
            &self.selftest,
            &self.bench,
            &self.camera,
            &self.capture,
            &self.pipeline,
            &self.dmaheap,
            &self.dmaheap_test,
            &self.choose,
        ];
        let programs = programs.into_iter().chain(&self.selftests);
        programs.map(PathBuf::as_path).collect()
    }
}

/// The kits of all architectures.
pub struct Kits {
    kernel: String,
    /// The module's code that the guests have run, if coverage is asked for.
    pub coverage: Option<Coverage>,
    x86_64: OnceLock<Kit>,
    arm64: OnceLock<Kit>,
    /// Held during a build, as each build uses all CPUs.
    building: Mutex<()>,
}

impl Kits {
    /// Kits with kernels of this name, or with the build tree at this path.
    pub fn new(kernel: &str, coverage: bool) -> Self {
        Self {
            kernel: kernel.to_owned(),
            coverage: coverage.then(Coverage::default),
            x86_64: OnceLock::new(),
            arm64: OnceLock::new(),
            building: Mutex::new(()),
        }
    }

    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    pub fn get(&self, arch: Arch) -> Result<&Kit> {
        let cell = match arch {
            Arch::X86_64 => &self.x86_64,
            Arch::Arm64 => &self.arm64,
        };
        let _building = self.building.lock();
        if let Some(kit) = cell.get() {
            return Ok(kit);
        }
        let kit = Kit::new(arch, self)?;
        Ok(cell.get_or_init(|| kit))
    }
}
