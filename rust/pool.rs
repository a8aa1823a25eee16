// SPDX-License-Identifier: GPL-2.0

//! Memory for buffers: pools of blocks that earlier buffers have left, and the page allocator.
//!
//! Zeroing memory costs more than all else about a buffer. So the pool keeps the memory that a
//! buffer leaves, and a thread of low priority zeroes it. The next buffer takes memory that is
//! zeroed already. A block is zeroed once between two buffers: by the thread, or by the task that
//! needs it earlier.
//!
//! # Whose memory it is
//!
//! A page stays charged to the memory cgroup that it was allocated in, and a module cannot move
//! the charge. So each cgroup has a [`Bin`] of its own, which serves its tasks only. The bin is
//! emptied when the cgroup or the machine is short of memory. It holds no reference to the cgroup.
//! When the cgroup goes, the kernel charges its pages to the parent, and the bin gives them back
//! as idle.
//!
//! # Bounds
//!
//! All bins together hold no more than the limit, which is a part of the machine's memory. Of
//! blocks that were asked for below 4 GiB they hold no more than the same part of the memory
//! there. What a bin has not needed for a while is given back, and so is a bin that holds nothing
//! and serves no buffer.

mod bin;
mod shared;
mod stock;
mod thread;

use crate::{
    kernel::{
        compat::eopnotsupp,
        kthread,
        mm::{
            cache::Cleaner,
            memcg::{
                self,
                Memcg, //
            },
            page::{
                self,
                Caching,
                Effort,
                Home,
                Kind,
                PageBlock,
                Pages, //
            },
            shrinker::{
                Member,
                Reclaim,
                Shrinker, //
            }, //
        },
        module::Forever,
        signal::fatal_signal_pending, //
    },
    pool::{
        bin::Bin,
        shared::Shared,
        stock::MAX_BLOCK_PAGES, //
    }, //
};
use core::ops::Range;
use kernel::{
    new_spinlock,
    page::PAGE_SHIFT,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        atomic::Relaxed,
        Arc,
        SpinLock,
        UniqueArc, //
    }, //
};

/// Where memory for buffers comes from.
#[pin_data]
pub(crate) struct Pool {
    /// Whether memory is charged to the cgroup of the task that allocates it.
    account: bool,
    /// Cleans the caches for memory that is made write-combining. None if that cannot be done.
    cleaner: Option<Arc<Cleaner>>,
    shared: Arc<Shared>,
    shrinker: Arc<Shrinker<Bin>>,
    /// The bins by cgroup.
    #[pin]
    bins: SpinLock<RBTree<memcg::Id, Member<Bin>>>,
}

