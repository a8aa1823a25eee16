// SPDX-License-Identifier: GPL-2.0

//! A guest that is booted for a script.

use crate::coverage;
use crate::kit::{Kit, Kits};
use crate::noise::is_noise;
use crate::results::Case;
use anyhow::Result;
use std::time::Duration;
use vm::{Add, Arch, Guest, Iommu, Outcome, Stream};

/// Loads the module, the modules that tests control, and every driver whose device
/// imports dma-bufs. vivid comes last, so parameters for it may follow this text.
/// `$PARAMETERS`, if it is set before, has the parameters of our module.
pub const LOAD: &str = "insmod $DMABUF_COHERENCY_KO $PARAMETERS && \
    modprobe -a dmabuf_importer dmabuf_memtype vgem vkms bochs virtio-gpu && modprobe vivid";

/// This parameter makes vivid map buffers for DMA. Without it vivid maps them for the CPU.
pub const VIVID_MAPS: &str = "allocators=1";

/// Makes the kernel check each page that it allocates or frees.
const CHECK_PAGES: &str = "check_pages=1";

/// The size of the pages of most kernels.
pub const SMALL_PAGE: u32 = 4 << 10;

/// Keeps the kernel from raising its watermarks. When memory is fragmented, it raises them for a
/// while, by as much as an entry of the second level of page tables maps. With large pages that is a
/// large part of a guest's memory, and a process that needs memory in that time is killed.
const NO_BOOST: &str = "sysctl.vm.watermark_boost_factor=0";

/// The default time limit of a guest: many times what it takes on an idle machine. A guest that
/// takes longer hangs.
pub const GUEST_TIMEOUT: Duration = Duration::from_secs(1800);

/// How much more memory and time a debug kernel takes.
const DEBUG_FACTOR: u32 = 2;
const DEBUG_SLOWER: u32 = 4;

/// How much more time a distribution's kernel takes, which starts every service it has.
const STOCK_SLOWER: u32 = 4;

/// Runs the script in its first argument, on a debug kernel. The DMA API reports each
/// mistake, not only the first.
///
/// With the argument `pages` it then looks for pages that the module still holds. No
/// process is left that could use them. It reports them among the kernel's messages as a
/// BUG, so that the guest counts as unhealthy.
const LOOK: &str = r#"echo 1 >/sys/kernel/debug/dma-api/all_errors
sh -c "$0"; status=$?
[ "$1" != pages ] || /dmabuf_coherency_selftest pages >/run/pages 2>&1 ||
	while read -r line; do echo "BUG: never freed: $line" >/dev/kmsg; done </run/pages
exit $status"#;

/// Where and how to run a script.
#[derive(Clone, Debug)]
pub struct Boot {
    pub arch: Arch,
    pub script: String,
    /// How much memory, in MiB.
    pub mem: u32,
    pub append: &'static str,
    /// The value of the kernel's parameter `cma`, if the default area of contiguous memory
    /// is not to be the usual one.
    pub cma: Option<&'static str>,
    /// Whether there are two more areas of contiguous memory, and a test display that owns
    /// one of them. Only for arm64.
    pub reserved_areas: bool,
    pub pci_noncoherent: bool,
    pub smp: u32,
    /// More arguments for QEMU.
    pub qemu: Vec<String>,
    /// Files for the guest, besides the test programs.
    pub adds: Vec<Add>,
    pub iommu: Option<Iommu>,
    /// Whether to use a QEMU whose plugins can read registers and stored values. Only for
    /// arm64.
    pub plugins: bool,
    /// Whether to look for pages that the module still holds at the end. Only debug kernels
    /// know these. It takes minutes.
    pub check_pages: bool,
    pub timeout: Duration,
}

impl Boot {
    pub fn new(arch: Arch, script: impl Into<String>) -> Self {
        Self {
            arch,
            script: script.into(),
            mem: 512,
            append: "",
            cma: None,
            reserved_areas: false,
            pci_noncoherent: false,
            smp: 2,
            qemu: Vec::new(),
            adds: Vec::new(),
            iommu: None,
            plugins: false,
            check_pages: false,
            timeout: GUEST_TIMEOUT,
        }
    }

    /// Boots the guest, with the test programs in `/`.
    pub fn run(&self, kits: &Kits) -> Result<Outcome> {
        self.run_with(kits, |_, _| {})
    }

    /// Like [`Boot::run`], and gives each piece of output to `output` as it comes. If QEMU crashes, or
    /// the kernel falls silent while it boots, and the kernel has reported nothing, the guest is booted
    /// once more.
    pub fn run_with(&self, kits: &Kits, mut output: impl FnMut(Stream, &[u8])) -> Result<Outcome> {
        let outcome = self.run_once(kits, &mut output)?;
        let why = match outcome.signal {
            _ if !outcome.reports.is_empty() => return Ok(outcome),
            Some(signal) => format!("QEMU died of signal {signal}"),
            None if outcome.hung => "the kernel fell silent while it booted".into(),
            None => return Ok(outcome),
        };
        eprintln!("runner: {why}; booting the guest once more");
        self.run_once(kits, &mut output)
    }

