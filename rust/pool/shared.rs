// SPDX-License-Identifier: GPL-2.0

//! The state that all bins share: the limits of their size, their size, and whether there is work
//! for the thread.

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

/// The state that all bins share.
#[pin_data]
pub(super) struct Shared {
    /// The largest permitted number of pages in all bins. It is 0 until the pool is started.
    pub(super) limit: Atomic<usize>,
    /// The value that `limit` gets when the pool is started.
    pub(super) wanted_limit: usize,
    /// The largest permitted number of pages in blocks for [`Zone::Dma32`]. They also count towards
    /// `limit`.
    low_limit: usize,
    /// The number of pages of each kind in all bins.
    pub(super) pages: PerKind<Atomic<usize>>,
    /// Whether there is new work since the thread last looked.
    #[pin]
    work: SpinLock<bool>,
    #[pin]
    wakeup: CondVar,
}

impl Shared {
    /// Creates the state for a pool that keeps at most `percent` per cent of the machine's memory.
    /// A value above 100 means 100. The limit is 0 until the pool is started.
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

    /// Returns the number of pages in all bins.
    fn all_pages(&self) -> usize {
        self.pages.iter().map(|pages| pages.load(Relaxed)).sum()
    }

    /// Returns whether the pages exceed the limit for all kinds, or that for `zone`.
    fn is_over(&self, zone: Zone) -> bool {
        let low = || -> usize {
            let pages = |caching| self.pages.get(Kind { zone, caching }).load(Relaxed);

            pages(Caching::WriteBack) + pages(Caching::WriteCombining)
        };

        self.all_pages() > self.limit.load(Relaxed)
            || (zone == Zone::Dma32 && low() > self.low_limit)
    }

    /// Counts a block that is to be kept. Returns whether it may be kept: the block must be from
    /// the page allocator, and must not exceed a limit. If it may not be kept, it is not counted.
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

    /// Tells the thread of new work, and wakes it. Does nothing if the thread has been told since
    /// it last looked.
    pub(super) fn ring(&self) {
        let mut work = self.work.lock();
        if !*work {
            *work = true;
            self.wakeup.notify_one();
        }
    }

    /// Waits for new work, but no longer than `timeout`. May sleep.
    pub(super) fn wait(&self, timeout: Jiffies) {
        let mut work = self.work.lock();
        if !*work {
            // Ignore the reason why the wait ended: the caller looks for work in any case.
            let _ = self.wakeup.wait_interruptible_timeout(&mut work, timeout);
        }
        *work = false;
    }
}
