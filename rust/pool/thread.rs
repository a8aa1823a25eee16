// SPDX-License-Identifier: GPL-2.0

//! The thread of the pool. It zeroes dirty blocks, and gives back idle memory.

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

/// A bin gives back memory that it has not needed for this long.
const IDLE: Delta = Delta::from_secs(10);

/// How long the thread waits after a wakeup before it zeroes.
///
/// So a task that frees many buffers in a row is not interrupted for each of them. And a task that
/// allocates the next buffer at once gets dirty memory that is still in the CPU caches.
const GATHER: Delta = Delta::from_millis(4);

/// How many times in a row [`Bin::zero_some`] is called for one bin.
const ZERO_ROUNDS: usize = 4;

impl Pool {
    /// Finds a bin for which `wanted` returns true. Calls `wanted` with a spinlock held.
    fn find(&self, wanted: impl Fn(&Bin) -> bool) -> Option<Arc<Bin>> {
        self.bins
            .lock()
            .values()
            .find(|bin| wanted(bin))
            .map(|bin| (**bin).clone())
    }

    /// Zeroes some dirty pages. Returns whether there were any.
    fn zero_some(&self) -> bool {
        let Some(bin) = self.find(Bin::is_dirty) else {
            return false;
        };

        for _ in 0..ZERO_ROUNDS {
            bin.zero_some(|block, pages| self.zero(block, pages));
        }
        true
    }

    /// Gives back memory that has not been needed for a while, and removes unused bins.
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
                    // CAST: A few seconds fit into any type.
                    msecs_to_jiffies(IDLE.as_millis() as Msecs)
                });
                fsleep(GATHER);
            }
        }
    }
}
