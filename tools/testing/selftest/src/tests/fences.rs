// SPDX-License-Identifier: GPL-2.0

//! Fences of a buffer: exporting, importing, and waiting by poll.

use super::Test;
use crate::bufinfo;
use crate::drm_node::Card;
use crate::expect::{expect_errno, outcome, skip};
use crate::heap::{Buffer, END, READ, WRITE};
use crate::importer::Importer as _;
use crate::kernel_module::{loaded, modprobe, rmmod};
use crate::memory::eventually;
use crate::options::Options;
use crate::query;
use crate::reach::bouncing_is_forced;
use crate::test_importer::{Direction, Importer, Kind, Setup};
use crate::timeline::Timeline;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc;

pub const TESTS: &[Test] = &[
    Test::new(
        "fence.idle",
        "an unused buffer is ready, and so is its fence",
        idle,
    ),
    Test::new(
        "fence.pending",
        "a buffer with a pending fence is not ready until it signals",
        pending,
    ),
    Test::new(
        "fence.several",
        "with several readers and writers, poll waits for all that are in the way",
        several,
    ),
    Test::new(
        "fence.passed_on",
        "the fence of one buffer makes another one wait",
        passed_on,
    ),
    Test::new(
        "fence.bracket",
        "a bracket waits for the fences in its way, and for no others",
        bracket,
    ),
    Test::new(
        "fence.part",
        "a bracket around a part waits for the fences in its way, and for no others",
        part,
    ),
    Test::new(
        "fence.interrupted",
        "a signal ends the wait of a bracket",
        interrupted,
    ),
    Test::new(
        "fence.before_maintenance",
        "in a bracket the CPU sees what a device wrote before its fence signalled",
        before_maintenance,
    ),
    Test::new(
        "fence.never",
        "a fence that never signals keeps no buffer alive, and blocks no other buffer",
        never,
    ),
    Test::new(
        "fence.unload",
        "an importer's driver can be unloaded while a fence is pending",
        unload,
    ),
    Test::new(
        "fence.bad_flags",
        "fences without a direction, and files that are no fences, are refused",
        bad_flags,
    ),
];

const BOTH: PollFlags = PollFlags::IN.union(PollFlags::OUT);
const NONE: PollFlags = PollFlags::empty();

/// Fails unless exactly `expected` of `events` is ready.
fn expect_ready(what: &str, fd: impl AsFd, events: PollFlags, expected: PollFlags) -> Result<()> {
    // An expected event may take a moment. For an event that must not come there is no waiting.
    let limit = Timespec {
        tv_sec: if expected.is_empty() { 0 } else { 10 },
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&fd, events)];
    rustix::event::poll(&mut fds, Some(&limit))?;
    let seen = fds[0].revents();
    ensure!(
        seen == expected,
        "{what}: expected {expected:?} to be ready, got {seen:?}"
    );
    Ok(())
}

/// Fails unless a buffer is ready for exactly these: `IN` for readers, `OUT` for writers.
fn expect_buffer(what: &str, buffer: &Buffer, expected: PollFlags) -> Result<()> {
    for (events, expected) in [
        (PollFlags::IN, expected & PollFlags::IN),
        (PollFlags::OUT, expected & PollFlags::OUT),
    ] {
        expect_ready(what, buffer, events, expected)?;
    }
    Ok(())
}

fn expect_signalled(what: &str, fence: &OwnedFd) -> Result<()> {
    expect_ready(what, fence, PollFlags::IN, PollFlags::IN)
}

fn expect_pending(what: &str, fence: &OwnedFd) -> Result<()> {
    expect_ready(what, fence, PollFlags::IN, NONE)
}

fn idle(options: &Options) -> Result<()> {
    let buffer = options.heap()?.alloc(4096)?;
    expect_buffer("an idle buffer", &buffer, BOTH)?;
    for flags in [READ, WRITE, READ | WRITE] {
        let fence = buffer
            .export_fence(flags)
            .with_context(|| format!("exporting with {flags}"))?;
        expect_signalled(&format!("its fence ({flags})"), &fence)?;
        buffer
            .import_fence(&fence, flags)
            .with_context(|| format!("importing with {flags}"))?;
    }
    expect_buffer("after importing ready fences", &buffer, BOTH)
}

