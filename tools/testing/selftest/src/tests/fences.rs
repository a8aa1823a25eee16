// SPDX-License-Identifier: GPL-2.0

//! Fences of a buffer: exporting, importing, and waiting by poll.

use super::Test;
use crate::expect::{expect_errno, skip};
use crate::heap::{READ, WRITE};
use crate::ioctl;
use crate::options::Options;
use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, FromRawFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

pub const TESTS: &[Test] = &[
    Test::new(
        "fence.idle",
        "a buffer that nobody uses is ready, and so is its fence",
        idle,
    ),
    Test::new(
        "fence.pending",
        "a buffer with a pending fence is not ready until it signals",
        pending,
    ),
    Test::new(
        "fence.bad_flags",
        "fences without direction, or that are none, are refused",
        bad_flags,
    ),
];

/// What is ready on a descriptor, at once or within `milliseconds`.
fn ready(fd: impl AsFd, events: PollFlags, milliseconds: i64) -> Result<PollFlags> {
    let limit = Timespec {
        tv_sec: milliseconds / 1000,
        tv_nsec: milliseconds % 1000 * 1_000_000,
    };
    let mut fds = [PollFd::new(&fd, events)];
    rustix::event::poll(&mut fds, Some(&limit))?;
    Ok(fds[0].revents())
}

const BOTH: PollFlags = PollFlags::IN.union(PollFlags::OUT);

fn idle(options: &Options) -> Result<()> {
    let buffer = options.heap()?.alloc(4096)?;
    let seen = ready(&buffer, BOTH, 1000)?;
    ensure!(
        seen == BOTH,
        "an idle buffer: expected {BOTH:?}, got {seen:?}"
    );
    for flags in [READ, WRITE, READ | WRITE] {
        let fence = buffer
            .export_fence(flags)
            .with_context(|| format!("exporting with {flags}"))?;
        let seen = ready(&fence, PollFlags::IN, 1000)?;
        ensure!(
            seen == PollFlags::IN,
            "its fence ({flags}): expected {:?}, got {seen:?}",
            PollFlags::IN
        );
        buffer
            .import_fence(&fence, flags)
            .with_context(|| format!("importing with {flags}"))?;
    }
    let seen = ready(&buffer, BOTH, 1000)?;
    ensure!(
        seen == BOTH,
        "after importing ready fences: expected {BOTH:?}, got {seen:?}"
    );
    Ok(())
}

/// A timeline whose fences signal when we say so: the kernel's debugging aid
/// `sw_sync`. When it is closed, all its fences signal.
struct Timeline(File);

/// `struct sw_sync_create_fence_data`.
#[repr(C)]
struct CreateFence {
    value: u32,
    name: [u8; 32],
    fd: i32,
}

const _: () = assert!(size_of::<CreateFence>() == 40);

const CREATE_FENCE: Opcode = opcode::read_write::<CreateFence>(b'W', 0);
const INCREMENT: Opcode = opcode::write::<u32>(b'W', 1);

impl Timeline {
    fn open() -> Result<Self> {
        let path = "/sys/kernel/debug/sync/sw_sync";
        match File::options().read(true).write(true).open(path) {
            Ok(file) => Ok(Self(file)),
            Err(error) => skip(format!(
                "{path}: {error}: a kernel with CONFIG_SW_SYNC has it"
            )),
        }
    }

    /// A fence that signals when the timeline has advanced to `value`.
    fn fence(&self, value: u32) -> Result<OwnedFd> {
        let mut data = CreateFence {
            value,
            name: [0; 32],
            fd: -1,
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<CREATE_FENCE, _>(&self.0, &mut data)? };
        // SAFETY: The ioctl has succeeded, so the descriptor is new and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(data.fd) })
    }

    fn advance(&self) -> Result<()> {
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<INCREMENT, u32>(&self.0, &mut 1) }.context("advancing a timeline")
    }
}

fn pending(options: &Options) -> Result<()> {
    let timeline = Timeline::open()?;
    let buffer = options.heap()?.alloc(4096)?;

    // A reader still busy: others may read, not write.
    buffer.import_fence(timeline.fence(1)?, READ)?;
    let seen = ready(&buffer, BOTH, 0)?;
    ensure!(
        seen == PollFlags::IN,
        "with a reader: expected {:?}, got {seen:?}",
        PollFlags::IN
    );
    timeline.advance()?;
    let seen = ready(&buffer, PollFlags::OUT, 2000)?;
    ensure!(
        seen == PollFlags::OUT,
        "the reader is done: expected {:?}, got {seen:?}",
        PollFlags::OUT
    );

    // A writer still busy: nobody else may do anything.
    buffer.import_fence(timeline.fence(2)?, WRITE)?;
    let seen = ready(&buffer, BOTH, 0)?;
    ensure!(
        seen.is_empty(),
        "with a writer: expected nothing to be ready, got {seen:?}"
    );
    let fence = buffer.export_fence(READ)?;
    let seen = ready(&fence, PollFlags::IN, 0)?;
    ensure!(
        seen.is_empty(),
        "the writer's fence: expected it to be pending, got {seen:?}"
    );
    timeline.advance()?;
    let seen = ready(&buffer, BOTH, 2000)?;
    ensure!(
        !seen.is_empty(),
        "the writer is done: expected something to be ready, got nothing"
    );
    let seen = ready(&fence, PollFlags::IN, 2000)?;
    ensure!(
        seen == PollFlags::IN,
        "its fence: expected {:?}, got {seen:?}",
        PollFlags::IN
    );

    // A buffer may go while its fence is pending.
    let pending = timeline.fence(3)?;
    buffer.import_fence(&pending, WRITE)?;
    ready(&buffer, BOTH, 0)?;
    drop(buffer);
    let seen = ready(&pending, PollFlags::IN, 0)?;
    ensure!(
        seen.is_empty(),
        "after closing the buffer: expected a pending fence, got {seen:?}"
    );
    timeline.advance()
}

fn bad_flags(options: &Options) -> Result<()> {
    let buffer = options.heap()?.alloc(4096)?;
    let fence = buffer.export_fence(READ)?;
    for flags in [0, 4, u32::MAX] {
        let what = format!("with flags {flags:#x}");
        expect_errno(
            &format!("exporting a fence {what}"),
            buffer.export_fence(flags),
            Errno::INVAL,
        )?;
        let seen = buffer.import_fence(&fence, flags);
        expect_errno(&format!("importing a fence {what}"), seen, Errno::INVAL)?;
    }
    let null = File::open("/dev/null")?;
    ensure!(null.metadata()?.rdev() != 0, "/dev/null is no device here");
    let seen = buffer.import_fence(&null, READ);
    expect_errno("importing /dev/null as a fence", seen, Errno::INVAL)?;
    buffer
        .import_fence(&fence, READ)
        .context("importing a fence after all that")
}
