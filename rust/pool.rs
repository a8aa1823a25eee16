// SPDX-License-Identifier: GPL-2.0

//! Allocates memory for buffers: from a pool of blocks of freed buffers, or from the page
//! allocator.
//!
//! Zeroing memory costs more than all other work for a buffer. So the pool keeps the memory of
//! freed buffers, and a thread of low priority zeroes it. The next buffer then gets memory that is
//! already zeroed. Between two buffers, a block is zeroed exactly once: by the thread, or by a task
//! that allocates the block before the thread gets to it.
//!
//! # Accounting
//!
//! A page stays charged to the memory cgroup that allocated it, and a module cannot move the
//! charge. So each cgroup has its own [`Bin`], which serves only the tasks of that cgroup. The
//! kernel reclaims from the bin when the cgroup or the machine is short of memory. The bin holds no
//! reference to the cgroup. When the cgroup is removed, the kernel charges its pages to the parent.
//! The bin then becomes idle, and gives its pages back for that reason.
//!
//! # Limits
//!
//! The pages of all bins together do not exceed the limit, which is a fraction of the machine's
//! memory. The blocks that were allocated for [`Zone::Dma32`](page::Zone) have a limit of their
//! own: the same fraction of the memory below 4 GiB. A bin gives back memory that it has not needed
//! for a while. An empty bin that serves no buffer is removed.

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

/// The pool that memory for buffers is allocated from.
#[pin_data]
pub(crate) struct Pool {
    /// Whether memory is charged to the cgroup of the task that allocates it.
    account: bool,
    /// Cleans the caches when memory is made write-combining. `None` if there is no way to do so.
    cleaner: Option<Arc<Cleaner>>,
    shared: Arc<Shared>,
    shrinker: Arc<Shrinker<Bin>>,
    /// The bin of each cgroup.
    #[pin]
    bins: SpinLock<RBTree<memcg::Id, Member<Bin>>>,
}

impl Pool {
    /// Creates a pool that keeps at most `percent` per cent of the machine's memory. A value above
    /// 100 means 100.
    ///
    /// The pool keeps nothing before [`Pool::start`].
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is not enough memory.
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
    /// Those of [`kthread::spawn`]. On an error the pool keeps no memory.
    pub(crate) fn start(self: &Arc<Self>, forever: Forever) -> Result {
        self.shrinker.register(forever);
        if self.shared.wanted_limit != 0 {
            kthread::spawn(c"dmabuf_coherency", self.clone(), forever)?;
            self.shared.limit.store(self.shared.wanted_limit, Relaxed);
        }
        Ok(())
    }

    /// Makes write-combining buffers survive hibernation. May sleep.
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

    /// Returns whether memory is charged to the cgroup of the task that allocates it.
    pub(crate) fn is_accounted(&self) -> bool {
        self.account
    }

    /// Returns whether the pool can allocate write-combining memory.
    pub(crate) fn has_write_combining(&self) -> bool {
        self.cleaner.is_some()
    }

    /// Returns how many bytes the pool keeps for buffers of this kind.
    pub(crate) fn size(&self, kind: Kind) -> usize {
        self.shared.pages.get(kind).load(Relaxed) << PAGE_SHIFT
    }

    /// Allocates `len` zeroed bytes of this kind, in blocks as few and as large as memory allows.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] if there is not enough memory. If that can be seen beforehand, nothing is
    ///   allocated.
    /// - [`EINTR`] if a fatal signal is pending for the task.
    /// - Those of [`Pool::prepare`].
    pub(crate) fn allocate(&self, len: usize, kind: Kind) -> Result<UniqueArc<Pages>> {
        let (bin, home) = self.home().unzip();
        let mut pages = Pages::new(kind.caching, home)?;
        let mut left = len >> PAGE_SHIFT;
        let mut limit = MAX_BLOCK_PAGES;
        // How many pages to allocate before the next check whether enough memory is available for
        // the rest. A small buffer starts without this check.
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
                    // The check comes next. Try larger blocks again after it.
                    if unasked == 0 {
                        limit = MAX_BLOCK_PAGES.min(limit * 2);
                    }
                }
                // The bin had a larger block. That has just been freed, and the page allocator can
                // split it: try again.
                Err(_)
                    if bin
                        .as_ref()
                        .is_some_and(|bin| bin.free_larger(nr_pages, kind.zone)) => {}
                Err(err) if nr_pages == 1 => return Err(err),
                Err(_) => {
                    // Try the next smaller power of two.
                    limit = nr_pages.next_power_of_two() / 2;
                    unasked = 0;
                }
            }
        }

        Ok(pages)
    }

    /// Takes a block from the bin and zeroes what is dirty, or allocates a zeroed block.
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
                        // If the page allocator has such a block, the allocation failed because
                        // the cgroup is at its limit. So reclaim memory of the cgroup.
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

    /// Prepares a new, zeroed block for mappings with this caching. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`] if the pool has no [`Cleaner`] to make memory write-combining with.
    /// - Those of [`Cleaner::make_write_combining`].
    pub(crate) fn prepare(&self, block: PageBlock, caching: Caching) -> Result<PageBlock> {
        match caching {
            Caching::WriteBack => Ok(block),
            Caching::WriteCombining => self.cleaner()?.make_write_combining(block),
        }
    }

    /// Zeroes pages of a block that a buffer has used. On an error the block must be freed.
    fn zero(&self, block: &mut PageBlock, pages: Range<usize>) -> Result {
        match block.caching() {
            Caching::WriteBack => block.zero(pages),
            Caching::WriteCombining => self.cleaner()?.zero(block, pages),
        }
    }

    fn cleaner(&self) -> Result<&Cleaner> {
        self.cleaner.as_deref().ok_or_else(eopnotsupp)
    }

    /// Returns the bin of the current task's cgroup, and a [`Home`] for one buffer. Returns `None`
    /// if the pool keeps nothing, or if there is not enough memory for a new bin.
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
        // Without a bin, the thread sleeps without a timeout. Wake it, so that from now on it
        // regularly looks for idle memory.
        self.shared.ring();
        Ok(home)
    }
}
