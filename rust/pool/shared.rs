// SPDX-License-Identifier: GPL-2.0

//! What all bins have in common: how much they may hold, how much they hold, and whether there is
//! work for the thread.

use crate::kernel::mm::page::{
    self,
    Caching,
    Extent,
    Kind,
    PageBlock,
    PerKind,
    Zone, //
};
use kernel::{
    new_condvar,
    new_spinlock,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        CondVar,
        SpinLock, //
    },
    time::Jiffies, //
};

/// What all bins have in common.
#[pin_data]
pub(super) struct Shared {
    /// How many pages there may be in all bins. None before the pool has been started.
    pub(super) limit: Atomic<usize>,
    /// What the limit is to be from then on.
    pub(super) wanted_limit: usize,
    /// How many of these pages there may be in blocks for [`Zone::Dma32`].
    low_limit: usize,
    /// How many pages there are of each kind.
    pub(super) pages: PerKind<Atomic<usize>>,
    /// Whether there has been something to do since the thread looked.
    #[pin]
    work: SpinLock<bool>,
    #[pin]
    wakeup: CondVar,
}

impl Shared {
    /// Creates it for a pool that keeps at most `percent` of the machine's memory, at most 100. The
    /// limit is 0 until the pool is started.
    pub(super) fn new(percent: u8) -> impl PinInit<Self> {
        let part = |pages| pages / 100 * usize::from(percent.min(100));
        // CAST: To a type of the same size.
        let low = Extent::dma32().map_or(0, |extent| extent.size as usize >> PAGE_SHIFT);
        let (wanted_limit, low_limit) = (part(page::total()), part(low));

        pin_init!(Self {
            limit: Atomic::new(0),
            wanted_limit,
            low_limit,
            pages: PerKind::new(|_| Atomic::new(0)),
            work <- new_spinlock!(false),
            wakeup <- new_condvar!(),
        })
    }

    /// How many pages there are of all kinds together.
    fn all_pages(&self) -> usize {
        self.pages.iter().map(|pages| pages.load(Relaxed)).sum()
    }

    /// Whether there are more pages than there may be, of all kinds or of those for `zone`.
    fn is_over(&self, zone: Zone) -> bool {
        let low = || -> usize {
            let pages = |caching| self.pages.get(Kind { zone, caching }).load(Relaxed);

            pages(Caching::WriteBack) + pages(Caching::WriteCombining)
        };

        self.all_pages() > self.limit.load(Relaxed)
            || (zone == Zone::Dma32 && low() > self.low_limit)
    }

    /// Counts a block that is to be kept. Returns whether it may be: it has to be one from the page
    /// allocator, and there must be room for it.
    pub(super) fn count(&self, block: &PageBlock) -> bool {
        let Some(kind) = block.kind() else {
            return false;
        };
        let pages = self.pages.get(kind);

        pages.add(block.nr_pages(), Relaxed);
        if self.is_over(kind.zone) {
            pages.fetch_sub(block.nr_pages(), Relaxed);
            return false;
        }
        true
    }

    /// Counts a block that is no longer kept.
    pub(super) fn uncount(&self, block: &PageBlock) {
        if let Some(kind) = block.kind() {
            self.pages.get(kind).fetch_sub(block.nr_pages(), Relaxed);
        }
    }

    /// Wakes the thread, if that has not been done since it looked.
    pub(super) fn ring(&self) {
        let mut work = self.work.lock();
        if !*work {
            *work = true;
            self.wakeup.notify_one();
        }
    }

    /// Waits for something to do, but no longer than `timeout`. May sleep.
    pub(super) fn wait(&self, timeout: Jiffies) {
        let mut work = self.work.lock();
        if !*work {
            // However it ends, the caller looks at what there is to do.
            let _ = self.wakeup.wait_interruptible_timeout(&mut work, timeout);
        }
        *work = false;
    }
}
