// SPDX-License-Identifier: GPL-2.0

//! Runs long commands. Their output goes to a log file. The user sees a line of
//! progress, and the end of the log if the command fails.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Read, Write},
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::pipe;

use crate::cache;

/// Prints a message for the user.
pub(crate) fn say(sentence: &str) {
    eprintln!("vm: {sentence}");
}

/// Runs `command`, which does `what`.
///
/// `lines` is about how many lines the command prints. It gives the percentage. It is
/// 0 if the number is not known.
pub(crate) fn run(what: &str, command: &Command, lines: usize) -> Result<()> {
    let log = cache::subdir("logs")?.join(format!("{}.log", what.replace([' ', '/', ','], "-")));
    let mut file = File::create(&log).with_context(|| log.display().to_string())?;
    writeln!(file, "$ {command:?}")?;

    let (output, writer) = pipe()?;
    let mut output = File::from(output);
    let mut child = mortal(command)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .context("cannot run setpriv: install util-linux")?;

    let mut progress = Progress::new(what, lines);
    let mut buffer = [0; 1 << 16];
    loop {
        let mut fds = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)];
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&second))? > 0 {
            let len = output.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            file.write_all(&buffer[..len])?;
            progress.seen += buffer[..len].iter().filter(|&&byte| byte == b'\n').count();
        }
        progress.show();
    }
    let status = child.wait()?;
    progress.finish(status.success());
    if !status.success() {
        // Few programs say clearly that the disk is full.
        cache::need_space(50, what)?;
        bail!(
            "{what} failed ({status}). The whole log is in {}. It ends:\n{}",
            log.display(),
            tail(&log, 20)
        );
    }
    Ok(())
}

/// The same command, which ends when this process ends. It must not go on in a
/// directory whose lock this process no longer holds.
pub(crate) fn mortal(command: &Command) -> Command {
    let mut mortal = Command::new("setpriv");
    mortal
        .args(["--pdeathsig", "TERM", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => mortal.env(name, value),
            None => mortal.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        mortal.current_dir(directory);
    }
    mortal
}

/// The last `lines` lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let content = fs::read(path).unwrap_or_default();
    let content = String::from_utf8_lossy(&content);
    let all: Vec<&str> = content.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The line that says how far a command is. A terminal shows one line, rewritten each
/// second. Elsewhere there is a new line each half minute. A command that ends at once
/// has no line.
struct Progress<'a> {
    what: &'a str,
    lines: usize,
    seen: usize,
    start: Instant,
    next: Instant,
    announced: bool,
    terminal: bool,
}

impl<'a> Progress<'a> {
    fn new(what: &'a str, lines: usize) -> Self {
        let start = Instant::now();
        let next = start + Duration::from_secs(2);
        let terminal = io::stderr().is_terminal();
        Self {
            what,
            lines,
            seen: 0,
            start,
            next,
            announced: false,
            terminal,
        }
    }

    fn show(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        self.announced = true;
        self.next = Instant::now() + Duration::from_secs(if self.terminal { 1 } else { 30 });
        let percent = match self.lines {
            0 => String::new(),
            lines => format!(" {}%", (self.seen * 100 / lines).min(99)),
        };
        let text = format!("{}{percent} ({})", self.what, minutes(self.start.elapsed()));
        if self.terminal {
            eprint!("\r\x1b[Kvm: {text}");
        } else {
            say(&text);
        }
    }

    fn finish(&self, success: bool) {
        if !self.announced {
            return;
        }
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        if success {
            say(&format!(
                "{}: done in {}",
                self.what,
                minutes(self.start.elapsed())
            ));
        }
    }
}

/// A duration in words.
pub(crate) fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{}:{:02} min", seconds / 60, seconds % 60),
    }
}