impl Pool {
    /// Creates a pool that keeps at most `percent` of the machine's memory, at most 100.
    ///
    /// It keeps nothing before [`Pool::start`].
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(crate) fn new(
        account: bool,
        percent: u8,
        cleaner: Option<Arc<Cleaner>>,
    ) -> Result<Arc<Self>> {
        let shared = Arc::pin_init(Shared::new(percent), GFP_KERNEL)?;
        let shrinker = Shrinker::new()?;

        Arc::pin_init(
            pin_init!(Self {
                account: account && Memcg::exist(),
                cleaner,
                shared,
                shrinker,
                bins <- new_spinlock!(RBTree::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// Starts to keep memory, unless the limit is 0. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`kthread::spawn`]. Nothing is kept then.
    pub(crate) fn start(self: &Arc<Self>, forever: Forever) -> Result {
        self.shrinker.register(forever);
        if self.shared.wanted_limit != 0 {
            kthread::spawn(c"dmabuf_coherency", self.clone(), forever)?;
            self.shared.limit.store(self.shared.wanted_limit, Relaxed);
        }
        Ok(())
    }

    /// Has buffers survive hibernation. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`Cleaner::survive_hibernation`].
    pub(crate) fn survive_hibernation(&self, forever: Forever) -> Result {
        match &self.cleaner {
            Some(cleaner) => cleaner.survive_hibernation(forever),
            None => Ok(()),
        }
    }

    /// Whether memory is charged to the cgroup of the task that allocates it.
    pub(crate) fn is_accounted(&self) -> bool {
        self.account
    }

    /// Whether there is write-combining memory.
    pub(crate) fn has_write_combining(&self) -> bool {
        self.cleaner.is_some()
    }

    /// How many bytes are kept for buffers of this kind.
    pub(crate) fn size(&self, kind: Kind) -> usize {
        self.shared.pages.get(kind).load(Relaxed) << PAGE_SHIFT
    }

    /// Allocates `len` zeroed bytes of this kind in as few and as large blocks as memory allows. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] if there is not enough memory. If that is clear beforehand, none is allocated.
    /// - [`EINTR`] if the task is about to be killed.
    /// - Those of [`Pool::prepare`].
    pub(crate) fn allocate(&self, len: usize, kind: Kind) -> Result<UniqueArc<Pages>> {
        let (bin, home) = self.home().unzip();
        let mut pages = Pages::new(kind.caching, home)?;
        let mut left = len >> PAGE_SHIFT;
        let mut limit = MAX_BLOCK_PAGES;
        // How many pages to take before checking again whether there are enough for the rest.
        let mut unasked = if left > MAX_BLOCK_PAGES { 0 } else { left };

        while left > 0 {
            if fatal_signal_pending() {
                return Err(EINTR);
            }
            if unasked == 0 {
                let kept = bin.as_ref().map_or(0, |bin| bin.reclaimable());
                if left > kept && left > page::available(kind.zone) {
                    return Err(ENOMEM);
                }
                unasked = MAX_BLOCK_PAGES;
            }

            let nr_pages = left.min(limit);
            match self.block(bin.as_deref(), nr_pages, kind) {
                Ok(block) => {
                    pages.push(block, left.div_ceil(nr_pages))?;
                    left -= nr_pages;
                    unasked = unasked.saturating_sub(nr_pages);
                    // There may be larger blocks again.
                    if unasked == 0 {
                        limit = MAX_BLOCK_PAGES.min(limit * 2);
                    }
                }
                // A larger block of the bin has been freed, which the page allocator can split.
                Err(_)
                    if bin
                        .as_ref()
                        .is_some_and(|bin| bin.free_larger(nr_pages, kind.zone)) => {}
                Err(err) if nr_pages == 1 => return Err(err),
                Err(_) => {
                    // The next smaller power of two.
                    limit = nr_pages.next_power_of_two() / 2;
                    unasked = 0;
                }
            }
        }

        Ok(pages)
    }

    /// Finds or allocates one zeroed block.
    fn block(&self, bin: Option<&Bin>, nr_pages: usize, kind: Kind) -> Result<PageBlock> {
        match bin.and_then(|bin| bin.take(nr_pages, kind)) {
            Some((mut block, clean)) => {
                let dirty = clean..block.nr_pages();

                if !dirty.is_empty() {
                    self.zero(&mut block, dirty)?;
                }
                Ok(block)
            }
            None => {
                let alloc =
                    |effort| PageBlock::alloc_zeroed(nr_pages, kind.zone, effort, self.account);
                let block = if nr_pages == 1 {
                    alloc(Effort::Reclaim)?
                } else {
                    alloc(Effort::AtHand).or_else(|err| {
                        // If there is such a block, it is the cgroup that has no room for it.
                        if self.account && PageBlock::is_at_hand(nr_pages, kind.zone) {
                            alloc(Effort::Charge)
                        } else {
                            Err(err)
                        }
                    })?
                };

                self.prepare(block, kind.caching)
            }
        }
    }

    /// Prepares a new, zeroed block for being mapped with this caching. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`] if memory cannot be made write-combining.
    /// - Those of [`Cleaner::make_write_combining`].
    pub(crate) fn prepare(&self, block: PageBlock, caching: Caching) -> Result<PageBlock> {
        match caching {
            Caching::WriteBack => Ok(block),
            Caching::WriteCombining => self.cleaner()?.make_write_combining(block),
        }
    }

    /// Zeroes pages of a block that has been used. If that fails, the block can only be freed.
    fn zero(&self, block: &mut PageBlock, pages: Range<usize>) -> Result {
        match block.caching() {
            Caching::WriteBack => block.zero(pages),
            Caching::WriteCombining => self.cleaner()?.zero(block, pages),
        }
    }

    fn cleaner(&self) -> Result<&Cleaner> {
        self.cleaner.as_deref().ok_or_else(eopnotsupp)
    }

    /// The bin of the current task's cgroup, for one buffer. None if nothing is kept, or there is no
    /// memory for a new bin.
    fn home(&self) -> Option<(Arc<Bin>, Home)> {
        if self.shared.limit.load(Relaxed) == 0 {
            return None;
        }
        let known = {
            let id = if self.account {
                memcg::Id::current()
            } else {
                memcg::Id::NONE
            };
            let bins = self.bins.lock();

            bins.get(&id).map(|member| Bin::home(member))
        };
        known.or_else(|| self.add_bin().ok())
    }

    fn add_bin(&self) -> Result<(Arc<Bin>, Home)> {
        let memcg = if self.account {
            Memcg::current()
        } else {
            Memcg::none()
        };
        let id = memcg.id();
        let bin = Arc::pin_init(Bin::new(id, self.shared.clone()), GFP_KERNEL)?;
        let member = self.shrinker.add(&memcg, bin.clone())?;
        let node = RBTreeNode::new(id, member, GFP_KERNEL)?;

        let mut bins = self.bins.lock();
        // Another task may have added it meanwhile.
        if let Some(member) = bins.get(&id) {
            let home = Bin::home(member);

            drop(bins);
            return Ok(home);
        }
        let home = Bin::home(&bin);
        bins.insert(node);
        drop(bins);
        // The thread looks at it from time to time from now on.
        self.shared.ring();
        Ok(home)
    }
}
