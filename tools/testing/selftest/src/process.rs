// SPDX-License-Identifier: GPL-2.0

//! Other processes that tests need: forks that share their mappings, and
//! helpers that are killed.

use crate::expect::outcome;
use crate::heap::{Buffer, Heap, Request};
use crate::mapping::Mapping;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use dmabuf_coherency_selftest::cgroup::enter;
use rustix::process::{Pid, Signal, WaitOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The program that is running.
const SELF: &str = "/proc/self/exe";

/// Starts a fork of this process. It runs `body`, and exits with status 0 if that returned true.
pub fn fork(body: impl FnOnce() -> bool) -> Result<Pid> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    ensure!(
        status.contains("\nThreads:\t1\n"),
        "a fork is safe only while there is one thread"
    );
    // SAFETY: There is no other thread, so the child finds no lock taken and may run any code.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).context("fork"),
        0 => {
            let good = catch_unwind(AssertUnwindSafe(body)).unwrap_or(false);
            // SAFETY: Leaves without running destructors, which belong to the parent.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        child => Pid::from_raw(child).context("fork returned a strange number"),
    }
}

/// Runs `body` in a fork of this process. Returns whether it returned true.
pub fn in_fork(body: impl FnOnce() -> bool) -> Result<bool> {
    let child = fork(body)?;
    let waited = rustix::process::waitpid(Some(child), WaitOptions::empty())?;
    let Some((_, status)) = waited else {
        bail!("waiting for the fork returned no status");
    };
    Ok(status.exit_status() == Some(0))
}

/// The size of a small buffer. It is far more than the kernel allocates to manage the buffer.
const SMALL: usize = 256 << 10;

/// What a helper process does.
#[derive(Subcommand)]
pub enum Helper {
    /// Uses a little memory, asks the kernel to be killed first when memory runs out, and waits.
    Victim,
    /// Allocates and frees buffers of a heap in a control group, and then fills the group with
    /// memory of its own.
    Press {
        heap: String,
        group: PathBuf,
        /// How many bytes of buffers, and of its own memory.
        len: usize,
    },
    /// Allocates one buffer, prints how that ended, and waits.
    Allocate {
        heap: String,
        len: u64,
        /// The control group to do it in.
        group: Option<PathBuf>,
    },
    /// Allocates buffers of [`SMALL`] bytes, `len` bytes in total, prints how that ended, and waits.
    AllocateSmall {
        heap: String,
        len: u64,
        /// The control group to do it in.
        group: PathBuf,
    },
}

impl Helper {
    /// Does the helper's work in this process.
    pub fn run(&self) -> Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        match self {
            Self::Victim => {
                std::fs::write("/proc/self/oom_score_adj", "1000")?;
                let memory = Mapping::anonymous(4 << 20)?;
                memory.fill(1);
                println!("ready");
                std::io::stdin().read_to_end(&mut Vec::new())?;
                Ok(())
            }
            Self::Press { heap, group, len } => {
                enter(group)?;
                let heap = Heap::open(heap)?;
                let buffers = (0..len / SMALL).map(|_| heap.alloc(SMALL));
                drop(buffers.take_while(Result::is_ok).collect::<Vec<_>>());
                Mapping::anonymous(*len)?.fill(1);
                println!("ready");
                Ok(())
            }
            Self::Allocate { heap, len, group } => {
                if let Some(group) = group {
                    enter(group)?;
                }
                let buffer = Heap::open(heap)?.request(&Request::new(*len));
                println!("{}", outcome(&buffer));
                std::io::stdin().read_to_end(&mut Vec::new())?;
                Ok(())
            }
            Self::AllocateSmall { heap, len, group } => {
                enter(group)?;
                let heap = Heap::open(heap)?;
                let count = len / SMALL as u64;
                let buffers: Result<Vec<Buffer>, _> =
                    (0..count).map(|_| heap.alloc(SMALL)).collect();
                println!("{}", outcome(&buffers));
                std::io::stdin().read_to_end(&mut Vec::new())?;
                Ok(())
            }
        }
    }

    /// Starts a process that does the helper's work.
    pub fn spawn(&self) -> Result<Running> {
        let mut command = Command::new(SELF);
        command.arg("helper");
        match self {
            Self::Victim => command.arg("victim"),
            Self::Press { heap, group, len } => command
                .arg("press")
                .arg(heap)
                .arg(group)
                .arg(len.to_string()),
            Self::Allocate { heap, len, group } => command
                .arg("allocate")
                .arg(heap)
                .arg(len.to_string())
                .args(group),
            Self::AllocateSmall { heap, len, group } => command
                .arg("allocate-small")
                .arg(heap)
                .arg(len.to_string())
                .arg(group),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().context("starting a helper")?;
        Ok(Running(child))
    }
}

/// A running helper. Dropping this kills it.
pub struct Running(Child);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for a line of the helper's output.
    pub fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        let stdout = self
            .0
            .stdout
            .as_mut()
            .context("the helper's output is gone")?;
        // The helper prints only this line, so dropping the reader loses nothing.
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("waiting for the helper")?;
        Ok(line.trim_end().to_owned())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    pub fn kill(&mut self) -> Result<()> {
        Ok(self.0.kill()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the helper has ended already, and somebody has waited for it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
