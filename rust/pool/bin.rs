// SPDX-License-Identifier: GPL-2.0

//! What is kept for one memory cgroup.

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

/// How much is zeroed at a time with a spinlock held. A slow core takes 10 microseconds for 16 KiB.
const ZERO_PAGES: usize = if PAGE_SIZE < SZ_16K {
    SZ_16K >> PAGE_SHIFT
} else {
    1
};

/// How many blocks a spinlock is held for when a buffer leaves them.
const BATCH: usize = 32;

/// How much dirty memory the thread is woken for, in bytes. To wake it takes as long as to zero
/// this much. Less than that is zeroed by the task that needs it, or by the thread when it next
/// looks at what is idle. Write-combining memory takes several times as long to zero.
const fn worth_waking(caching: Caching) -> usize {
    match caching {
        Caching::WriteBack => SZ_128K,
        Caching::WriteCombining => SZ_32K,
    }
}

/// What is kept for one cgroup.
#[pin_data(PinnedDrop)]
pub(crate) struct Bin {
    /// The cgroup, which may have gone.
    id: memcg::Id,
    /// How many buffers will leave their blocks here.
    buffers: Atomic<usize>,
    shared: Arc<Shared>,
    #[pin]
    stock: SpinLock<Stock>,
}

impl Bin {
    /// Creates an empty one.
    pub(super) fn new(id: memcg::Id, shared: Arc<Shared>) -> impl PinInit<Self> {
        pin_init!(Self {
            id,
            buffers: Atomic::new(0),
            shared,
            stock <- new_spinlock!(Stock::new()),
        })
    }

    /// Lets one more buffer leave its blocks here. Returns the bin, and the home for that buffer.
    pub(super) fn home(bin: &Arc<Self>) -> (Arc<Self>, Home) {
        bin.buffers.add(1, Relaxed);
        (bin.clone(), Home::new(bin.clone()))
    }

    /// Whether it holds nothing and serves no buffer. Only with the lock of all bins held can it
    /// get a buffer.
    pub(super) fn is_unused(&self) -> bool {
        self.buffers.load(Relaxed) == 0 && self.reclaimable() == 0
    }

    /// Takes a block of this size, and says how many of its pages are clean, from the first on.
    pub(super) fn take(&self, nr_pages: usize, kind: Kind) -> Option<(PageBlock, usize)> {
        let taken = self.stock.lock().take(nr_pages, kind)?;

        self.shared.uncount(&taken.0);
        Some(taken)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.stock.lock().dirty > 0
    }

    /// Zeroes the next pages of a dirty block. The block stays in the stock between two calls. So
    /// others find it even if the thread does not get to run for long.
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

    /// Notes how much has not been needed since the last look.
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
    /// Frees a block from the stacks for more pages, that of other sizes among them, if there is one
    /// whose pages may be taken for `zone`. Returns whether there was.
    pub(super) fn free_larger(&self, nr_pages: usize, zone: Zone) -> bool {
        // CAST: It is the number of a bit.
        let larger = usize::BITS - nr_pages.leading_zeros();

        self.free(1, zone, larger as usize) > 0
    }

    /// Frees at least so many pages, or all, of blocks from the stack of this index on whose pages may
    /// be taken for `zone`. Returns how many.
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
