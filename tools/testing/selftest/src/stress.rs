// SPDX-License-Identifier: GPL-2.0

//! Random sequences over all heaps, by several processes at once.
//!
//! A run is a number of rounds. In each round, some workers carry out actions. The actions depend
//! only on the seed, the round and the worker's number. One worker may be killed in the middle.
//! Workers keep a model of the buffers that must exist, and of their content. When all workers are
//! done, the sum of their models must be what sysfs shows for each heap. When the workers are gone,
//! all buffers must be gone too. A round that failed can be repeated by itself.

mod access;
mod action;
mod child;
mod content;
mod devices;
mod fuzz;
mod memory;
mod prime;
mod questions;
mod state;
mod tally;
mod video;
mod weather;
mod worker;

pub use weather::Weather;
pub use worker::Worker;

use crate::expect::{Skip, skip};
use crate::heap::{Buffer, Heap};
use crate::heap_files::look;
use crate::ktap::{Report, Verdict};
use crate::leaks::Before;
use crate::mapping::page_size;
use crate::memory::eventually;
use crate::options::{Options, is_ours};
use crate::reach::bouncing_is_forced;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd as _, AsRawFd as _};
use state::{Usage, heap_names};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tally::Tally;
use worker::Said;

/// Far longer than a round takes, in seconds.
const ROUND_LIMIT: i64 = 600;

#[derive(Args, Clone, Debug)]
pub struct Stress {
    /// The seed of all random numbers. By default each run has another one
    #[arg(long)]
    seed: Option<u64>,
    /// The number of the first round
    #[arg(long, default_value_t = 0, value_name = "ROUND")]
    from: u64,
    /// Begins no new round after this many seconds, and ignores --rounds
    #[arg(long)]
    seconds: Option<u64>,
    /// How many processes use buffers at once. By default as many as there are CPUs
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=64))]
    workers: Option<u64>,
    /// How many actions each process does in a round
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    actions: u32,
}

/// The tag that fills the shared buffer.
fn shared_tag(seed: u64, round: u64) -> u64 {
    action::rng(seed, round, u64::MAX - 1).u64(1..)
}

impl Stress {
    /// Runs all rounds as one test. Returns the exit status.
    pub fn run(&self, options: &Options) -> Result<u8> {
        let mut report = Report::start(1);
        let verdict = match self.all(options, &report) {
            Ok(()) => Verdict::Passed,
            Err(error) => match error.downcast::<Skip>() {
                Ok(Skip(reason)) => Verdict::Skipped(reason),
                Err(error) => {
                    report.diagnose(&format!("{error:#}"));
                    Verdict::Failed
                }
            },
        };
        report.result("stress", &verdict);
        Ok(report.finish())
    }

    fn all(&self, options: &Options, report: &Report) -> Result<()> {
        if bouncing_is_forced()? {
            return skip("everything bounces here, so devices do not see what others write");
        }
        let seed = self.seed.unwrap_or_else(|| fastrand::Rng::new().u64(..));
        let workers = match self.workers {
            Some(workers) => workers,
            None => std::thread::available_parallelism()?.get() as u64,
        };
        report.diagnose(&format!("seed {seed}, {workers} workers"));
        expect_usage("before it begins", &Usage::new())?;
        let start = Instant::now();
        let mut tally = Tally::default();
        let mut before = None;
        let mut rounds = 0;
        while match self.seconds {
            Some(seconds) => start.elapsed().as_secs() < seconds,
            None => rounds < options.rounds as u64,
        } {
            let number = self.from + rounds;
            let round = Round {
                seed,
                number,
                workers,
                actions: self.actions,
            };
            let result = round.run(&mut tally, report);
            result.with_context(|| round.repeat())?;
            rounds += 1;
            if rounds % 100 == 0 {
                let elapsed = start.elapsed().as_secs_f32();
                report.diagnose(&format!("{rounds} rounds in {elapsed:.0} s"));
            }
            // After the first round, everything that is allocated only once is there.
            if before.is_none() {
                before = Some(Before::look(&options.heap)?);
            }
        }
        report.diagnose(&format!(
            "{rounds} rounds in {:.0} s",
            start.elapsed().as_secs_f32()
        ));
        tally.show(report);
        if let Some(before) = before {
            let left = before.compare()?;
            ensure!(left.is_empty(), "left behind: {}", left.join(", "));
        }
        // A few rounds need not have each kind of action.
        if rounds >= 20 {
            tally.expect_all()?;
        }
        Ok(())
    }
}

struct Round {
    seed: u64,
    number: u64,
    workers: u64,
    actions: u32,
}

