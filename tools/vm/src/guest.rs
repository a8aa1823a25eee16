// SPDX-License-Identifier: GPL-2.0

//! Boots a guest, runs a command in it, and watches its console meanwhile.
//!
//! `run.rs` describes how the host and the guest talk to each other.

use std::{
    env,
    ffi::OsString,
    fmt, io,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::{
    arch::{Arch, Iommu},
    console::Report,
    emulator,
    image::{self, Add, Image},
    kvm, progress,
    run::{Run, SILENCE, Stream},
    tree::Tree,
};

/// Parameters for the kernel of every guest. It prints everything, ends at once when
/// it panics, and soon notices tasks that hang. `slab_debug` leaves the caches of the
/// slab allocator without sheaves: kmemleak would take pointers in sheaves for
/// references.
const PARAMETERS: &str = "ignore_loglevel panic=-1 kmemleak.verbose=1 slab_debug=Z \
     sysctl.kernel.hung_task_timeout_secs=30 sysctl.kernel.hung_task_check_interval_secs=5";

/// More parameters for a debug kernel. It records who has allocated each page, and
/// finds writes to freed pages.
const DEBUG_PARAMETERS: &str = "page_owner=on page_poison=1";

/// Devices whose drivers import dma-bufs, and `edu`, which does DMA. `edu` reaches all
/// addresses; its driver may restrict that.
const DEVICES: [&str; 3] = [
    "bochs-display",
    "virtio-gpu-pci",
    "edu,dma_mask=0xffffffffffffffff",
];

/// Makes a virtio device do its DMA as other PCI devices do, through the IOMMU.
const TRANSLATED: &str = ",disable-legacy=on,iommu_platform=on";

/// What runs the guest's CPUs.
#[derive(Clone, Copy)]
pub(crate) enum Accelerator {
    Kvm,
    Tcg,
}

/// A guest that is about to be booted for one command.
#[derive(Clone)]
pub struct Guest {
    image: Image,
    command: Vec<OsString>,
    smp: u32,
    mem: String,
    append: String,
    qemu: Vec<OsString>,
    adds: Vec<Add>,
    pci_noncoherent: bool,
    reserved_areas: bool,
    iommu: Option<Iommu>,
    plugins: bool,
    timeout: Option<Duration>,
    accelerator: Option<Accelerator>,
    interactive: bool,
}

/// How a guest ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command's exit status, if the command ended.
    pub status: Option<i32>,
    /// All that the command wrote to its standard output.
    pub stdout: Vec<u8>,
    /// All that the command wrote to its standard error.
    pub stderr: Vec<u8>,
    /// The trouble that the kernel reported.
    pub reports: Vec<Report>,
    /// Whether the guest ended before the command was done.
    pub died: bool,
    /// Whether the command took longer than the time limit.
    pub timed_out: bool,
    /// Whether the kernel fell silent while it booted, which is a mistake of QEMU, too.
    pub hung: bool,
    /// The signal that QEMU died of. Either QEMU has a bug, or somebody killed it.
    pub signal: Option<i32>,
    /// The kernel's messages.
    pub console: PathBuf,
    /// What QEMU complained about.
    pub qemu: String,
}

impl Outcome {
    /// Whether the guest itself had no trouble. The command may have failed.
    pub fn is_healthy(&self) -> bool {
        self.reports.is_empty() && !self.died && !self.timed_out && self.signal.is_none()
    }
}

/// Says what is wrong with the guest. It is empty if the guest is healthy.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for report in &self.reports {
            writeln!(
                f,
                "{} on the guest's console:\n{}",
                report.kind, report.text
            )?;
        }
        if self.died {
            writeln!(f, "the guest died before the command was done")?;
        }
        if let Some(signal) = self.signal {
            writeln!(
                f,
                "QEMU died of signal {signal}: try again, or another QEMU"
            )?;
        }
        if self.hung {
            writeln!(
                f,
                "the kernel fell silent while it booted: try again, or another QEMU"
            )?;
        } else if self.timed_out {
            writeln!(f, "the command took too long: give it more by --timeout")?;
        }
        if !self.qemu.is_empty() {
            writeln!(f, "QEMU says:\n{}", self.qemu)?;
        }
        let tail = progress::tail(&self.console, 20);
        if self.reports.is_empty() && !self.is_healthy() && !tail.is_empty() {
            writeln!(f, "the end of its console:\n{tail}")?;
        }
        if !self.is_healthy() {
            write!(f, "the whole console is in {}", self.console.display())?;
        }
        Ok(())
    }
}

