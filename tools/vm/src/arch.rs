// SPDX-License-Identifier: GPL-2.0

//! What differs between the architectures that guests have.

use std::fmt;

/// An architecture that a guest can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// A PC, booted without firmware tables that matter here.
    #[value(name = "x86_64")]
    X86_64,
    /// QEMU's `virt` machine, described by a device tree.
    #[value(name = "arm64")]
    Arm64,
}

impl Arch {
    /// All of them, in the order in which they are built and tested.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Arm64];

    /// The name that kernel people use, as in `make ARCH=`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Arm64 => "arm64",
        }
    }

    /// Whether this is the architecture of the machine we run on.
    pub fn is_host(self) -> bool {
        self.gnu() == std::env::consts::ARCH
    }

    /// The name that compilers and QEMU use.
    pub(crate) fn gnu(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Arm64 => "aarch64",
        }
    }

    /// The name that Debian uses.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    /// The Rust target of static programs for guests.
    pub(crate) fn rust_target(self) -> String {
        format!("{}-unknown-linux-gnu", self.gnu())
    }

    /// The Rust target of programs of 32 bits that it runs as well.
    pub(crate) fn rust_target_32(self) -> &'static str {
        match self {
            Arch::X86_64 => "i686-unknown-linux-gnu",
            Arch::Arm64 => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// The C compiler for these, and the packages of Debian that have it.
    pub(crate) fn cc_32(self) -> (&'static str, &'static str) {
        match self {
            Arch::X86_64 => (
                "i686-linux-gnu-gcc",
                "gcc-i686-linux-gnu and libc6-dev-i386-cross",
            ),
            Arch::Arm64 => (
                "arm-linux-gnueabihf-gcc",
                "gcc-arm-linux-gnueabihf and libc6-dev-armhf-cross",
            ),
        }
    }

    /// The C compiler that links programs for guests.
    pub(crate) fn cc(self) -> String {
        if self.is_host() {
            "gcc".into()
        } else {
            format!("{}-linux-gnu-gcc", self.gnu())
        }
    }

    /// The emulator.
    pub(crate) fn qemu(self) -> String {
        format!("qemu-system-{}", self.gnu())
    }

    /// The machine that QEMU emulates.
    pub(crate) fn machine(self) -> &'static str {
        match self {
            Arch::X86_64 => "q35",
            Arch::Arm64 => "virt",
        }
    }

    /// The CPU that QEMU emulates: with all that it can emulate, save what
    /// breaks a kernel or holds it up.
    ///
    /// As a kernel starts on an x86 CPU, its page tables seem to have four levels
    /// for a moment, and KASAN takes addresses of five for wild. With ERMS it
    /// zeroes pages byte by byte (`rep stosb`), and QEMU looks for code of its own
    /// at each store to a page that somebody has executed: a block of such pages
    /// may take half a minute on a busy machine. So only a guest whose clock
    /// `counts` instructions has it: those are to be a board's.
    pub(crate) fn cpu(self, counts: bool) -> &'static str {
        match self {
            Arch::X86_64 if counts => "max,la57=off",
            Arch::X86_64 => "max,la57=off,erms=off",
            Arch::Arm64 => "max",
        }
    }

    /// The kernel image that QEMU boots, inside a build tree.
    pub(crate) fn image(self) -> &'static str {
        match self {
            Arch::X86_64 => "arch/x86/boot/bzImage",
            Arch::Arm64 => "arch/arm64/boot/Image",
        }
    }

    /// The option that a kernel configuration for this architecture has set.
    pub(crate) fn config(self) -> &'static str {
        match self {
            Arch::X86_64 => "CONFIG_X86_64=y",
            Arch::Arm64 => "CONFIG_ARM64=y",
        }
    }

    /// What the kernel is told on this architecture: the serial port that its
    /// messages go to, and on a PC what helps when timer interrupts are late or get
    /// lost while the host is busy. It must not panic as it starts, and its timers
    /// must tick: one that is set anew after each interrupt never comes again once
    /// an interrupt is lost, and all that sleeps on that CPU sleeps for ever.
    pub(crate) fn parameters(self) -> &'static str {
        match self {
            Arch::X86_64 => "console=ttyS0 no_timer_check highres=off nohz=off",
            Arch::Arm64 => "console=ttyAMA0",
        }
    }
}

/// An IOMMU that stands between PCI devices and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Iommu {
    /// VT-d, of x86_64.
    Intel,
    /// Arm's SMMUv3, of arm64.
    Smmuv3,
    /// virtio-iommu, of both.
    Virtio,
}

impl Iommu {
    /// Whether machines of this architecture can have one.
    pub(crate) fn is_for(self, arch: Arch) -> bool {
        match self {
            Iommu::Intel => arch == Arch::X86_64,
            Iommu::Smmuv3 => arch == Arch::Arm64,
            Iommu::Virtio => true,
        }
    }

    /// What QEMU takes for it. An Intel IOMMU must stand before its devices.
    pub(crate) fn arguments(self) -> [&'static str; 2] {
        match self {
            Iommu::Intel => ["-device", "intel-iommu"],
            Iommu::Smmuv3 => ["-machine", "iommu=smmuv3"],
            Iommu::Virtio => ["-device", "virtio-iommu-pci"],
        }
    }
}

impl fmt::Display for Iommu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Iommu::Intel => "intel",
            Iommu::Smmuv3 => "smmuv3",
            Iommu::Virtio => "virtio",
        })
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
