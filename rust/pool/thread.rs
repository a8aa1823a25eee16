// SPDX-License-Identifier: GPL-2.0

//! The thread that zeroes what is dirty, and gives back what is idle.

use crate::{
    kernel::kthread,
    pool::{
        bin::Bin,
        Pool, //
    }, //
};
use kernel::{
    sync::Arc,
    time::{
        delay::fsleep,
        msecs_to_jiffies,
        Delta,
        Instant,
        Jiffies,
        Monotonic,
        Msecs, //
    }, //
};

/// After how long a bin gives back what it has not needed.
const IDLE: Delta = Delta::from_secs(10);

/// How long the thread waits before it begins. A task that frees one buffer after the other is not
/// to be interrupted for each. A task that wants the next buffer at once takes memory that the
/// caches still hold.
const GATHER: Delta = Delta::from_millis(4);

/// How often in a row a bin zeroes a little.
const ZERO_ROUNDS: usize = 4;

impl Pool {
    /// Finds a bin. What `wanted` says is asked with a spinlock held.
    fn find(&self, wanted: impl Fn(&Bin) -> bool) -> Option<Arc<Bin>> {
        self.bins
            .lock()
            .values()
            .find(|bin| wanted(bin))
            .map(|bin| (**bin).clone())
    }

    /// Zeroes a little of what is dirty. Returns whether there was anything.
    fn zero_some(&self) -> bool {
        let Some(bin) = self.find(Bin::is_dirty) else {
            return false;
        };

        for _ in 0..ZERO_ROUNDS {
            bin.zero_some(|block, pages| self.zero(block, pages));
        }
        true
    }

    /// Gives back what has not been needed for a while.
    fn give_back_idle(&self) {
        for bin in self.bins.lock().values() {
            bin.look_at_idle();
        }
        while let Some(bin) = self.find(Bin::has_excess) {
            bin.give_back_excess();
        }
        loop {
            let mut bins = self.bins.lock();
            let gone = bins
                .iter()
                .find(|(_, bin)| bin.is_unused())
                .map(|(id, _)| *id);
            let Some(gone) = gone else { break };
            let node = bins.remove_node(&gone);

            drop(bins);
            drop(node);
        }
    }
}

impl kthread::Run for Pool {
    fn run(&self) -> ! {
        let mut looked = Instant::<Monotonic>::now();

        loop {
            kthread::try_to_freeze();
            if looked.elapsed() >= IDLE {
                self.give_back_idle();
                looked = Instant::now();
            }
            if !self.zero_some() {
                self.shared.wait(if self.bins.lock().is_empty() {
                    Jiffies::MAX
                } else {
                    // CAST: It is a few seconds.
                    msecs_to_jiffies(IDLE.as_millis() as Msecs)
                });
                fsleep(GATHER);
            }
        }
    }
}
