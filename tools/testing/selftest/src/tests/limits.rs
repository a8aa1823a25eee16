// SPDX-License-Identifier: GPL-2.0

//! How buffers are counted and charged, and the limits for both.

use super::Test;
use crate::expect::{expect_errno, outcome, skip};
use crate::heap::{Buffer, Heap, Request};
use crate::heap_files::Files;
use crate::options::Options;
use crate::process::{Helper, Running};
use anyhow::{Context as _, Result, ensure};
use dmabuf_coherency_selftest::cgroup::Group;
use rustix::io::Errno;

pub const TESTS: &[Test] = &[
    Test::new(
        "limits.counted",
        "a heap's files show how many buffers and bytes are in use",
        counted,
    ),
    Test::new(
        "limits.bytes",
        "a heap's limit holds for new buffers, and for all of their bytes",
        bytes,
    ),
    Test::new(
        "limits.bad_text",
        "a limit that is no number of bytes is refused, and changes nothing",
        bad_text,
    ),
    Test::new(
        "limits.exact",
        "a limit holds to the byte, however many threads allocate at once",
        exact,
    ),
    Test::new(
        "limits.accounted",
        "buffers are charged to a control group up to its limit, unless a parameter forbids it",
        accounted,
    ),
];

const SIZE: usize = 64 << 10;

fn counted(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let files = Files::of(&options.heap);
    let heap = options.heap()?;
    let (buffers, bytes) = (files.number("buffers")?, files.number("bytes")?);

    let first = heap.alloc(SIZE)?;
    files.expect("one more", buffers + 1, bytes + SIZE)?;
    let second = heap.alloc(1)?;
    let both = SIZE + second.size();
    files.expect("two more", buffers + 2, bytes + both)?;
    let duplicate = rustix::io::fcntl_dupfd_cloexec(&second, 0)?;
    drop(second);
    files.expect("a duplicate", buffers + 2, bytes + both)?;
    drop(duplicate);
    files.expect("one less", buffers + 1, bytes + SIZE)?;
    let mapping = first.map()?;
    drop(first);
    files.expect("a mapping", buffers + 1, bytes + SIZE)?;
    drop(mapping);
    files.expect("none", buffers, bytes)?;
    let seen = heap.request(&Request::new(1 << 52)).map(drop);
    expect_errno("more than there is", seen, Errno::NOMEM)?;
    files.expect("after a failure", buffers, bytes)
}

fn bytes(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let files = Files::of(&options.heap);
    let heap = options.heap()?;
    let used = files.number("bytes")?;
    let refused = |what: &str| expect_errno(what, heap.alloc(SIZE).map(drop), Errno::NOMEM);

    files.set_limit(used + 2 * SIZE)?;
    let first = heap.alloc(SIZE).context("half of the limit")?;
    let second = heap.alloc(SIZE).context("all of the limit")?;
    refused("a buffer more")?;
    drop(second);
    let second = heap.alloc(SIZE).context("after one was freed")?;

    files.set_limit(used + SIZE)?;
    first.map()?.fill(1);
    refused("a limit below what is in use")?;
    drop(second);
    refused("a limit that is reached")?;
    files.set_limit(0)?;
    heap.alloc(64 * SIZE).context("no limit")?;
    Ok(())
}

fn bad_text(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let files = Files::of(&options.heap);
    files.set_limit(123_456_789)?;
    for text in [
        "",
        "-1",
        "1k",
        "0x10",
        "1 2",
        "99999999999999999999",
        "none",
        "\u{fc}",
        "1\n\n",
    ] {
        let seen = files.set_limit(text);
        ensure!(
            text.is_empty()
                || seen
                    .as_ref()
                    .is_err_and(|error| error.raw_os_error() == Some(22)),
            "{text:?}: expected EINVAL, got {seen:?}"
        );
        let limit = files.text("limit")?;
        ensure!(limit == "123456789", "{text:?} has changed it to {limit}");
    }
    files.set_limit("4096\n")?;
    let limit = files.text("limit")?;
    ensure!(limit == "4096", "expected 4096, got {limit}");
    Ok(())
}