/// A worker, or the weather. Dropping this kills it.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Round {
    /// The command that repeats this round.
    fn repeat(&self) -> String {
        format!(
            "round {} failed; to repeat it: dmabuf_coherency_selftest stress --seed {} --from {} \
             --rounds 1 --workers {} --actions {}\n",
            self.number, self.seed, self.number, self.workers, self.actions
        )
    }

    fn run(&self, tally: &mut Tally, report: &Report) -> Result<()> {
        let mut rng = action::rng(self.seed, self.number, u64::MAX - 2);
        let heaps = heap_names()?;
        let heap = &heaps[rng.usize(..heaps.len())];
        let shared = share(
            heap,
            1 + rng.usize(..64),
            shared_tag(self.seed, self.number),
        )?;
        let mut expected = Usage::new();
        if is_ours(heap) {
            expected.insert(heap.clone(), (1, shared.size()));
        }

        let mut processes = (0..self.workers)
            .map(|worker| Process::worker(self, worker, &shared))
            .collect::<Result<Vec<_>>>()?;
        processes.push(Process::weather(self, rng.usize(1..=4))?);
        if rng.u32(..3) == 0 {
            let victim = rng.usize(..self.workers as usize);
            std::thread::sleep(Duration::from_micros(rng.u64(..200_000)));
            processes.swap_remove(victim).kill()?;
        }
        let deadline = Instant::now() + Duration::from_secs(ROUND_LIMIT as u64);
        let mut problems = Vec::new();
        for process in &mut processes {
            match process.report(deadline, report)? {
                Said::Through { usage, tally: more } => {
                    tally.merge(more);
                    for (heap, (buffers, bytes)) in usage {
                        let sum = expected.entry(heap).or_default();
                        sum.0 += buffers;
                        sum.1 += bytes;
                    }
                }
                Said::Failed { why, recent } => {
                    problems.push(format!("{why}\n{}", recent.join("\n")));
                }
            }
        }
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        expect_usage("with all that there is", &expected)?;
        for process in processes {
            process.end()?;
        }
        drop(shared);
        expect_usage("after all have gone", &Usage::new())
    }
}

/// Makes the buffer that all share.
fn share(heap: &str, pages: usize, tag: u64) -> Result<Buffer> {
    let buffer = Heap::open(heap)?
        .alloc(pages * page_size())
        .with_context(|| format!("a buffer of {heap} to share"))?;
    let mapping = buffer.map()?;
    buffer.bracketed(|| mapping.write(0, &content::bytes(0, pages, tag)))?;
    Ok(buffer)
}

/// Waits until the heaps count exactly these buffers. Buffers of killed processes take a while to go.
fn expect_usage(what: &str, expected: &Usage) -> Result<()> {
    for heap in heap_names()?.iter().filter(|heap| is_ours(heap)) {
        let expected = expected.get(heap).copied().unwrap_or_default();
        let mut seen = (0, 0);
        eventually(|| {
            seen = (look(heap, "buffers")?, look(heap, "bytes")?);
            Ok(seen == expected)
        })?;
        ensure!(
            seen == expected,
            "{what}, {heap}: expected {} buffers and {} bytes, got {} and {} from sysfs",
            expected.0,
            expected.1,
            seen.0,
            seen.1
        );
    }
    Ok(())
}

impl Process {
    fn worker(round: &Round, worker: u64, shared: &Buffer) -> Result<Self> {
        Self::start(&[
            "stress-worker".to_owned(),
            format!("--seed={}", round.seed),
            format!("--round={}", round.number),
            format!("--worker={worker}"),
            format!("--actions={}", round.actions),
            format!("--shared={}", shared.as_fd().as_raw_fd()),
        ])
    }

    fn weather(round: &Round, changes: usize) -> Result<Self> {
        Self::start(&[
            "stress-weather".to_owned(),
            format!("--seed={}", round.seed),
            format!("--round={}", round.number),
            format!("--changes={changes}"),
        ])
    }

    fn start(arguments: &[String]) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a worker")?;
        let output = child.stdout.take().context("a worker without output")?;
        Ok(Self {
            child,
            output: BufReader::new(output),
        })
    }

    /// Waits for the result of a process. Passes on its other output.
    fn report(&mut self, deadline: Instant, report: &Report) -> Result<Said> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = Timespec::try_from(left)?;
            let mut fds = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
            let ready = !self.output.buffer().is_empty()
                || rustix::event::poll(&mut fds, Some(&limit))? > 0;
            ensure!(ready, "a process is not done after {ROUND_LIMIT} s");
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                bail!("a process ended before it was done: {}", self.child.wait()?);
            }
            match serde_json::from_str(&line) {
                Ok(said) => return Ok(said),
                Err(_) => report.diagnose(&line),
            }
        }
    }

    fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends the process.
    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "a process ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has ended already, and somebody has waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