fn pending(options: &Options) -> Result<()> {
    let timeline = Timeline::open()?;
    let buffer = options.heap()?.alloc(4096)?;

    buffer.import_fence(timeline.fence(1)?, READ)?;
    expect_buffer("with a reader", &buffer, PollFlags::IN)?;
    timeline.advance()?;
    expect_buffer("the reader is done", &buffer, BOTH)?;

    buffer.import_fence(timeline.fence(2)?, WRITE)?;
    expect_buffer("with a writer", &buffer, NONE)?;
    let fence = buffer.export_fence(READ)?;
    expect_pending("the writer's fence", &fence)?;
    timeline.advance()?;
    expect_buffer("the writer is done", &buffer, BOTH)?;
    expect_signalled("its fence", &fence)
}

fn several(options: &Options) -> Result<()> {
    let (one, other) = (Timeline::open()?, Timeline::open()?);
    let buffer = options.heap()?.alloc(4096)?;

    // A writer has to wait for both readers. Another reader does not have to wait.
    buffer.import_fence(one.fence(1)?, READ)?;
    buffer.import_fence(other.fence(1)?, READ)?;
    let (to_read, to_write) = (buffer.export_fence(READ)?, buffer.export_fence(WRITE)?);
    expect_signalled("with two readers, a fence for reading", &to_read)?;
    for (done, timeline) in [&one, &other].into_iter().enumerate() {
        let what = format!("with two readers, {done} of them done");
        expect_buffer(&what, &buffer, PollFlags::IN)?;
        expect_pending(&format!("{what}, a fence for writing"), &to_write)?;
        timeline.advance()?;
    }
    expect_buffer("two readers are done", &buffer, BOTH)?;
    expect_signalled("their fence", &to_write)?;

    // Everybody has to wait for a writer, even if there is a reader too.
    buffer.import_fence(one.fence(2)?, READ)?;
    buffer.import_fence(other.fence(2)?, WRITE)?;
    let (to_read, to_write) = (buffer.export_fence(READ)?, buffer.export_fence(WRITE)?);
    expect_buffer("with a reader and a writer", &buffer, NONE)?;
    expect_pending("a fence for reading", &to_read)?;
    other.advance()?;
    expect_buffer("the writer is done", &buffer, PollFlags::IN)?;
    expect_signalled("a fence for reading", &to_read)?;
    expect_pending("a fence for writing", &to_write)?;

    // An exported fence stands for the users at that moment. A later writer does not count.
    buffer.import_fence(other.fence(3)?, WRITE)?;
    one.advance()?;
    expect_signalled("a fence for writing, exported before", &to_write)?;
    expect_buffer("with another writer", &buffer, NONE)?;
    other.advance()?;
    expect_buffer("with nobody", &buffer, BOTH)
}

fn passed_on(options: &Options) -> Result<()> {
    let timeline = Timeline::open()?;
    let heap = options.heap()?;
    let (first, second) = (heap.alloc(4096)?, heap.alloc(4096)?);
    first.import_fence(timeline.fence(1)?, WRITE)?;
    second.import_fence(first.export_fence(READ)?, READ)?;
    drop(first);
    expect_buffer("with the other's writer", &second, PollFlags::IN)?;
    timeline.advance()?;
    expect_buffer("the other's writer is done", &second, BOTH)
}

/// Opens a bracket in another thread, and runs `meanwhile` while that thread waits in the
/// kernel. `meanwhile` gets the thread's number, and a function that says whether the
/// thread has returned. Then advances `timeline`. Returns how the bracket ended.
fn while_waiting(
    buffer: &Buffer,
    direction: u32,
    timeline: &Timeline,
    meanwhile: impl FnOnce(i32, &dyn Fn() -> bool) -> Result<()>,
) -> Result<Result<(), Errno>> {
    while_open_waits(|| buffer.sync(direction.into()), timeline, meanwhile)
        .with_context(|| format!("a bracket of direction {direction}"))
}

