// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap buffers --follow`: what becomes of buffers. The kernel tells nobody of that, so it is
//! looked at again and again.

use super::Buffers;
use super::buffers;
use super::output::{Output, printable, to_json};
use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use dmaheap::{Held, System};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

/// Buffers by inode number.
type Known = BTreeMap<u64, Held>;

/// What became of a buffer.
#[derive(Debug, PartialEq)]
enum Change<'a> {
    /// It was there when this began.
    Present,
    New,
    /// To this device.
    Attached(&'a str),
    /// From this device.
    Detached(&'a str),
    Gone,
}

impl Change<'_> {
    fn word(&self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::New => "new",
            Self::Attached(_) => "attached",
            Self::Detached(_) => "detached",
            Self::Gone => "gone",
        }
    }

    fn style(&self) -> Style {
        let colour = match self {
            Self::Present => return Style::new(),
            Self::New => AnsiColor::Green,
            Self::Attached(_) | Self::Detached(_) => AnsiColor::Yellow,
            Self::Gone => AnsiColor::Red,
        };
        Style::new().fg_color(Some(colour.into()))
    }

    fn device(&self) -> Option<&str> {
        match self {
            Self::Attached(device) | Self::Detached(device) => Some(device),
            _ => None,
        }
    }
}

/// Parses how often to look, in seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok();
    let interval = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let sensible = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
    interval
        .filter(|interval| sensible.contains(interval))
        .ok_or_else(|| "an interval is in seconds, such as 0.5, and at most a day".into())
}

pub fn run(
    system: &System,
    output: &Output,
    arguments: &Buffers,
    interval: Duration,
) -> Result<()> {
    let holders = system.holders(arguments.pid)?;
    buffers::note_hidden(&holders, output);
    let mut known = by_inode(holders.buffers);
    for buffer in known.values() {
        tell(output, arguments, &Change::Present, buffer)?;
    }
    while is_read_for(interval)? {
        let now = by_inode(system.holders(arguments.pid)?.buffers);
        for (change, buffer) in differences(&known, &now) {
            tell(output, arguments, &change, buffer)?;
        }
        known = now;
    }
    Ok(())
}

fn by_inode(buffers: Vec<Held>) -> Known {
    let buffers = buffers.into_iter();
    buffers.map(|buffer| (buffer.inode, buffer)).collect()
}

/// Waits; says whether anybody still reads standard output then.
fn is_read_for(interval: Duration) -> Result<bool> {
    let end = Instant::now() + interval;
    let stdout = io::stdout();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("an interval")?;
        // Errors are told without being asked for.
        let mut closed = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut closed, Some(&left)) {
            Ok(0) => return Ok(true),
            Ok(_) => return Ok(false),
            Err(Errno::INTR) => (),
            Err(errno) => return Err(errno).context("waiting"),
        }
    }
}

fn differences<'a>(before: &'a Known, now: &'a Known) -> Vec<(Change<'a>, &'a Held)> {
    let mut changes = Vec::new();
    for (inode, buffer) in now {
        let former = before.get(inode);
        if former.is_none() {
            changes.push((Change::New, buffer));
        }
        let former = former.map_or(&[][..], devices);
        let gone = added(devices(buffer), former).into_iter();
        changes.extend(gone.map(|device| (Change::Detached(device), buffer)));
        let new = added(former, devices(buffer)).into_iter();
        changes.extend(new.map(|device| (Change::Attached(device), buffer)));
    }
    let gone = before.iter().filter(|(inode, _)| !now.contains_key(inode));
    changes.extend(gone.map(|(_, buffer)| (Change::Gone, buffer)));
    changes
}

/// One for each attachment.
fn devices(buffer: &Held) -> &[String] {
    buffer.attached.as_deref().unwrap_or_default()
}

/// What is in `now` more often than in `before`.
fn added<'a>(before: &[String], now: &'a [String]) -> Vec<&'a str> {
    let mut before: Vec<_> = before.iter().collect();
    let mut new = Vec::new();
    for device in now {
        match before.iter().position(|former| *former == device) {
            Some(place) => drop(before.swap_remove(place)),
            None => new.push(device.as_str()),
        }
    }
    new
}

fn tell(output: &Output, arguments: &Buffers, change: &Change<'_>, buffer: &Held) -> Result<()> {
    if output.is_json() {
        return output.value(json!({
            "change": change.word(), "device": change.device(), "buffer": to_json(buffer),
        }));
    }
    let style = change.style();
    let size = buffer.size.map(|size| arguments.table.size(size));
    let mut words = vec![
        buffer.inode.to_string(),
        size.unwrap_or_else(|| "?".into()),
        buffer.exporter.clone().unwrap_or_else(|| "?".into()),
    ];
    words.extend(buffer.name.clone());
    match change {
        Change::Attached(device) => words.push(format!("to {device}")),
        Change::Detached(device) => words.push(format!("from {device}")),
        Change::Gone => (),
        Change::Present | Change::New => {
            let holders: Vec<_> = buffer.holders.iter().map(buffers::show).collect();
            words.push(holders.join(", "));
        }
    }
    let text = printable(&words.join(" "));
    output.line(&format!(
        "{style}{:8}{style:#} {}\n",
        change.word(),
        text.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffers(buffers: &[(u64, &[&str])]) -> Known {
        let buffers = buffers.iter().map(|(inode, attached)| {
            let mut buffer = Held::default();
            buffer.inode = *inode;
            buffer.attached = Some(attached.iter().map(ToString::to_string).collect());
            buffer
        });
        by_inode(buffers.collect())
    }

    #[test]
    fn changes_are_told() {
        let before = buffers(&[(1, &[]), (2, &["cam", "cam", "gpu"]), (3, &[])]);
        let now = buffers(&[(1, &["cam"]), (2, &["cam", "vpu"]), (4, &["gpu"])]);
        let changes: Vec<_> = differences(&before, &now)
            .into_iter()
            .map(|(change, buffer)| (change, buffer.inode))
            .collect();
        let expected = [
            (Change::Attached("cam"), 1),
            (Change::Detached("cam"), 2),
            (Change::Detached("gpu"), 2),
            (Change::Attached("vpu"), 2),
            (Change::New, 4),
            (Change::Attached("gpu"), 4),
            (Change::Gone, 3),
        ];
        assert_eq!(changes, expected);
        assert_eq!(differences(&now, &now), []);
    }

    #[test]
    fn intervals_are_read() {
        assert_eq!(parse("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("60"), Ok(Duration::from_secs(60)));
        for text in ["", "0", "-1", "inf", "NaN", "1e9", "1s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
