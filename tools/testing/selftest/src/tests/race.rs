// SPDX-License-Identifier: GPL-2.0

//! Several threads use one buffer at once. A mistake shows as a report of the kernel, or as
//! a leak.

use super::Test;
use crate::drm_node::Card;
use crate::expect::{name, skip};
use crate::heap::{Heap, READ, WRITE};
use crate::options::Options;
use anyhow::{Result, bail, ensure};
use rustix::fd::{BorrowedFd, FromRawFd as _, OwnedFd};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

pub const TESTS: &[Test] = &[
    Test::new(
        "race.import_close",
        "devices attach while the buffer is being closed",
        import_close,
    ),
    Test::new(
        "race.import_same",
        "devices attach and detach one buffer at the same time",
        import_same,
    ),
    Test::new(
        "race.map_sync",
        "threads map, sync and unmap one buffer at the same time",
        map_sync,
    ),
];

const ROUNDS: u32 = 3000;

/// A descriptor number that nothing else in this process uses.
const SLOT: i32 = 900;

/// How often calls ended in each way.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, u32>>);

impl Tally {
    fn add<T>(&self, result: &Result<T, Errno>) {
        let how = crate::expect::outcome(result);
        *self.0.lock().unwrap().entry(how).or_default() += 1;
    }

    /// Prints the tally. Fails unless each call succeeded or ended with one of these errors.
    fn expect_only(&self, allowed: &[Errno]) -> Result<()> {
        let tally = self.0.lock().unwrap();
        println!("{tally:?}");
        let allowed: Vec<String> = allowed.iter().map(|errno| name(*errno)).collect();
        for how in tally.keys() {
            ensure!(
                how == "success" || allowed.contains(how),
                "expected only success or {allowed:?}, got {tally:?}"
            );
        }
        Ok(())
    }
}

/// All devices that import, each opened `times` times, so that they also meet one another.
fn importers(times: usize) -> Result<Vec<Card>> {
    let mut cards = Vec::new();
    for _ in 0..times {
        cards.extend(Card::all()?);
    }
    if cards.is_empty() {
        return skip("no DRM device: modprobe vgem gives one");
    }
    Ok(cards)
}

/// The errors that an import may end with: the heap refuses, the driver has a rule of its
/// own, or the descriptor is not open or names no buffer at that moment.
const ANSWERS: [Errno; 5] = [
    Errno::OPNOTSUPP,
    Errno::NODEV,
    Errno::BADF,
    Errno::INVAL,
    Errno::NOENT,
];

fn import_close(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let cards = importers(1)?;
    let tally = Tally::default();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for card in &cards {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: The number names a buffer or nothing, and the test is about that.
                    // Nothing else in this process has that number.
                    let buffer = unsafe { BorrowedFd::borrow_raw(SLOT) };
                    tally.add(&card.prime(buffer).map(drop));
                    std::thread::yield_now();
                }
            });
        }
        let result = open_and_close(&heap);
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    tally.expect_only(&ANSWERS)?;
    let tally = tally.0.lock().unwrap();
    let met = tally.keys().filter(|how| *how != "EBADF").count();
    ensure!(met > 0, "no device ever met an open buffer: {tally:?}");
    Ok(())
}

fn open_and_close(heap: &Heap) -> Result<()> {
    for round in 0..ROUNDS {
        let buffer = heap.alloc(if round % 8 == 0 { 1 << 20 } else { 4096 })?;
        // SAFETY: The number is this test's own and not open, as the last round has closed it.
        let mut slot = unsafe { OwnedFd::from_raw_fd(SLOT) };
        rustix::io::dup2(&buffer, &mut slot)?;
        drop(buffer);
        // The buffer's lifetime differs from round to round.
        for _ in 0..round % 3 {
            std::thread::yield_now();
        }
        drop(slot);
    }
    Ok(())
}

fn import_same(options: &Options) -> Result<()> {
    let buffer = options.heap()?.alloc((1 << 20) + 4096)?;
    let cards = importers(3)?;
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for card in &cards {
            scope.spawn(|| {
                use rustix::fd::AsFd as _;
                for _ in 0..ROUNDS / 10 {
                    tally.add(&card.prime(buffer.as_fd()).map(drop));
                }
            });
        }
    });
    tally.expect_only(&[Errno::OPNOTSUPP, Errno::NODEV])
}

fn map_sync(options: &Options) -> Result<()> {
    let buffer = &options.heap()?.alloc((4 << 20) + 4096)?;
    buffer.map()?.stamp(5);
    let worker = |flags: u32| -> Result<()> {
        for _ in 0..ROUNDS / 30 {
            buffer.sync(flags.into())?;
            buffer
                .map()?
                .expect_stamped("while others map it too", 5, 0)?;
            buffer.sync((flags | crate::heap::END).into())?;
        }
        Ok(())
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let flags = [READ, WRITE, READ | WRITE, READ];
        let threads = flags.map(|flags| scope.spawn(move || worker(flags)));
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    for result in results {
        result.unwrap_or_else(|_| bail!("a thread panicked"))?;
    }
    Ok(())
}
