// SPDX-License-Identifier: GPL-2.0

//! How a heap reports its answers to devices: by trace events and in the log.

use super::Test;
use super::import::{Case, Expected, cases};
use crate::device::Snooping;
use crate::expect::{outcome, skip};
use crate::options::Options;
use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub const TESTS: &[Test] = &[
    Test::new(
        "answer.traced",
        "a trace event reports each answer, and is right",
        traced,
    ),
    Test::new(
        "answer.logged",
        "a refused device is logged once, at level info or less urgent",
        logged,
    ),
];

fn traced(options: &Options) -> Result<()> {
    options.need_strict_heap()?;
    let mut attaching = Case::all(options)?;
    attaching.retain(|case| case.expected != Expected::Leave);
    if attaching.is_empty() {
        return skip("no device here attaches: try modprobe vgem");
    }
    for case in attaching {
        let what = case.importer.describe();
        let seen = case.observe(options)?;
        let verdict = seen.verdict.with_context(|| {
            format!("{what}: expected the event dmabuf_coherency_attach, there was none")
        })?;
        let expected = if seen.attached.is_empty() {
            -Errno::OPNOTSUPP.raw_os_error()
        } else {
            0
        };
        ensure!(
            verdict.heap == options.heap && verdict.error == expected,
            "{what}: expected heap={} error={expected}, as {} ended with {}; got {verdict:?}",
            options.heap,
            case.importer.call(),
            outcome(&seen.result)
        );
        let snoops = match case.importer.device().snooping() {
            Snooping::Yes(_) => true,
            Snooping::No(_) => false,
            Snooping::Unknown(_) => continue,
        };
        ensure!(
            verdict.snoops == snoops,
            "{what}: expected snoops={snoops}, as its firmware says; got {verdict:?}"
        );
    }
    Ok(())
}

/// A message of the kernel.
struct Message {
    /// 0 for emergencies, 7 for debugging.
    level: u32,
    sequence: u64,
    text: String,
}

/// All messages that the kernel still has.
fn messages() -> Result<Vec<Message>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).context("opening /dev/kmsg")?;
    let mut messages = Vec::new();
    let mut buffer = vec![0; 8192];
    loop {
        match rustix::io::read(&log, &mut buffer) {
            Ok(len) => messages.extend(parse(&String::from_utf8_lossy(&buffer[..len]))),
            Err(Errno::AGAIN) => return Ok(messages),
            // The record was overwritten meanwhile. The next read gets the next record.
            Err(Errno::PIPE) => (),
            Err(errno) => return Err(errno).context("reading /dev/kmsg"),
        }
    }
}

/// Reads `priority,sequence,time,flags;text`.
fn parse(record: &str) -> Option<Message> {
    let (prefix, text) = record.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    Some(Message {
        level: priority % 8,
        sequence: fields.next()?.parse().ok()?,
        text: text.lines().next()?.to_owned(),
    })
}

fn logged(options: &Options) -> Result<()> {
    const INFO: u32 = 6;
    options.need_strict_heap()?;
    for case in cases(options, &Expected::Refuse, "that the heap must refuse")? {
        let device = case.importer.device().name();
        for _ in 0..3 {
            case.observe(options)?;
        }
        let log = messages()?;
        let complete = log.first().is_some_and(|message| message.sequence == 0);
        let about: Vec<&Message> = log
            .iter()
            .filter(|message| message.text.contains(&format!("heap {}", options.heap)))
            .filter(|message| message.text.contains(&format!("{device}:")))
            .collect();
        let texts: Vec<&str> = about.iter().map(|message| message.text.as_str()).collect();
        println!("{texts:?}");
        ensure!(
            about.len() <= 1 && (!complete || about.len() == 1),
            "{device}: expected one message about its refusals, got {texts:?}"
        );
        ensure!(
            about.iter().all(|message| message.level >= INFO),
            "{device}: expected a message of level {INFO} or a higher number, which is less urgent"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_record_of_the_log_is_read() {
        let record = "14,339,5140900,-;faux vgem: no\n SUBSYSTEM=faux\n DEVICE=+faux:vgem\n";
        let message = super::parse(record).unwrap();
        assert_eq!((message.level, message.sequence), (6, 339));
        assert_eq!(message.text, "faux vgem: no");
    }
}
