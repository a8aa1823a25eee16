// SPDX-License-Identifier: MIT OR GPL-2.0

//! The command's definition, from which help and completions come, and its exit status.

mod alloc;
mod background;
mod bench;
mod buffers;
mod devices;
mod dot;
mod drawing;
mod follow;
mod graph;
mod install;
mod list;
mod output;
mod pick;
mod rules;
mod size;
mod svg;
mod table;
mod trial;
mod watch;

use anyhow::Result;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueHint};
use dmaheap::{Allocator, Choice, Device, Error, Heap, Requirement, System, Unfit};
use output::Output;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, io};

const EXIT_STATUS: &str = "Exit status:
  0  all is well
  1  no heap fits all of the devices, or none of those is as asked;
     try: the kernel and the links differ
  2  the arguments are wrong
  3  anything else: no such device, no permission, no memory";

const HEAP_COLUMNS: &str = "DEVICES  which devices it takes
PIECES   in how many physical pieces a buffer is: one or any
MAY-USE  yes, or who may: root, or the members of a group; or why nobody may:
         a policy, or there is no node
?        the kernel does not tell";

const COLUMNS: &str = "SNOOPS   whether its DMA sees the CPU caches
REACHES  the address bits that its DMA reaches, none without a DMA mask,
         or IOMMU if one translates its addresses
PIECES   in how many pieces it takes a buffer: one, any, or unknown
?        the kernel does not tell";

const TOTALS: &str = "OF     exporter: all buffers of a heap, or of another exporter
       process: all that it holds
       kernel: those that no process holds, for a device still uses them
SHARE  as BYTES, but a buffer that several processes hold counts for
       a part of it with each of them";

const TRIALS: &str = "LINK    whether the device is linked to the heap, which says that the heap
        works each time
PIECES  in how many physical pieces the node takes a buffer, one or any: it is
        tried with buffers of udmabuf
KERNEL  what the kernel said
AGREES  whether links and kernel say the same. ? is where one of them says
        nothing, or where a heap without a link worked this once: the buffer
        may have been bounced, or a rule leaves the heap out

A video node is tried with the format that is set, by VIDIOC_QBUF, and if it
captures, until there is a frame; a display by PRIME and a framebuffer; an
accelerator by PRIME. A device whose node is not named is tried by all of its
nodes that import.";

const BENCH: &str = "OPERATION   alloc-cold: after the kernel was asked to drop what it keeps
            alloc-warm: after a buffer of this size was freed, and the
            module's threads had time to zero memory for the next one
            map: mmap() and one byte of each page written
            bracket: DMA_BUF_IOCTL_SYNC, start and end
            import: PRIME import or VIDIOC_QBUF
LOWER, UPPER  a quarter of the samples took less, a quarter more
RATIO       how many times as fast as the heap system
threads     what the module's threads worked for a warm buffer. The work is not
            gone: who allocates without a pause waits for it, as if cold";

const DEVICES: &str = "A DEVICE is one of:
  a device node: /dev/video0, /dev/dri/card0, /proc/self/fd/5
  a directory of sysfs: /sys/class/drm/card0
  a device's name: vivid.0, 1c00000.camera
    of a PCI device 0000:00:02.0 or 00:02.0
    of a USB device or interface 1-1 or 1-1:1.0
  a node's name: video0, card0
  a driver or module with one device that imports buffers: uvcvideo";

const ENVIRONMENT: &str = "Environment of COMMAND:
  DMABUF_FD    the number of the descriptor
  DMABUF_SIZE  the buffer's size in bytes
  DMABUF_HEAP  the heap's name

The exit status is that of COMMAND; 126 if it cannot be run; 127 if it
is not found.";

/// Finds the DMA heap that suits a set of devices, and allocates from it
#[derive(Parser)]
#[command(name = "dmaheap", version, max_term_width = 80, after_long_help = EXIT_STATUS)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Options {
    /// Prints JSON, as share/doc/dmaheap/dmaheap.rst describes it
    #[arg(long, global = true)]
    json: bool,
    /// Reads sys, dev, proc and etc below this directory
    #[arg(long, global = true, value_name = "DIRECTORY", default_value = "/",
          value_parser = OsStringValueParser::new().try_map(directory),
          value_hint = ValueHint::DirPath)]
    root: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the heaps: what they are like, and whether you may use them. So does dmaheap without a
    /// command
    #[command(after_long_help = HEAP_COLUMNS)]
    List {
        /// Shows sizes, live buffers, limits and refused devices as well
        #[arg(short, long)]
        verbose: bool,
        #[command(flatten)]
        table: table::Options,
    },
    /// Lists the devices: what they need of a buffer, and the heaps that they are linked to, best
    /// first
    #[command(after_long_help = COLUMNS)]
    Devices {
        /// Shows all nodes and heaps of each device, and not only what fits into a line
        #[arg(short, long)]
        verbose: bool,
        #[command(flatten)]
        table: table::Options,
    },
    /// Prints the path of the heap that suits all of the devices, and nothing else
    #[command(after_long_help = format!("{DEVICES}\n\n{EXIT_STATUS}"))]
    Pick(Pick),
    /// Allocates a buffer, and runs a command that inherits it
    #[command(after_long_help = format!("{DEVICES}\n\n{ENVIRONMENT}\n\n{EXIT_STATUS}"))]
    Alloc(Alloc),
    /// Imports a buffer of each heap into each device, and says where the kernel's answer and the
    /// links differ
    #[command(after_long_help = format!("{TRIALS}\n\n{DEVICES}\n\n{EXIT_STATUS}"))]
    Try(Try),
    /// Lists the dma-bufs that there are, who holds them and which devices are attached
    #[command(after_long_help = TOTALS)]
    Buffers(Buffers),
    /// Measures what buffers cost on this machine, in wall time
    #[command(after_long_help = format!("{BENCH}\n\n{DEVICES}"))]
    Bench(Bench),
    /// Draws devices and heaps, for a browser (SVG) or for Graphviz
    Graph {
        /// What to draw it in
        #[arg(long, value_enum, default_value_t)]
        format: graph::Format,
    },
    /// Shows links as they come and go, until it is interrupted
    Watch,
    /// Installs this program, its man page and shell completions
    #[command(hide = true)]
    Install {
        /// Such as /usr
        prefix: PathBuf,
    },
}

