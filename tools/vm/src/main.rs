// SPDX-License-Identifier: GPL-2.0

//! The command line: see `vm --help`.

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use vm::{Add, Arch, Guest, Image, Iommu, Outcome, Stream};

/// The command took longer than the time limit.
const TIMED_OUT: u8 = 124;
/// The guest died.
const DIED: u8 = 125;
/// The guest's kernel reported trouble.
const REPORTED: u8 = 126;
/// vm itself failed.
const FAILED: u8 = 123;

/// Test kernels and guests for dmabuf-coherency.
///
/// All files are below ~/.cache/dmabuf-coherency, or below the directory that
/// DMABUF_COHERENCY_CACHE names. A kernel is either one of Debian's own, or built
/// from Debian's source of Linux or from the tree that DMABUF_COHERENCY_SOURCE names.
#[derive(Parser)]
#[command(name = "vm", max_term_width = 90, after_help = STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

const STATUS: &str = "\
Exit status of `vm run`: that of COMMAND, or
    2  the arguments are wrong
  123  vm itself failed, for example in building
  124  COMMAND took longer than --timeout
  125  the guest died, or did not boot
  126  the guest's kernel reported a WARNING, BUG, Oops, panic, or the like";

#[derive(Subcommand)]
enum Verb {
    /// Install, download and build all that guests need
    Setup {
        /// Only for this architecture
        #[arg(long)]
        arch: Option<Arch>,
        /// Which kernels to build or fetch: a configuration in tools/vm/kernel, or `debian`
        #[arg(long, value_name = "NAME", default_value = vm::DEFAULT)]
        kernel: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Run a command in a guest
    Run {
        #[command(flatten)]
        guest: GuestArgs,
        /// Give up after this many seconds, the boot included
        #[arg(long, value_name = "SECS", default_value_t = 300)]
        timeout: u64,
        /// The command and its arguments; no shell parses them
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Run a shell in a guest, on this terminal
    Shell {
        #[command(flatten)]
        guest: GuestArgs,
    },
    /// Build or fetch a kernel, and print the path of its build tree
    Kernel {
        #[arg(long)]
        arch: Arch,
        /// A configuration in tools/vm/kernel, or `debian`
        #[arg(default_value = vm::DEFAULT)]
        name: String,
    },
    /// Build our module, and print its path
    Module {
        #[command(flatten)]
        kernel: KernelArgs,
    },
    /// Build a static program from tools, and print its path
    Program {
        #[arg(long)]
        arch: Arch,
        /// A package in tools/Cargo.toml, with a program of the same name
        package: String,
    },
    /// List kernels
    List,
    /// Show which kernel series each suite of Debian has now
    Series,
    /// Run the tests, the stress program or the demo: see `vm runner -- --help`
    Runner {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Args)]
struct KernelArgs {
    #[arg(long)]
    arch: Arch,
    /// A configuration in tools/vm/kernel, the path of a build tree, or Debian's own
    /// kernel: `debian` for the newest, debian-7.3 for the newest of a series
    #[arg(long, value_name = "NAME", default_value = vm::DEFAULT)]
    kernel: String,
}

#[derive(Args)]
struct GuestArgs {
    #[command(flatten)]
    kernel: KernelArgs,
    /// How many CPUs
    #[arg(long, value_name = "N", default_value_t = 2)]
    smp: u32,
    /// How much memory
    #[arg(long, value_name = "M", default_value = "1G")]
    mem: String,
    /// More parameters for the kernel
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Use a QEMU whose plugins can read registers and stored values (arm64 only)
    #[arg(long)]
    plugins: bool,
    /// One more argument for QEMU
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu: Vec<OsString>,
    /// Copy a file or directory into the guest, into / unless DEST is given
    #[arg(long, value_name = "FILE[:DEST]", value_parser = Add::parse)]
    add: Vec<Add>,
    /// Make PCI devices non-snooping (arm64 only)
    #[arg(long)]
    pci_noncoherent: bool,
    /// Reserve two areas of contiguous memory, and add a test display that owns one
    /// of them (arm64 only)
    #[arg(long)]
    reserved_areas: bool,
    /// Put an IOMMU between PCI devices and memory
    #[arg(long, value_name = "KIND")]
    iommu: Option<Iommu>,
    /// Show the kernel's messages
    #[arg(short = 'v', long)]
    console: bool,
}

impl GuestArgs {
    fn guest(&self) -> Result<Guest> {
        let kernel = vm::kernel(self.kernel.arch, &self.kernel.kernel)?;
        let mut guest = Guest::new(&Image::new(&kernel)?)
            .smp(self.smp)
            .mem(&self.mem)
            .qemu(&self.qemu)
            .pci_noncoherent(self.pci_noncoherent)
            .reserved_areas(self.reserved_areas)
            .iommu(self.iommu)
            .plugins(self.plugins);
        for parameters in &self.append {
            guest = guest.append(parameters);
        }
        for add in &self.add {
            guest = guest.add_file(add.clone());
        }
        Ok(guest)
    }

    fn run(&self, guest: Guest) -> Result<ExitCode> {
        let outcome = guest.run_with(|stream, bytes| {
            let _ = match stream {
                Stream::Stdout => write(io::stdout(), bytes),
                Stream::Stderr => write(io::stderr(), bytes),
                Stream::Console if self.console => write(io::stderr(), bytes),
                Stream::Console => Ok(()),
            };
        })?;
        if !outcome.is_healthy() {
            complain(&outcome.to_string());
        }
        Ok(exit_code(&outcome))
    }
}

/// Passes output on. The guest runs on even if nobody reads its output any more.
fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

fn exit_code(outcome: &Outcome) -> ExitCode {
    match outcome.status {
        _ if !outcome.reports.is_empty() => REPORTED.into(),
        _ if outcome.timed_out => TIMED_OUT.into(),
        // A status is eight bits wide.
        Some(status) if !outcome.died => (status as u8).into(),
        _ => DIED.into(),
    }
}

fn complain(text: &str) {
    let (red, plain) = if io::stderr().is_terminal() {
        ("\x1b[31m", "\x1b[m")
    } else {
        ("", "")
    };
    eprintln!("vm: {red}{text}{plain}");
}

fn main() -> ExitCode {
    run(Cli::parse()).unwrap_or_else(|error| {
        // The first line says what to do. Its causes follow.
        let sentences: Vec<String> = error.chain().map(ToString::to_string).collect();
        complain(&sentences.join("\n"));
        FAILED.into()
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Verb::Setup {
            arch,
            kernel,
            dry_run,
        } => {
            let all = Arch::ALL.to_vec();
            vm::setup(&arch.map_or(all, |arch| vec![arch]), &kernel, dry_run)?;
        }
        Verb::Run {
            guest,
            timeout,
            command,
        } => {
            let ready = guest
                .guest()?
                .command(command)
                .timeout(Duration::from_secs(timeout));
            return guest.run(ready);
        }
        Verb::Shell { guest } => return guest.run(guest.guest()?.interactive()),
        Verb::Kernel { arch, name } => println!("{}", vm::kernel(arch, &name)?.tree.display()),
        Verb::Module { kernel } => {
            let kernel = vm::kernel(kernel.arch, &kernel.kernel)?;
            println!("{}", vm::module(&kernel)?.display());
        }
        Verb::Program { arch, package } => {
            println!("{}", vm::rust_program(arch, &package)?.display());
        }
        Verb::List => print!("{}", vm::list()?),
        Verb::Series => print!("{}", vm::series()?),
        Verb::Runner { arguments } => {
            let cargo = concat!(env!("CARGO_MANIFEST_DIR"), "/cargo");
            let run = ["run", "--quiet", "--locked", "--package", "runner", "--"];
            return Err(Command::new(cargo).args(run).args(arguments).exec().into());
        }
    }
    Ok(ExitCode::SUCCESS)
}