/// Allocates from a heap until it is refused.
fn fill(heap: &str) -> Result<Vec<Buffer>> {
    let heap = Heap::open(heap)?;
    let mut buffers = Vec::new();
    loop {
        match heap.alloc(SIZE) {
            Ok(buffer) => buffers.push(buffer),
            Err(Errno::NOMEM) => return Ok(buffers),
            Err(errno) => return Err(errno).context("allocating up to the limit"),
        }
    }
}

fn exact(options: &Options) -> Result<()> {
    const TASKS: usize = 4;
    const ROOM: usize = 37;
    options.need_our_heap()?;
    let files = Files::of(&options.heap);
    let (buffers, bytes) = (files.number("buffers")?, files.number("bytes")?);
    // The limit is one byte more than whole buffers need.
    files.set_limit(bytes + ROOM * SIZE + 1)?;
    for round in 0..options.rounds {
        let filled: Vec<Result<Vec<Buffer>>> = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| scope.spawn(|| fill(&options.heap)))
                .collect();
            tasks
                .into_iter()
                .map(|task| task.join().expect("a task that does not panic"))
                .collect()
        });
        let mut all = Vec::new();
        for task in filled {
            all.extend(task?);
        }
        ensure!(
            all.len() == ROOM,
            "round {round}: expected {ROOM} buffers, got {}",
            all.len()
        );
        files.expect("at the limit", buffers + ROOM, bytes + ROOM * SIZE)?;
        drop(all);
        files.expect("all freed", buffers, bytes)?;
    }
    Ok(())
}

/// How the heap's memory is charged: the controller, and the region that it counts, if it
/// has regions.
struct Charging {
    controller: &'static str,
    region: Option<&'static str>,
}

impl Charging {
    /// How many bytes are charged to the group.
    fn current(&self, group: &Group) -> Result<u64> {
        let text = group.read(&format!("{}.current", self.controller))?;
        let number = match self.region {
            None => text.trim(),
            Some(region) => text
                .lines()
                .find_map(|line| line.strip_prefix(region))
                .with_context(|| format!("expected a line for {region}, got:\n{text}"))?
                .trim(),
        };
        number.parse().with_context(|| text.clone())
    }

    fn set_max(&self, group: &Group, bytes: u64) -> Result<()> {
        let region = self.region.map(|region| format!("{region} "));
        let text = format!("{}{bytes}", region.unwrap_or_default());
        group.write(&format!("{}.max", self.controller), &text)
    }
}

fn accounted(options: &Options) -> Result<()> {
    const LEN: u64 = 8 << 20;
    options.need_our_heap()?;
    let accounting = Files::of(&options.heap).text("accounting")?;
    let charging = match accounting.as_str() {
        "dmem" => Charging {
            controller: "dmem",
            region: Some("cma/default_cma_region"),
        },
        _ => Charging {
            controller: "memory",
            region: None,
        },
    };
    if accounting == "none" && options.charged {
        return skip("this kernel has no controller that charges this heap");
    }
    ensure!(
        (accounting != "none") == options.charged,
        "expected the heap to charge control groups: {}, but its accounting is {accounting:?}",
        options.charged
    );
    let group = Group::new(charging.controller)?;
    let allocate = |len| -> Result<(Running, String)> {
        let helper = Helper::Allocate {
            heap: options.heap.clone(),
            len,
            group: Some(group.path().to_owned()),
        };
        let mut process = helper.spawn()?;
        let answer = process.answer()?;
        Ok((process, answer))
    };
    let expect = |what: &str, len, answer: &str| {
        let (process, seen) = allocate(len)?;
        ensure!(seen == answer, "{what}: expected {answer}, got {seen}");
        Ok(process)
    };

    let process = expect("without a limit", LEN, "success")?;
    let charged = charging.current(&group)?;
    ensure!(
        (charged >= LEN) == options.charged,
        "expected a buffer to be charged as the options say, got {} KiB of {} KiB",
        charged >> 10,
        LEN >> 10
    );
    drop(process);
    if !options.charged {
        return Ok(());
    }
    charging.set_max(&group, LEN / 2)?;
    drop(expect("twice as much as the limit", LEN, "ENOMEM")?);
    drop(expect("half of the limit", LEN / 4, "success")?);
    let outside = options.heap()?.alloc(LEN as usize);
    ensure!(
        outside.is_ok(),
        "outside of the group: expected success, got {}",
        outcome(&outside)
    );
    Ok(())
}
