// SPDX-License-Identifier: GPL-2.0

//! A single run of a guest: its directory, and the protocol between host and guest.
//!
//! The serial port carries the kernel's messages and nothing else. The command has
//! virtio ports. Port 1 is its standard output, port 2 its standard error. On port 3
//! `init.sh` reports the exit status. Each port is a FIFO in the directory of the run;
//! port 3 has two. `init.sh` ends both streams with a marker that is random for each
//! run. Then it waits for an answer, so that the guest does not power off while output
//! is still on its way.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, OFlags, mknodat},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    cache,
    console::{Report, Scanner},
    progress::mortal,
};

/// How long a guest may take to power off.
const POWER_OFF: Duration = Duration::from_secs(120);

/// How long the kernel may say nothing while it boots. It boots within ten seconds on an idle machine,
/// and says something all the while.
pub(crate) const SILENCE: Duration = Duration::from_secs(240);

/// What the kernel says when it has booted.
const BOOTED: &str = "Run /init as init process";

/// How long the logs of a run are kept.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a piece of a guest's output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The command's standard output.
    Stdout,
    /// The command's standard error.
    Stderr,
    /// The kernel's messages.
    Console,
}

/// The directory of a run in the cache. The logs in it stay when this is dropped.
pub(crate) struct Run {
    directory: PathBuf,
    /// The text that ends the command's streams.
    pub(crate) marker: String,
}

/// The result of a run.
pub(crate) struct End {
    pub(crate) status: Option<i32>,
    pub(crate) timed_out: bool,
    /// Whether the kernel fell silent while it booted.
    pub(crate) hung: bool,
    /// The signal that QEMU died of, unless this program sent it.
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) reports: Vec<Report>,
}

impl Run {
    const FIFOS: [&str; 5] = ["console", "stdout", "stderr", "status.in", "status.out"];

    pub(crate) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let runs = cache::subdir("runs")?;
        prune(&runs)?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = runs.join(format!("{seconds}-{}-{count}", process::id()));
        fs::create_dir(&directory)?;
        for name in Self::FIFOS {
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(CWD, directory.join(name), FileType::Fifo, mode, 0)?;
        }
        let mut random = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let marker = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { directory, marker })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts QEMU, and follows the guest until it is gone.
    pub(crate) fn watch(
        &self,
        qemu: &Command,
        mut deadline: Option<Instant>,
        silence: Duration,
        interactive: bool,
        mut output: impl FnMut(Stream, &[u8]),
    ) -> Result<End> {
        let mut console = self.reader("console")?;
        let mut log = File::create(self.path("console.log"))?;
        let mut scanner = Scanner::default();
        let mut stdout = Port::new(self.reader("stdout")?, &self.marker);
        let mut stderr = Port::new(self.reader("stderr")?, &self.marker);
        let mut status = Port::new(self.reader("status.out")?, "\n");

        let mut qemu = mortal(qemu);
        if !interactive {
            qemu.stdin(Stdio::null()).stdout(Stdio::null());
        }
        qemu.stderr(File::create(self.path("qemu.log"))?);
        let mut child = qemu
            .spawn()
            .context("cannot run setpriv: install util-linux")?;
        let exit = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let mut answered = false;
        let mut timed_out = false;
        let mut hung = false;
        let mut booting = Some(String::new());
        let mut heard = Instant::now();
        let mut signal = None;
        let mut gone = false;
        loop {
            let text = read(&mut console)?;
            log.write_all(&text)?;
            scanner.feed(&text);
            if !text.is_empty() {
                output(Stream::Console, &text);
                heard = Instant::now();
                if let Some(said) = &mut booting {
                    said.push_str(&String::from_utf8_lossy(&text));
                    if said.contains(BOOTED) {
                        booting = None;
                    }
                }
            }
            stdout.read(|bytes| output(Stream::Stdout, bytes))?;
            stderr.read(|bytes| output(Stream::Stderr, bytes))?;
            status.read(|_| {})?;
            if gone {
                break;
            }

            let streams_ended = interactive || stdout.ended && stderr.ended;
            if !answered && status.ended && streams_ended {
                OpenOptions::new()
                    .write(true)
                    .open(self.path("status.in"))?
                    .write_all(b"\n")?;
                answered = true;
                deadline = Some(Instant::now() + POWER_OFF);
            }
            let silent = booting.is_some().then(|| heard + silence);
            let next = deadline.into_iter().chain(silent).min();
            let left = next.map(|next| next.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                timed_out = true;
                hung = next == silent;
                child.kill()?;
                child.wait()?;
                gone = true;
                continue;
            }
            let left = left.map(Timespec::try_from).transpose()?;
            let mut fds = [
                PollFd::new(&exit, PollFlags::IN),
                PollFd::new(&console, PollFlags::IN),
                PollFd::new(&stdout.fifo, PollFlags::IN),
                PollFd::new(&stderr.fifo, PollFlags::IN),
                PollFd::new(&status.fifo, PollFlags::IN),
            ];
            poll(&mut fds, left.as_ref())?;
            if let Some(status) = child.try_wait()? {
                signal = status.signal();
                gone = true;
            }
        }
        let status = answered.then(|| String::from_utf8_lossy(&status.bytes).trim().parse());
        Ok(End {
            status: status
                .transpose()
                .context("init.sh reported something that is no exit status")?,
            timed_out,
            hung,
            signal,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            reports: scanner.finish(),
        })
    }

    /// Opens a FIFO that QEMU will write to.
    fn reader(&self, name: &str) -> Result<File> {
        let flags = OFlags::NONBLOCK.bits() as i32;
        Ok(OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(self.path(name))?)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for name in Self::FIFOS.into_iter().chain(["initramfs", "dtb"]) {
            // Some may not exist. Any that stay are removed with the logs.
            let _ = fs::remove_file(self.path(name));
        }
    }
}

