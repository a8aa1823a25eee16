// SPDX-License-Identifier: GPL-2.0

//! Runs each test in a process of its own, with a time limit, and looks for leaks.

use crate::expect::Skip;
use crate::ktap::{FAILED, PASSED, Report, SKIPPED, Verdict};
use crate::leaks::Before;
use crate::options::Options;
use crate::pages;
use crate::tests::{self, Test};
use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// The time limit in seconds, and what each round adds. It is far longer than any test takes, even
/// under emulation on a busy machine. A debug kernel has so many times longer.
const LIMIT: i64 = 180;
const LIMIT_PER_ROUND: i64 = 10;
const DEBUG_SLOWER: i64 = 4;

/// Runs all tests whose name contains one of `filters`. Returns the exit status.
pub fn run(options: &Options, filters: &[String]) -> Result<u8> {
    let chosen: Vec<&Test> = tests::all().filter(|test| test.matches(filters)).collect();
    if chosen.is_empty() {
        bail!(
            "no test has {} in its name: see --list",
            filters.join(" or ")
        );
    }
    let mut report = Report::start(chosen.len());
    report.diagnose(&format!("heap {}", options.heap));
    for test in chosen {
        let start = Instant::now();
        let verdict = run_one(options, test, &report)?;
        let elapsed = start.elapsed();
        if elapsed.as_secs() >= 5 {
            report.diagnose(&format!(
                "{} took {:.1} s",
                test.name,
                elapsed.as_secs_f32()
            ));
        }
        report.result(test.name, &verdict);
    }
    Ok(report.finish())
}

/// Runs a test. If it leaves something behind, it fails, unless a second run leaves nothing
/// more: drivers keep some of what they allocate at first use.
fn run_one(options: &Options, test: &Test, report: &Report) -> Result<Verdict> {
    let (verdict, left) = run_once(options, test, report)?;
    if left.is_empty() || matches!(verdict, Verdict::Failed) {
        return Ok(verdict);
    }
    report.diagnose("running it once more, to see whether it leaves that behind each time");
    let (verdict, left) = run_once(options, test, report)?;
    Ok(if left.is_empty() {
        verdict
    } else {
        Verdict::Failed
    })
}

fn run_once(options: &Options, test: &Test, report: &Report) -> Result<(Verdict, Vec<String>)> {
    let before = Before::look(&options.heap)?;
    let child = Command::new("/proc/self/exe")
        .arg("exec-test")
        .arg(test.name)
        .args(options.to_arguments())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("starting a test")?;
    let slower = if pages::are_known()? { DEBUG_SLOWER } else { 1 };
    let limit = slower * (LIMIT + LIMIT_PER_ROUND * i64::try_from(options.rounds)?);
    let (status, mut output) = wait(child, limit)?;
    let verdict = if status == i32::from(SKIPPED) {
        // The last line is the reason, and not a diagnostic.
        let (earlier, reason) = output.rsplit_once('\n').unwrap_or(("", &output));
        let verdict = Verdict::Skipped(reason.to_owned());
        output = earlier.to_owned();
        verdict
    } else if status == i32::from(PASSED) {
        Verdict::Passed
    } else {
        Verdict::Failed
    };
    report.diagnose(&output);
    let left = before.compare()?;
    for what in &left {
        report.diagnose(&format!("left behind: {what}"));
    }
    Ok((verdict, left))
}

/// Waits for a test to end, for `limit` seconds at most. Then kills all processes that the
/// test has left running. Returns its exit status and its output.
fn wait(mut child: Child, limit: i64) -> Result<(i32, String)> {
    let pid = Pid::from_child(&child);
    let limit = Timespec {
        tv_sec: limit,
        tv_nsec: 0,
    };
    let mut stdout = child.stdout.take().context("a test without output")?;
    let reader = std::thread::spawn(move || {
        let mut output = Vec::new();
        let _ = stdout.read_to_end(&mut output);
        String::from_utf8_lossy(&output).trim_end().to_owned()
    });
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let ended = rustix::event::poll(&mut fds, Some(&limit))? > 0;
    // This fails if all is well, as then no process is left in the group.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    let mut output = reader.join().unwrap_or_default();
    let mut note = |text: String| {
        output.push('\n');
        output.push_str(&text);
    };
    if !ended {
        note(format!(
            "killed, as it did not end within {} s: it hangs, or try fewer --rounds",
            limit.tv_sec
        ));
    } else if let Some(signal) = status.signal() {
        note(format!("died of signal {signal}"));
    }
    Ok((status.code().unwrap_or_else(|| FAILED.into()), output))
}

/// Runs one test in this process. Returns the exit status.
pub fn execute(options: &Options, name: &str) -> Result<u8> {
    let Some(test) = tests::all().find(|test| test.name == name) else {
        bail!("there is no test {name}: see --list");
    };
    std::panic::set_hook(Box::new(|panic| println!("{panic}")));
    Ok(match (test.run)(options) {
        Ok(()) => PASSED,
        Err(error) if error.is::<Skip>() => {
            println!("{error}");
            SKIPPED
        }
        Err(error) => {
            println!("{error:#}");
            FAILED
        }
    })
}