/// The same with a bracket that `open` opens.
fn while_open_waits(
    open: impl FnOnce() -> Result<(), Errno> + Send,
    timeline: &Timeline,
    meanwhile: impl FnOnce(i32, &dyn Fn() -> bool) -> Result<()>,
) -> Result<Result<(), Errno>> {
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let thread = scope.spawn(move || {
            // SAFETY: This only returns the thread's number.
            let _ = sender.send(unsafe { libc::gettid() });
            open()
        });
        let number = receiver.recv()?;
        // While the thread sleeps in the kernel, the file begins with the number of the system call.
        let path = format!("/proc/self/task/{number}/syscall");
        let ioctl = format!("{} ", libc::SYS_ioctl);
        let waits = || fs::read_to_string(&path).is_ok_and(|call| call.starts_with(&ioctl));
        let waiting = eventually(|| Ok(thread.is_finished() || waits()));
        let seen = match waiting {
            Ok(true) if !thread.is_finished() => meanwhile(number, &|| thread.is_finished()),
            _ => Err(anyhow::anyhow!(
                "expected it to wait for the fence, but it did not"
            )),
        };
        // The thread has to end in any case.
        timeline.advance()?;
        let end = thread.join();
        seen?;
        end.or_else(|_| bail!("a thread panicked"))
    })
}

/// A device for which brackets maintain `buffer`, if this heap takes one.
fn maintained(options: &Options, buffer: &Buffer) -> Result<Option<Importer>> {
    if !options.heap.ends_with("-noncoherent") {
        return Ok(None);
    }
    let importer = Importer::new(&Setup::NOT_SNOOPING)?;
    let attachment = importer.attach(buffer, Kind::Static)?;
    importer.map(attachment, Direction::Bidirectional)?;
    Ok(Some(importer))
}

fn bracket(options: &Options) -> Result<()> {
    let buffer = options.heap()?.alloc(4096)?;
    waits(options, &buffer, |flags| buffer.sync(flags.into()))
}

fn part(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let buffer = options.heap()?.alloc(8192)?;
    let node = query::open()?;
    waits(options, &buffer, |flags| {
        buffer.sync_part(flags, &(100..5000), &node)
    })
}

/// Fails unless brackets by `sync` wait for the fences in their way, and for no others.
fn waits(
    options: &Options,
    buffer: &Buffer,
    sync: impl Fn(u32) -> Result<(), Errno> + Sync,
) -> Result<()> {
    let timeline = Timeline::open()?;
    let mut fences = 1..;
    // Without maintenance only the core of dma-bufs waits. With it the exporter waits, too.
    for maintained in [None, maintained(options, buffer)?] {
        let what = if maintained.is_some() {
            "with a device that does not snoop"
        } else {
            "without devices"
        };
        let mut fence = || timeline.fence(fences.next().unwrap_or_default());
        for (pending, waiting) in [(WRITE, READ), (WRITE, WRITE), (READ, WRITE)] {
            buffer.import_fence(fence()?, pending)?;
            while_open_waits(|| sync(waiting), &timeline, |_, _| Ok(()))
                .with_context(|| format!("{what}, for a fence of direction {pending}"))??;
            sync(waiting | END)?;
        }
        buffer.import_fence(fence()?, READ)?;
        sync(READ)?;
        sync(READ | END)?;
        expect_buffer("read beside a reader", buffer, PollFlags::IN)?;
        timeline.advance()?;
    }
    Ok(())
}

