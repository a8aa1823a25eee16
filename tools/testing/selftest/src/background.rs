// SPDX-License-Identifier: GPL-2.0

//! The module's kernel threads, which work in the background.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::time::Duration;

/// How the names of its threads begin. The kernel cuts names after 15 bytes.
const PREFIX: &str = "dmabuf_co";

/// The threads count as idle if they have done nothing for so many steps of `STEP`.
const QUIET: u32 = 5;
const STEP: Duration = Duration::from_millis(20);

/// The threads, and the clocks of the CPU time that they have used.
pub struct Background {
    pids: Vec<libc::pid_t>,
    clocks: Vec<libc::clockid_t>,
}

impl Background {
    pub fn find() -> Result<Self> {
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc").context("reading /proc")? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process may end while we look at it.
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let command_line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if comm.starts_with(PREFIX) && command_line.is_empty() {
                pids.push(pid);
            }
        }
        let clocks = pids.iter().copied().map(cpu_clock).collect::<Result<_>>()?;
        Ok(Self { pids, clocks })
    }

    pub fn pids(&self) -> &[libc::pid_t] {
        &self.pids
    }

    pub fn exists(&self) -> bool {
        !self.clocks.is_empty()
    }

    /// Nanoseconds of CPU time that they have used so far.
    pub fn used(&self) -> Result<u64> {
        self.clocks.iter().map(|clock| read(*clock)).sum()
    }

    /// Waits until the threads are idle.
    pub fn settle(&self) -> Result<()> {
        let mut quiet = 0;
        let mut before = self.used()?;
        while quiet < QUIET {
            std::thread::sleep(STEP);
            let now = self.used()?;
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }
}

fn cpu_clock(pid: libc::pid_t) -> Result<libc::clockid_t> {
    let mut clock = 0;
    // SAFETY: `clock` is valid for the call.
    match unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } {
        0 => Ok(clock),
        errno => bail!(
            "the CPU clock of process {pid}: {}",
            std::io::Error::from_raw_os_error(errno)
        ),
    }
}

fn read(clock: libc::clockid_t) -> Result<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(std::io::Error::last_os_error()).context("reading a CPU clock");
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
