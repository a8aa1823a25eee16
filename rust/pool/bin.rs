// SPDX-License-Identifier: GPL-2.0

//! The memory that the pool keeps for one memory cgroup.

use crate::{
    kernel::mm::{
        memcg,
        page::{
            Blocks,
            Caching,
            Home,
            Keeper,
            Kind,
            PageBlock,
            Zone, //
        },
        shrinker::Reclaim, //
    },
    pool::{
        shared::Shared,
        stock::{
            State,
            Stock,
            MAX_BLOCK_PAGES, //
        }, //
    }, //
};
use core::ops::Range;
use kernel::{
    new_spinlock,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sizes::{
        SZ_128K,
        SZ_16K,
        SZ_32K, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    }, //
};

/// How many pages the thread zeroes at a time, while it holds a spinlock: 16 KiB, or one page if
/// pages are larger. A slow core needs 10 microseconds for 16 KiB.
const ZERO_PAGES: usize = if PAGE_SIZE < SZ_16K {
    SZ_16K >> PAGE_SHIFT
} else {
    1
};

/// How many blocks of a freed buffer are added to the stock at a time, while a spinlock is held.
const BATCH: usize = 32;

/// Returns how many bytes of dirty memory are worth waking the thread. Waking it takes as long as
/// zeroing this much.
///
/// If there is less dirty memory, the next task that needs it zeroes it, or the thread does when it
/// next looks for idle memory. Zeroing write-combining memory takes several times as long.
const fn worth_waking(caching: Caching) -> usize {
    match caching {
        Caching::WriteBack => SZ_128K,
        Caching::WriteCombining => SZ_32K,
    }
}

/// The memory that the pool keeps for one cgroup.
#[pin_data(PinnedDrop)]
pub(crate) struct Bin {
    /// The ID of the cgroup. The cgroup may have been removed.
    id: memcg::Id,
    /// How many live buffers will leave their blocks to this bin when they are freed.
    buffers: Atomic<usize>,
    shared: Arc<Shared>,
    #[pin]
    stock: SpinLock<Stock>,
}

impl Bin {
    /// Creates an empty bin.
    pub(super) fn new(id: memcg::Id, shared: Arc<Shared>) -> impl PinInit<Self> {
        pin_init!(Self {
            id,
            buffers: Atomic::new(0),
            shared,
            stock <- new_spinlock!(Stock::new()),
        })
    }

    /// Registers one more buffer that will leave its blocks to the bin. Returns the bin, and a
    /// [`Home`] for the buffer.
    pub(super) fn home(bin: &Arc<Self>) -> (Arc<Self>, Home) {
        bin.buffers.add(1, Relaxed);
        (bin.clone(), Home::new(bin.clone()))
    }

    /// Returns whether the bin is empty and serves no buffer.
    ///
    /// A bin gets a buffer only with the lock `Pool::bins` held. So the answer stays true as long
    /// as the caller holds that lock.
    pub(super) fn is_unused(&self) -> bool {
        self.buffers.load(Relaxed) == 0 && self.reclaimable() == 0
    }

    /// Takes a block of this size. Returns it, and how many of its first pages are clean.
    pub(super) fn take(&self, nr_pages: usize, kind: Kind) -> Option<(PageBlock, usize)> {
        let taken = self.stock.lock().take(nr_pages, kind)?;

        self.shared.uncount(&taken.0);
        Some(taken)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.stock.lock().dirty > 0
    }

    /// Zeroes the next [`ZERO_PAGES`] pages of a dirty block, by `zero`, with a spinlock held.
    ///
    /// Between two calls the block stays in the stock. So other tasks can take it even if the
    /// thread does not run for a long time. A block that cannot be zeroed is freed.
    pub(super) fn zero_some(&self, zero: impl FnOnce(&mut PageBlock, Range<usize>) -> Result) {
        let mut guard = self.stock.lock();
        let stock = &mut *guard;
        let Some((mut block, done)) = stock
            .current
            .take()
            .or_else(|| Some((stock.pop_largest(State::Dirty, Zone::All, 0)?, 0)))
        else {
            return;
        };

        let end = block.nr_pages().min(done + ZERO_PAGES);
        match zero(&mut block, done..end) {
            Ok(()) if end < block.nr_pages() => stock.current = Some((block, end)),
            Ok(()) => {
                stock.dirty -= block.nr_pages();
                stock.push(block, State::Clean);
            }
            Err(_) => {
                stock.uncount(&block, State::Dirty);
                drop(guard);
                self.shared.uncount(&block);
            }
        }
    }

    /// Marks as excess the pages that nobody has needed since the last call.
    pub(super) fn look_at_idle(&self) {
        let mut stock = self.stock.lock();

        stock.excess = stock.least;
        stock.least = stock.pages - stock.excess;
    }

    pub(super) fn has_excess(&self) -> bool {
        self.stock.lock().excess > 0
    }

    pub(super) fn give_back_excess(&self) {
        let excess = core::mem::take(&mut self.stock.lock().excess);

        self.reclaim(excess);
    }
}

impl Keeper for Bin {
    fn keep(&self, blocks: &mut Blocks) {
        blocks.retain(|block| {
            block.nr_pages() <= MAX_BLOCK_PAGES
                && block.memcg() == self.id
                && self.shared.count(block)
        });
        let mut is_worth_waking = false;

        while !blocks.is_empty() {
            let mut stock = self.stock.lock();

            for _ in 0..BATCH {
                let Some(block) = blocks.pop() else { break };
                let worth = worth_waking(block.caching()) >> PAGE_SHIFT;

                stock.add(block, State::Dirty);
                is_worth_waking |= stock.dirty >= worth;
            }
        }
        if is_worth_waking {
            self.shared.ring();
        }
    }

    fn left(&self) {
        self.buffers.fetch_sub(1, Relaxed);
    }
}

impl Reclaim for Bin {
    fn reclaimable(&self) -> usize {
        self.stock.lock().pages
    }

    fn reclaim(&self, nr_pages: usize) -> usize {
        self.free(nr_pages, Zone::All, 0)
    }
}

impl Bin {
    /// Frees one block whose pages may be used for `zone`, from a stack above the one for
    /// `nr_pages`. The stack of blocks of odd sizes is among these. Returns whether there was such
    /// a block.
    pub(super) fn free_larger(&self, nr_pages: usize, zone: Zone) -> bool {
        // CAST: The number of a bit fits into any type.
        let larger = usize::BITS - nr_pages.leading_zeros();

        self.free(1, zone, larger as usize) > 0
    }

    /// Frees blocks until at least `nr_pages` pages are free, or no block is left. Only frees
    /// blocks whose pages may be used for `zone`, from stacks whose index is at least `from`.
    /// Returns the number of freed pages.
    fn free(&self, nr_pages: usize, zone: Zone, from: usize) -> usize {
        let mut freed = 0;

        while freed < nr_pages {
            let mut stock = self.stock.lock();
            let block = stock.take_any(zone, from);
            drop(stock);

            let Some(block) = block else { break };
            freed += block.nr_pages();
            self.shared.uncount(&block);
        }
        freed
    }
}

#[pinned_drop]
impl PinnedDrop for Bin {
    fn drop(self: Pin<&mut Self>) {
        self.reclaim(usize::MAX);
    }
}