fn interrupted(options: &Options) -> Result<()> {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: Zeroes are a valid `sigaction`: no flags, so that calls are not restarted. The
    // handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        ensure!(
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) == 0,
            "sigaction failed"
        );
    }
    let timeline = Timeline::open()?;
    let buffer = options.heap()?.alloc(4096)?;
    for (value, maintained) in (1..).zip([None, maintained(options, &buffer)?]) {
        buffer.import_fence(timeline.fence(value)?, WRITE)?;
        let end = while_waiting(&buffer, READ, &timeline, |thread, ended| {
            // SAFETY: The signal is for a thread of this process, and is handled.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1) };
            let ended = eventually(|| Ok(ended()))?;
            ensure!(
                ended,
                "expected the signal to end the wait, but the bracket went on waiting"
            );
            expect_buffer("after the signal", &buffer, NONE)
        })?;
        let what = format!("a bracket ({}) and a signal", maintained.is_some());
        expect_errno(&what, end, Errno::INTR)?;
        buffer.sync(READ.into()).context("the same again")?;
        buffer.sync((READ | END).into())?;
    }
    Ok(())
}

/// The bracket has to fetch the device's data after the fence, when it is complete. Only a
/// bounce buffer shows when it was fetched.
fn before_maintenance(options: &Options) -> Result<()> {
    if !bouncing_is_forced()? {
        return skip("devices need not bounce here: try a guest with --append swiotlb=force");
    }
    let timeline = Timeline::open()?;
    let buffer = options.heap()?.alloc(4096)?;
    let mapping = buffer.map()?;
    let importer = Importer::new(&Setup::SNOOPING)?;
    let attachment = importer.attach(&buffer, Kind::Static)?;
    let mapped = importer.map(attachment, Direction::FromDevice)?;
    buffer.import_fence(timeline.fence(1)?, WRITE)?;
    while_waiting(&buffer, READ, &timeline, |_, _| {
        Ok(importer.write(&mapped, 0, b"complete")?)
    })??;
    let mut seen = [0; 8];
    mapping.read(0, &mut seen);
    buffer.sync((READ | END).into())?;
    ensure!(
        seen == *b"complete",
        "expected what the device wrote before its fence signalled, got {seen:x?}"
    );
    Ok(())
}

fn never(options: &Options) -> Result<()> {
    let timeline = Timeline::open()?;
    let heap = options.heap()?;
    let fence = timeline.fence(1)?;
    let (first, other) = (heap.alloc(1 << 20)?, heap.alloc(1 << 20)?);
    let mapping = first.map()?;
    first.import_fence(&fence, WRITE)?;

    // No other buffer has to wait.
    other.bracketed(|| other.map().map(|mapping| mapping.stamp(1)))??;
    expect_buffer("another buffer", &other, BOTH)?;
    heap.alloc(1 << 20)?.map()?.expect_zeroed("a new buffer")?;

    // Closing the descriptor and unmapping do not wait for the fence. (This buffer was never polled:
    // after a poll the core of dma-bufs holds a reference until the fence signals.)
    let inode = first.inode();
    drop((first, mapping));
    let gone = eventually(|| Ok(bufinfo::list()?.iter().all(|listed| listed.inode != inode)))?;
    ensure!(
        gone,
        "expected a closed buffer to be gone, but it is still listed"
    );
    expect_pending("the fence, without the buffer", &fence)
}

fn unload(options: &Options) -> Result<()> {
    const DRIVER: &str = "vgem";
    if !loaded(DRIVER) && modprobe(DRIVER, &[]).is_err() {
        return skip(format!(
            "no {DRIVER}: it takes a kernel with CONFIG_DRM_VGEM"
        ));
    }
    let timeline = Timeline::open()?;
    let fence = timeline.fence(1)?;
    let buffer = options.heap()?.alloc(1 << 20)?;
    buffer.import_fence(&fence, WRITE)?;
    for card in Card::all()? {
        // A strict heap may refuse it. Then the driver holds nothing.
        let seen = card.prime(buffer.as_fd()).map(drop);
        println!("{}: {}", card.describe(), outcome(&seen));
    }
    rmmod(DRIVER).context("with a pending fence")?;
    modprobe(DRIVER, &[])?;
    expect_pending("the fence, after the driver", &fence)?;
    buffer.map()?.stamp(1);
    expect_buffer("the buffer, after the driver", &buffer, NONE)?;
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