#[derive(Args)]
struct Buffers {
    /// Only what this process holds
    #[arg(long)]
    pid: Option<u32>,
    /// Adds up instead, by exporter, by process, and what only the kernel holds
    #[arg(long)]
    totals: bool,
    /// Goes on with what changes, and looks every second or as often as is said
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
          default_missing_value = "1", value_parser = follow::parse,
          conflicts_with_all = ["totals", "output", "no_legend"])]
    follow: Option<Duration>,
    #[command(flatten)]
    table: table::Options,
}

#[derive(Args)]
struct Wanted {
    /// The heap must have physically contiguous memory
    ///
    /// Needed only where `dmaheap devices` says that PIECES is unknown, or for reasons of your own:
    /// a device that is known to need one piece has links to such heaps only.
    #[arg(long)]
    contiguous: bool,
    /// The bytes must be right, although the program never calls DMA_BUF_IOCTL_SYNC
    ///
    /// So they are in strict and in uncached heaps; in the others if each of the devices is known
    /// to snoop.
    #[arg(long)]
    without_brackets: bool,
}

#[derive(Args)]
struct Pick {
    /// The devices that are to share a buffer
    #[arg(required = true, value_name = "DEVICE", value_hint = ValueHint::AnyPath)]
    devices: Vec<OsString>,
    /// The size that buffers will have, in bytes or with K, M, G or T behind it (powers of 1024)
    #[arg(long, value_parser = size::parse)]
    size: Option<u64>,
    /// Says below the path why it is this heap and none of the others
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Args)]
struct Alloc {
    /// The devices that are to share the buffer
    #[arg(long = "for", value_name = "DEVICE", num_args = 1.., required_unless_present = "heap",
          value_hint = ValueHint::AnyPath)]
    devices: Vec<OsString>,
    /// The heap's name, or the path of its node as `pick` prints it, instead of devices
    #[arg(long, conflicts_with_all = ["devices", "contiguous", "without_brackets"],
          value_hint = ValueHint::FilePath)]
    heap: Option<OsString>,
    /// The size in bytes, or with K, M, G or T behind it (powers of 1024)
    #[arg(long, value_parser = size::parse)]
    size: u64,
    /// A name of up to 31 bytes, which shows in /proc and debugfs
    #[arg(long)]
    name: Option<OsString>,
    /// Nobody can map it for writing through this descriptor
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    wanted: Wanted,
    /// The command to run; without one the buffer is given back at once
    #[arg(last = true, value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

#[derive(Args)]
struct Try {
    /// The devices, or their nodes
    #[arg(required = true, value_name = "DEVICE", value_hint = ValueHint::AnyPath)]
    devices: Vec<OsString>,
    /// Tries this heap alone: its name, or the path of its node
    #[arg(long, value_hint = ValueHint::FilePath)]
    heap: Option<OsString>,
    /// The least size of the buffer, in bytes or with K, M, G or T behind it (powers of 1024)
    ///
    /// A buffer is never smaller than a frame.
    #[arg(long, value_parser = size::parse, default_value = "16M")]
    size: u64,
    /// How many frames a camera captures; with 0 it is not started
    #[arg(long, value_name = "N", default_value_t = 1)]
    frames: u32,
    /// Prints instead the line for modprobe.d by which the links would agree
    #[arg(long)]
    rules: bool,
}

#[derive(Args)]
struct Bench {
    /// Devices to import into
    #[arg(value_name = "DEVICE", value_hint = ValueHint::AnyPath)]
    devices: Vec<OsString>,
    /// Measures this heap alone, beside system
    #[arg(long, value_hint = ValueHint::FilePath)]
    heap: Option<OsString>,
    /// The sizes of buffers, with commas between them
    #[arg(long, value_name = "SIZE,...", value_parser = size::parse, value_delimiter = ',',
          default_value = "4K,64K,1M,8M")]
    size: Vec<u64>,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 15,
          value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
}