    fn run_once(&self, kits: &Kits, output: impl FnMut(Stream, &[u8])) -> Result<Outcome> {
        let kit = kits.get(self.arch)?;
        let slower = match (kit.debug, kit.stock) {
            (true, _) => DEBUG_SLOWER,
            (_, true) => STOCK_SLOWER,
            _ => 1,
        };
        let mut guest = Guest::new(&kit.image)
            .command(self.command(kits, kit))
            .mem(self.mem(kit))
            .append(&self.append(kit))
            .pci_noncoherent(self.pci_noncoherent)
            .reserved_areas(self.reserved_areas)
            .iommu(self.iommu)
            .plugins(self.plugins)
            .smp(self.smp)
            .qemu(&self.qemu)
            .timeout(self.timeout * slower);
        for program in kit.programs() {
            guest = guest.add_file(Add::new(program, "")?);
        }
        for add in &self.adds {
            guest = guest.add_file(add.clone());
        }
        let mut outcome = guest.run_with(output)?;
        if let Some(coverage) = &kits.coverage {
            coverage.take(kit, &mut outcome)?;
        }
        outcome
            .reports
            .retain(|report| !is_noise(report, kit.debug));
        Ok(outcome)
    }

    fn command<'a>(&'a self, kits: &Kits, kit: &Kit) -> Vec<&'a str> {
        let script = self.script.as_str();
        if kits.coverage.is_some() {
            vec!["sh", "-c", coverage::TELL, script]
        } else if kit.debug && self.check_pages {
            vec!["sh", "-c", LOOK, script, "pages"]
        } else if kit.debug {
            vec!["sh", "-c", LOOK, script]
        } else {
            vec!["sh", "-c", script]
        }
    }

    fn append(&self, kit: &Kit) -> String {
        let cma = self.cma.map(|cma| format!("cma={cma}"));
        let mut parts = vec![CHECK_PAGES, self.append];
        parts.extend(cma.as_deref());
        if kit.kernel.page_size > SMALL_PAGE {
            parts.push(NO_BOOST);
        }
        parts.retain(|part| !part.is_empty());
        parts.join(" ")
    }

    fn mem(&self, kit: &Kit) -> String {
        // A guest with 4 GiB or more needs memory beyond 32 bits, and has enough.
        let factor = if kit.debug && self.mem < 4096 {
            DEBUG_FACTOR
        } else {
            1
        };
        // A contiguous area is aligned to what an entry of the second level of page tables maps. With
        // pages of 64 KiB that is 512 MiB.
        let least = match kit.kernel.page_size {
            0x10000 => 3072,
            0x4000 => 1024,
            _ => 0,
        };
        format!("{}M", (self.mem * factor).max(least))
    }

    /// The test that the guest was healthy, whatever the script found.
    pub fn health(&self, kits: &Kits, outcome: &Outcome) -> Result<Case> {
        let problem = if outcome.is_healthy() {
            None
        } else {
            Some(format!("{outcome}\n{}", self.repeat(kits)?))
        };
        Ok(Case::judged("guest.healthy", problem))
    }

    /// The command by which a person repeats this.
    pub fn repeat(&self, kits: &Kits) -> Result<String> {
        let kit = kits.get(self.arch)?;
        let mut line = format!(
            "tools/vm/vm run --arch {} --mem {} --smp {}",
            self.arch,
            self.mem(kit),
            self.smp
        );
        if kits.kernel() != vm::DEFAULT {
            line += &format!(" --kernel {}", kits.kernel());
        }
        line += &format!(" --append '{}'", self.append(kit));
        if self.pci_noncoherent {
            line += " --pci-noncoherent";
        }
        if self.reserved_areas {
            line += " --reserved-areas";
        }
        if let Some(iommu) = self.iommu {
            line += &format!(" --iommu {iommu}");
        }
        if self.plugins {
            line += " --plugins";
        }
        for argument in &self.qemu {
            line += &format!(" --qemu={argument}");
        }
        for add in &self.adds {
            line += &format!(" --add {add}");
        }
        for program in kit.programs() {
            line += &format!(" --add {}", program.display());
        }
        line += " --";
        for word in self.command(kits, kit) {
            line += &format!(" '{}'", word.replace('\'', r"'\''"));
        }
        Ok(format!("to repeat it:\n  {line}"))
    }
}

/// The output of a guest's command, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