impl Guest {
    /// A guest that boots `image`. Without a command it runs a shell.
    pub fn new(image: &Image) -> Self {
        Self {
            image: image.clone(),
            command: vec!["sh".into()],
            smp: 2,
            mem: "1G".into(),
            append: String::new(),
            qemu: Vec::new(),
            adds: Vec::new(),
            pci_noncoherent: false,
            reserved_areas: false,
            iommu: None,
            plugins: false,
            timeout: None,
            accelerator: None,
            interactive: false,
        }
    }

    /// The command and its arguments.
    pub fn command<S: Into<OsString>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.command = command.into_iter().map(Into::into).collect();
        self
    }

    /// How many CPUs the guest has.
    pub fn smp(mut self, smp: u32) -> Self {
        self.smp = smp;
        self
    }

    /// How much memory the guest has, as QEMU takes it.
    pub fn mem(mut self, mem: impl Into<String>) -> Self {
        self.mem = mem.into();
        self
    }

    /// More parameters for the kernel.
    pub fn append(mut self, parameters: &str) -> Self {
        self.append = format!("{} {parameters}", self.append);
        self
    }

    /// More arguments for QEMU. An accelerator among them replaces ours.
    pub fn qemu<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.qemu.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Copies a file or directory into the guest.
    pub fn add_file(mut self, add: Add) -> Self {
        self.adds.push(add);
        self
    }

    /// Makes PCI devices non-snooping. Only for arm64.
    pub fn pci_noncoherent(mut self, yes: bool) -> Self {
        self.pci_noncoherent = yes;
        self
    }

    /// Reserves two areas of contiguous memory, and adds a test display that owns one
    /// of them. Only for arm64.
    pub fn reserved_areas(mut self, yes: bool) -> Self {
        self.reserved_areas = yes;
        self
    }

    /// Puts an IOMMU between PCI devices and memory.
    pub fn iommu(mut self, iommu: Option<Iommu>) -> Self {
        self.iommu = iommu;
        self
    }

    /// Uses a QEMU whose plugins can read registers and stored values. It comes from Debian
    /// if this machine's is too old. Only for arm64.
    pub fn plugins(mut self, yes: bool) -> Self {
        self.plugins = yes;
        self
    }

    /// How long the guest may take, the boot included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Boots with this accelerator. The probe of KVM uses it.
    pub(crate) fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerator = Some(accelerator);
        self
    }

    /// Boots the guest, waits for its end, and returns how it ended.
    pub fn run(self) -> Result<Outcome> {
        self.run_with(|_, _| {})
    }

    /// Like [`Guest::run`], and gives each piece of output to `output` as it
    /// comes. A piece may be less or more than a line.
    pub fn run_with(self, output: impl FnMut(Stream, &[u8])) -> Result<Outcome> {
        if self.changes_tree() && self.image.kernel.arch != Arch::Arm64 {
            bail!(
                "--pci-noncoherent and --reserved-areas change a device tree, which only arm64 \
                 guests have: use --arch arm64"
            );
        }
        let arch = self.image.kernel.arch;
        if self.plugins && arch != Arch::Arm64 {
            bail!("--plugins is only for arm64: use --arch arm64");
        }
        if self.iommu.is_some_and(|iommu| !iommu.is_for(arch)) {
            bail!("guests of {arch} cannot have this IOMMU: use --iommu virtio");
        }
        let run = Run::new()?;
        let mut settings = format!("end={}\n", run.marker);
        let mut terminal = None;
        if self.interactive {
            terminal = Some(Terminal::save()?);
            let size = tcgetwinsize(io::stdin())?;
            let term = env::var("TERM").unwrap_or_default();
            settings += &format!("tty=/dev/hvc0 TERM='{}'\n", term.replace('\'', ""));
            settings += &format!("size='rows {} cols {}'\n", size.ws_row, size.ws_col);
        }
        let files = [
            ("guest", settings.as_bytes()),
            ("command", &script(&self.command)),
        ];
        image::write(&self.image, &self.adds, &files, &run.path("initramfs"))?;

        let qemu = self.qemu_command(&run)?;
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let end = run.watch(&qemu, deadline, SILENCE, self.interactive, output)?;
        drop(terminal);
        let died = end.status.is_none() && !end.timed_out;
        Ok(Outcome {
            status: end.status,
            stdout: end.stdout,
            stderr: end.stderr,
            reports: end.reports,
            died,
            timed_out: end.timed_out,
            hung: end.hung,
            signal: end.signal,
            console: run.path("console.log"),
            qemu: if died {
                progress::tail(&run.path("qemu.log"), 20)
            } else {
                String::new()
            },
        })
    }

    /// Makes the guest interactive: its command gets this terminal.
    pub fn interactive(mut self) -> Self {
        self.interactive = true;
        self
    }

    fn changes_tree(&self) -> bool {
        self.pci_noncoherent || self.reserved_areas
    }

    fn qemu_command(&self, run: &Run) -> Result<Command> {
        let kernel = &self.image.kernel;
        let mut qemu = self.machine()?;
        if self.changes_tree() {
            let tree = Tree::dump(self.machine()?, &run.path("dtb"))?;
            if self.pci_noncoherent {
                tree.make_pci_noncoherent()?;
            }
            if self.reserved_areas {
                tree.reserve_areas()?;
            }
            qemu.arg("-dtb").arg(tree.path());
        }
        qemu.arg("-kernel").arg(&kernel.image);
        qemu.arg("-initrd").arg(run.path("initramfs"));
        let arch = kernel.arch.parameters();
        let debug = if kernel.debug { DEBUG_PARAMETERS } else { "" };
        qemu.args([
            "-append",
            &format!("{arch} {PARAMETERS} {debug}{}", self.append),
        ]);
        let chardev = |kind: &str, id: &str| {
            let path = run.path(id).display().to_string().replace(',', ",,");
            format!("{kind},id={id},path={path}")
        };
        qemu.args([
            "-chardev",
            &chardev("file", "console"),
            "-serial",
            "chardev:console",
        ]);
        qemu.args(["-device", &self.device("virtio-serial-pci")]);
        for (nr, kind, id) in [
            (1, "file", "stdout"),
            (2, "file", "stderr"),
            (3, "pipe", "status"),
        ] {
            qemu.args(["-chardev", &chardev(kind, id)]);
            qemu.args(["-device", &format!("virtserialport,nr={nr},chardev={id}")]);
        }
        if self.interactive {
            qemu.args(["-chardev", "stdio,id=terminal,signal=off"]);
            qemu.args(["-device", "virtconsole,nr=4,chardev=terminal"]);
        }
        Ok(qemu)
    }

    /// A QEMU command with all arguments that the machine's device tree depends on.
    fn machine(&self) -> Result<Command> {
        let arch = self.image.kernel.arch;
        let mut qemu = match self.plugins {
            true => emulator::command()?,
            false => Command::new(arch.qemu()),
        };
        qemu.args([
            "-machine",
            arch.machine(),
            "-smp",
            &self.smp.to_string(),
            "-m",
            &self.mem,
        ]);
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]);
        qemu.args(["-vga", "none", "-nic", "none"]);
        if let Some(iommu) = self.iommu {
            qemu.args(iommu.arguments());
        }
        for device in DEVICES {
            qemu.args(["-device", &self.device(device)]);
        }
        let says = |option| self.qemu.iter().any(|argument| argument == option);
        let counts = says("-icount");
        let accelerator = match self.accelerator {
            Some(accelerator) => accelerator,
            None if !counts && !says("-accel") && kvm::works(&self.image)? => Accelerator::Kvm,
            None => Accelerator::Tcg,
        };
        match accelerator {
            Accelerator::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
            Accelerator::Tcg => {
                // Kernels of distributions patch their code while they run. With several
                // threads, a CPU may hit a breakpoint that another one has just removed,
                // and the kernel dies of that.
                let patches = arch == Arch::X86_64 && self.image.kernel.stock.is_some();
                if patches && !counts && !says("-accel") {
                    qemu.args(["-accel", "tcg,thread=single"]);
                }
                qemu.args(["-cpu", arch.cpu(counts)])
            }
        };
        qemu.args(&self.qemu);
        Ok(qemu)
    }

    /// A device with the properties that it needs in this machine.
    fn device(&self, device: &str) -> String {
        let virtio = device.starts_with("virtio-") && self.iommu.is_some();
        format!("{device}{}", if virtio { TRANSLATED } else { "" })
    }
}

/// A script that runs the command. Its arguments may contain any bytes.
fn script(command: &[OsString]) -> Vec<u8> {
    let mut script = b"exec".to_vec();
    for argument in command {
        script.extend_from_slice(b" '");
        for &byte in argument.as_bytes() {
            match byte {
                b'\'' => script.extend_from_slice(br"'\''"),
                _ => script.push(byte),
            }
        }
        script.push(b'\'');
    }
    script.push(b'\n');
    script
}

/// A terminal that QEMU is about to make raw. Dropping this restores its settings.
struct Terminal(Termios);

impl Terminal {
    fn save() -> Result<Self> {
        Ok(Self(tcgetattr(io::stdin()).context(
            "a shell needs a terminal on standard input: use `vm run` without one",
        )?))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It fails only if the terminal is gone. Then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted() {
        let command = ["echo", "it's", "$HOME; a\\b", ""].map(OsString::from);
        assert_eq!(
            script(&command),
            b"exec 'echo' 'it'\\''s' '$HOME; a\\b' ''\n"
        );
    }
}
