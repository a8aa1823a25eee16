// SPDX-License-Identifier: MIT OR GPL-2.0

//! The module's threads, which prepare memory while nobody waits.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// How the names of its threads begin. The kernel cuts names after 15 bytes.
const PREFIX: &str = "dmabuf_co";

/// How often, and in which steps of time, nothing must have been done before they count as idle.
const QUIET: u32 = 5;
const STEP: Duration = Duration::from_millis(20);

/// Those that there are.
pub struct Threads {
    /// What says how long each has worked.
    clocks: Vec<PathBuf>,
}

impl Threads {
    pub fn find() -> Self {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let threads = processes.map(|process| process.path()).filter(|process| {
            let read = |file| fs::read(process.join(file)).unwrap_or_default();
            // Only threads of the kernel have no command line.
            read("comm").starts_with(PREFIX.as_bytes()) && read("cmdline").is_empty()
        });
        Self {
            clocks: threads.map(|thread| thread.join("schedstat")).collect(),
        }
    }

    /// How long they have worked so far; `None` if the kernel does not count that.
    pub fn worked(&self) -> Option<Duration> {
        let worked = self.clocks.iter().map(|clock| {
            let text = fs::read_to_string(clock).ok()?;
            let nanoseconds: u64 = text.split(' ').next()?.parse().ok()?;
            (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
        });
        worked.sum()
    }

    /// Lets them do what there is to do.
    pub fn settle(&self) {
        if self.clocks.is_empty() {
            return;
        }
        let mut quiet = 0;
        let mut before = self.worked();
        while quiet < QUIET {
            thread::sleep(STEP);
            let now = self.worked();
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
    }
}
