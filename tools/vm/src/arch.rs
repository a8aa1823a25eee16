// SPDX-License-Identifier: GPL-2.0

//! What differs between the architectures that guests have.

use std::fmt;

/// An architecture that a guest can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// A PC. Nothing here depends on its firmware tables.
    #[value(name = "x86_64")]
    X86_64,
    /// QEMU's `virt` machine, described by a device tree.
    #[value(name = "arm64")]
    Arm64,
}

impl Arch {
    /// All of them, in the order in which they are built and tested.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Arm64];

    /// The kernel's name for it, as in `make ARCH=`.
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

    /// The Rust target of 32-bit programs, which this architecture runs as well.
    pub(crate) fn rust_target_32(self) -> &'static str {
        match self {
            Arch::X86_64 => "i686-unknown-linux-gnu",
            Arch::Arm64 => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// The C compiler for 32-bit programs, and the packages of Debian that contain it.
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

    /// The CPU that QEMU emulates. It has every feature that QEMU can emulate,
    /// except those that break a kernel or slow it down.
    ///
    /// Five-level page tables (`la57`) break KASAN: early in the boot an x86 kernel
    /// seems to have four levels, and KASAN takes addresses of five for wild ones.
    ///
    /// With ERMS the kernel zeroes pages byte by byte (`rep stosb`). If a page has
    /// been executed, QEMU looks for translated code at each of these stores. A
    /// block of such pages may take half a minute on a busy machine. So only a guest
    /// whose clock `counts` instructions has ERMS, as its counts are to be those of
    /// a board.
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

    /// The option that every kernel configuration for this architecture sets.
    pub(crate) fn config(self) -> &'static str {
        match self {
            Arch::X86_64 => "CONFIG_X86_64=y",
            Arch::Arm64 => "CONFIG_ARM64=y",
        }
    }

    /// The kernel's parameters on this architecture.
    ///
    /// They name the serial port for its messages. While the host is busy, timer
    /// interrupts of a PC are late or get lost. `no_timer_check` keeps the kernel
    /// from panicking over that when it boots. The other two make timers tick
    /// periodically. A one-shot timer is set again by each interrupt. If one
    /// interrupt is lost, it never fires again, and whatever sleeps on that CPU
    /// sleeps for ever.
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

    /// QEMU's arguments for it. An Intel IOMMU must come before its devices.
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