/// Runs the command; returns its exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.options.json);
    match run(&cli, &output) {
        Ok(status) => status,
        // Nobody wants to read more.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            status(&error)
        }
    }
}

fn run(cli: &Cli, output: &Output) -> Result<ExitCode> {
    let system = System::at(&cli.options.root);
    let listing = Command::List {
        verbose: false,
        table: table::Options::default(),
    };
    let command = cli.command.as_ref().unwrap_or(&listing);
    if !matches!(command, Command::Install { .. }) {
        note_not_mounted(&cli.options.root, output);
    }
    match command {
        Command::List { verbose, table } => list::run(&system, output, *verbose, table),
        Command::Devices { verbose, table } => devices::run(&system, output, *verbose, table),
        Command::Pick(pick) => return pick::run(&system, output, pick),
        Command::Alloc(alloc) => alloc::run(&system, output, alloc),
        Command::Try(arguments) => return trial::run(&system, output, arguments),
        Command::Buffers(buffers) => buffers::run(&system, output, buffers),
        Command::Bench(arguments) => bench::run(&system, output, arguments),
        Command::Graph { format } => graph::run(&system, output, *format),
        Command::Watch => watch::run(&system, output),
        Command::Install { prefix } => install::run(prefix),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// A directory. Without one nothing is there to read, which would be said of the kernel.
fn directory(path: OsString) -> Result<PathBuf, String> {
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(path.into()),
        Ok(_) => Err("it is no directory".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The exit status where something was not done.
const NOT_DONE: u8 = 3;

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn status(error: &anyhow::Error) -> ExitCode {
    if error.is::<table::NoSuchColumn>() {
        return ExitCode::from(2);
    }
    ExitCode::from(match error.downcast_ref::<Error>() {
        Some(Error::Unfit(
            Unfit::NoneFits
            | Unfit::LeftOutByRules { .. }
            | Unfit::NoneSuits { .. }
            | Unfit::NoneContiguous
            | Unfit::NeedsBrackets { .. },
        )) => 1,
        Some(Error::ZeroSize | Error::BadName(_)) => 2,
        _ => error
            .downcast_ref::<alloc::CannotRun>()
            .map_or(NOT_DONE, alloc::CannotRun::status),
    })
}

/// The devices that somebody has named.
fn devices(system: &System, handles: &[OsString]) -> Result<Vec<Device>, Error> {
    handles.iter().map(|handle| system.device(handle)).collect()
}

/// The choice for them.
fn choose(
    system: &System,
    devices: &[Device],
    wanted: &Wanted,
    size: Option<u64>,
) -> Result<Choice, Error> {
    let requirement = Requirement {
        contiguous: wanted.contiguous,
        size,
        without_brackets: wanted.without_brackets,
    };
    system.choose_for(devices, requirement)
}

/// Tells a person what cannot be seen, as in a container's files when the container does not run.
fn note_not_mounted(root: &Path, output: &Output) {
    for (name, usual, kind) in [("sys", "class", "sysfs"), ("proc", "sys", "proc")] {
        let place = root.join(name);
        if !place.join(usual).is_dir() {
            let place = place.display();
            output.note(&format!(
                "nothing is mounted on {place}: try `mount -t {kind} {kind} {place}` as root, or \
                 for a container that runs `--root /proc/PID/root`"
            ));
        }
    }
}

/// Tells a person why little is known, if that is so.
fn note_missing_module(system: &System, output: &Output) {
    if !system.module_is_loaded() {
        output.note(
            "the module dmabuf_coherency is not loaded, so nothing is known of devices: try \
             `modprobe dmabuf_coherency` as root",
        );
    }
}

/// All heaps, of which there must be one.
fn heaps(system: &System) -> Result<Vec<Heap>, Error> {
    let heaps = system.heaps()?;
    if heaps.is_empty() {
        return Err(Error::NoHeaps);
    }
    Ok(heaps)
}

/// The heap that was asked for, or all that may be opened.
fn open_heaps(
    system: &System,
    output: &Output,
    handle: Option<&OsStr>,
) -> Result<Vec<(Heap, Allocator)>, Error> {
    if let Some(handle) = handle {
        let heap = system.heap(handle)?;
        let allocator = heap.open()?;
        return Ok(vec![(heap, allocator)]);
    }
    let mut opened = Vec::new();
    let mut closed = Vec::new();
    for heap in heaps(system)? {
        match heap.open() {
            Ok(allocator) => opened.push((heap, allocator)),
            Err(error) => closed.push((heap.name, error)),
        }
    }
    match (&opened[..], closed.is_empty()) {
        ([], false) => return Err(closed.remove(0).1),
        (_, false) => {
            let names: Vec<_> = closed.into_iter().map(|(name, _)| name).collect();
            output.note(&format!(
                "not tried, as you may not open them: {}",
                names.join(", ")
            ));
        }
        _ => (),
    }
    Ok(opened)
}