/// Removes the directories of old runs.
fn prune(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs)? {
        let entry = entry?;
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .map(|time| time.elapsed());
        if matches!(age, Ok(Ok(age)) if age > KEEP) {
            // Another process may have been faster.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// A port of the guest, up to its marker.
struct Port {
    fifo: File,
    marker: Vec<u8>,
    bytes: Vec<u8>,
    /// How many of the bytes have been passed on.
    passed: usize,
    ended: bool,
}

impl Port {
    fn new(fifo: File, marker: &str) -> Self {
        Self {
            fifo,
            marker: marker.into(),
            bytes: Vec::new(),
            passed: 0,
            ended: false,
        }
    }

    fn read(&mut self, output: impl FnMut(&[u8])) -> Result<()> {
        let bytes = read(&mut self.fifo)?;
        self.feed(&bytes, output);
        Ok(())
    }

    /// Takes bytes from the guest, and passes on those before the marker.
    fn feed(&mut self, bytes: &[u8], mut output: impl FnMut(&[u8])) {
        if self.ended || bytes.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let new = &self.bytes[self.passed..];
        let end = match new
            .windows(self.marker.len())
            .position(|window| window == self.marker)
        {
            Some(position) => {
                self.ended = true;
                self.passed + position
            }
            // The last bytes may be the start of the marker.
            None => {
                let starts = |len: &usize| new.ends_with(&self.marker[..*len]);
                self.bytes.len() - (1..self.marker.len()).rev().find(starts).unwrap_or(0)
            }
        };
        if self.ended {
            self.bytes.truncate(end);
        }
        if end > self.passed {
            output(&self.bytes[self.passed..end]);
            self.passed = end;
        }
    }
}

/// Reads all that a FIFO has now.
fn read(fifo: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match fifo.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Watches a shell in place of QEMU.
    fn watch(script: &str) -> End {
        let run = Run::new().expect("a directory for the run");
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&run.directory);
        run.watch(&shell, None, Duration::from_millis(300), false, |_, _| {})
            .expect("watching a shell")
    }

    #[test]
    fn a_kernel_that_falls_silent_while_it_boots_is_given_up() {
        let end = watch("echo booting >console; exec sleep 600");
        assert!(end.hung && end.timed_out);
    }

    #[test]
    fn a_kernel_that_has_booted_may_be_silent() {
        let end = watch("(printf 'Run /init as '; sleep 0.1; echo init process; sleep 1) >console");
        assert!(!end.hung && !end.timed_out);
    }
}
