// SPDX-License-Identifier: GPL-2.0

//! A guest that is booted for a script.

use crate::kit::Kits;
use crate::results::Case;
use anyhow::Result;
use std::time::Duration;
use vm::{Add, Arch, Guest, Outcome, Stream};

/// Loads the module, those that tests control, and every driver whose device
/// imports dma-bufs. Behind it may stand parameters for vivid, the last; the
/// module's own are what `$PARAMETERS` is set to before, if it is.
pub const LOAD: &str = "insmod $DMABUF_COHERENCY_KO $PARAMETERS && \
    modprobe -a dmabuf_importer dmabuf_memtype vgem vkms bochs virtio-gpu && modprobe vivid";

/// With this parameter vivid maps buffers for DMA; without it only for the CPU.
pub const VIVID_MAPS: &str = "allocators=1";

/// Where and how to run a script.
#[derive(Clone, Debug)]
pub struct Boot {
    pub arch: Arch,
    pub script: String,
    pub mem: &'static str,
    pub append: &'static str,
    pub pci_noncoherent: bool,
    pub smp: u32,
    /// More arguments for QEMU.
    pub qemu: Vec<String>,
    /// What the guest is to have besides the test programs.
    pub adds: Vec<Add>,
    pub timeout: Duration,
}

impl Boot {
    pub fn new(arch: Arch, script: impl Into<String>) -> Self {
        Self {
            arch,
            script: script.into(),
            mem: "512M",
            append: "",
            pci_noncoherent: false,
            smp: 2,
            qemu: Vec::new(),
            adds: Vec::new(),
            timeout: Duration::from_secs(300),
        }
    }

    /// Boots the guest, with the test programs in `/`.
    pub fn run(&self, kits: &Kits) -> Result<Outcome> {
        self.run_with(kits, |_, _| {})
    }

    /// The same, and gives each piece of output to `output` as it comes.
    pub fn run_with(&self, kits: &Kits, output: impl FnMut(Stream, &[u8])) -> Result<Outcome> {
        let kit = kits.get(self.arch)?;
        let mut guest = Guest::new(&kit.image);
        for program in kit.programs() {
            guest = guest.add_file(Add::new(program, "")?);
        }
        for add in &self.adds {
            guest = guest.add_file(add.clone());
        }
        guest
            .command(["sh", "-c", &self.script])
            .mem(self.mem)
            .append(self.append)
            .pci_noncoherent(self.pci_noncoherent)
            .smp(self.smp)
            .qemu(&self.qemu)
            .timeout(self.timeout)
            .run_with(output)
    }

    /// The test that the guest was well, whatever the script found.
    pub fn health(&self, kits: &Kits, outcome: &Outcome) -> Result<Case> {
        let problem = if outcome.is_healthy() {
            None
        } else {
            Some(format!("{outcome}\n{}", self.repeat(kits)?))
        };
        Ok(Case::judged("guest.healthy", problem))
    }

    /// How a person runs the same.
    pub fn repeat(&self, kits: &Kits) -> Result<String> {
        let kit = kits.get(self.arch)?;
        let mut command = format!(
            "tools/vm/vm run --arch {} --mem {} --smp {}",
            self.arch, self.mem, self.smp
        );
        if !self.append.is_empty() {
            command += &format!(" --append '{}'", self.append);
        }
        if self.pci_noncoherent {
            command += " --pci-noncoherent";
        }
        for argument in &self.qemu {
            command += &format!(" --qemu={argument}");
        }
        for add in &self.adds {
            command += &format!(" --add {add}");
        }
        for program in kit.programs() {
            command += &format!(" --add {}", program.display());
        }
        Ok(format!(
            "to repeat it:\n  {command} -- sh -c '{}'",
            self.script.replace('\'', r"'\''")
        ))
    }
}

/// What a guest's command said, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
