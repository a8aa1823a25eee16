// SPDX-License-Identifier: GPL-2.0

//! Memory for buffers: pools of blocks that earlier buffers have left, and the page allocator.
//!
//! To zero memory costs more than all else about a buffer. So what a buffer leaves is kept, a thread
//! zeroes it when there is nothing better to do, and the next buffer finds it ready. A block is
//! zeroed once between two buffers, by the thread or by whoever needs it before.
//!
//! # Whose memory it is
//!
//! A page stays charged to the memory cgroup that it was allocated in, and a module cannot move the
//! charge. So each cgroup has a [`Bin`] of its own, which serves its tasks only. It is emptied when
//! the cgroup is short of memory, and when the machine is. It keeps no reference to the cgroup: when
//! that goes, what it has been charged for is charged to the parent, and given back as idle.
//!
//! # Bounds
//!
//! All bins together hold no more than the limit, which is a part of the machine's memory, and of
//! memory below 4 GiB no more than the same part of that, where it is asked for by itself. What a
//! bin has not needed for [`IDLE`] is given back, and so is a bin that holds nothing and serves no
//! buffer.

use crate::kernel::{
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
            Blocks,
            Caching,
            Effort,
            Extent,
            Home,
            Keeper,
            Kind,
            PageBlock,
            Pages,
            PerKind,
            Stack,
            Zone, //
        },
        shrinker::{
            Member,
            Reclaim,
            Shrinker, //
        }, //
    },
    module::Forever,
    signal::fatal_signal_pending, //
};
use core::ops::Range;
use kernel::{
    new_condvar,
    new_spinlock,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sizes::{
        SZ_16K,
        SZ_4M, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        CondVar,
        SpinLock,
        UniqueArc, //
    },
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

/// The largest block that is asked for: the largest that the page allocator has on x86_64, and
/// enough for an image of 1920 by 1080 pixels in YUV 4:2:2.
const MAX_BLOCK_PAGES: usize = SZ_4M >> PAGE_SHIFT;

/// One stack for each power of two, and one for all other sizes.
const STACKS: usize = MAX_BLOCK_PAGES.ilog2() as usize + 2;

/// How many blocks of other sizes are looked at for one that fits.
const MAX_ODD_SEARCH: usize = 16;

/// How much is zeroed at a time with a spinlock held, and how often in a row. A slow core takes 10
/// microseconds for 16 KiB.
const ZERO_PAGES: usize = if PAGE_SIZE < SZ_16K {
    SZ_16K >> PAGE_SHIFT
} else {
    1
};
const ZERO_ROUNDS: usize = 4;

/// How many blocks a spinlock is held for when a buffer leaves them.
const BATCH: usize = 32;

/// After how long a bin gives back what it has not needed.
const IDLE: Delta = Delta::from_secs(10);

/// How long the thread waits before it begins. Who frees one buffer after the other should not be
/// interrupted for each, and who wants the next at once takes what the caches still hold.
const GATHER: Delta = Delta::from_millis(4);

/// Where memory for buffers comes from.
#[pin_data]
pub(crate) struct Pool {
    /// Whether memory is charged to the cgroup of the task that allocates it.
    account: bool,
    /// What cleans the caches for memory that is made write-combining; none if that cannot be done.
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
        let part = |pages| pages / 100 * usize::from(percent.min(100));
        // CAST: To a type of the same size.
        let low = Extent::dma32().map_or(0, |extent| extent.size as usize >> PAGE_SHIFT);
        let shared = Arc::pin_init(
            pin_init!(Shared {
                limit: Atomic::new(0),
                wanted_limit: part(page::total()),
                low_limit: part(low),
                pages: PerKind::new(|_| Atomic::new(0)),
                work <- new_spinlock!(false),
                wakeup <- new_condvar!(),
            }),
            GFP_KERNEL,
        )?;
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
    /// - [`ENOMEM`] if there is not enough memory, at once if that is plain beforehand.
    /// - [`EINTR`] if the task is about to be killed.
    /// - Those of [`Pool::prepare`].
    pub(crate) fn allocate(&self, len: usize, kind: Kind) -> Result<UniqueArc<Pages>> {
        let (bin, home) = self.home().unzip();
        let mut pages = Pages::new(kind.caching, home)?;
        let mut left = len >> PAGE_SHIFT;
        let mut limit = MAX_BLOCK_PAGES;
        // How many pages to take before asking whether there are enough for the rest.
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
                    // There may be larger ones again.
                    if unasked == 0 {
                        limit = MAX_BLOCK_PAGES.min(limit * 2);
                    }
                }
                // The page allocator can split what is kept in larger blocks.
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
                        // If there is such a block, the cgroup is what has no room for it.
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

    /// Prepares a new, zeroed block for being mapped like this. May sleep.
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

    /// Zeroes pages of a block that somebody has used. If that fails, the block is only good for being
    /// freed.
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
        let bin = Arc::pin_init(
            pin_init!(Bin {
                id,
                buffers: Atomic::new(0),
                shared: self.shared.clone(),
                stock <- new_spinlock!(Stock::new()),
            }),
            GFP_KERNEL,
        )?;
        let member = self.shrinker.add(&memcg, bin.clone())?;
        let node = RBTreeNode::new(id, member, GFP_KERNEL)?;

        let mut bins = self.bins.lock();
        // Somebody else may have been quicker.
        if let Some(member) = bins.get(&id) {
            let home = Bin::home(member);

            drop(bins);
            return Ok(home);
        }
        let home = Bin::home(&bin);
        bins.insert(node);
        Ok(home)
    }

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
                // CAST: It is a few seconds.
                self.shared.wait(match self.find(Bin::will_be_idle) {
                    Some(_) => msecs_to_jiffies(IDLE.as_millis() as Msecs),
                    None => Jiffies::MAX,
                });
                fsleep(GATHER);
            }
        }
    }
}

/// What all bins have in common.
#[pin_data]
struct Shared {
    /// How many pages there may be in all bins, now and once the pool has been started.
    limit: Atomic<usize>,
    wanted_limit: usize,
    /// How many of these there may be in blocks for [`Zone::Dma32`].
    low_limit: usize,
    /// How many pages there are of each kind.
    pages: PerKind<Atomic<usize>>,
    /// Whether something has become dirty since the thread looked.
    #[pin]
    work: SpinLock<bool>,
    #[pin]
    wakeup: CondVar,
}

impl Shared {
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
    fn count(&self, block: &PageBlock) -> bool {
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
    fn uncount(&self, block: &PageBlock) {
        if let Some(kind) = block.kind() {
            self.pages.get(kind).fetch_sub(block.nr_pages(), Relaxed);
        }
    }

    /// Wakes the thread, if that has not been done since it looked.
    fn ring(&self) {
        let mut work = self.work.lock();
        if !*work {
            *work = true;
            self.wakeup.notify_one();
        }
    }

    /// Waits for something to do, but no longer than that. May sleep.
    fn wait(&self, timeout: Jiffies) {
        let mut work = self.work.lock();
        if !*work {
            // However it ends, there is a look at what there is to do.
            let _ = self.wakeup.wait_interruptible_timeout(&mut work, timeout);
        }
        *work = false;
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
    /// Lets one more buffer leave its blocks here.
    fn home(bin: &Arc<Self>) -> (Arc<Self>, Home) {
        bin.buffers.add(1, Relaxed);
        (bin.clone(), Home::new(bin.clone()))
    }

    /// Whether nobody would miss it. Buffers come to it with the lock of all bins held.
    fn is_unused(&self) -> bool {
        self.buffers.load(Relaxed) == 0 && self.reclaimable() == 0
    }

    /// Whether there will be something to give back: what is kept, or the bin itself.
    fn will_be_idle(&self) -> bool {
        self.buffers.load(Relaxed) == 0 || self.reclaimable() > 0
    }

    /// Takes a block of this size, and says how many of its pages are clean, from the first on.
    fn take(&self, nr_pages: usize, kind: Kind) -> Option<(PageBlock, usize)> {
        let taken = self.stock.lock().take(nr_pages, kind)?;

        self.shared.uncount(&taken.0);
        Some(taken)
    }

    fn is_dirty(&self) -> bool {
        self.stock.lock().dirty_blocks > 0
    }

    /// Zeroes the next pages of a dirty block. Others find the block all the while, as whoever does
    /// this may not get to run for long.
    fn zero_some(&self, zero: impl FnOnce(&mut PageBlock, Range<usize>) -> Result) {
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
                stock.dirty_blocks -= 1;
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
    fn look_at_idle(&self) {
        let mut stock = self.stock.lock();

        stock.excess = stock.least;
        stock.least = stock.pages - stock.excess;
    }

    fn has_excess(&self) -> bool {
        self.stock.lock().excess > 0
    }

    fn give_back_excess(&self) {
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
        if blocks.is_empty() {
            return;
        }

        while !blocks.is_empty() {
            let mut stock = self.stock.lock();

            for _ in 0..BATCH {
                let Some(block) = blocks.pop() else { break };
                stock.add(block, State::Dirty);
            }
        }
        self.shared.ring();
    }

    fn left(&self) {
        if self.buffers.fetch_sub(1, Relaxed) == 1 {
            // The bin may go soon.
            self.shared.ring();
        }
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
    fn free_larger(&self, nr_pages: usize, zone: Zone) -> bool {
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

/// Whether a block still holds what its last user has written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Clean,
    Dirty,
}

/// The blocks of a bin.
struct Stock {
    shelves: PerKind<Shelf>,
    pages: usize,
    /// The least that `pages` has been since the last look at what is idle.
    least: usize,
    /// How many pages are to be given back, as they have been idle.
    excess: usize,
    /// How many blocks are dirty, the current one included.
    dirty_blocks: usize,
    /// The block that is being zeroed, and how many of its pages have been.
    current: Option<(PageBlock, usize)>,
}

/// Blocks of the same kind.
struct Shelf {
    clean: [Stack; STACKS],
    dirty: [Stack; STACKS],
}

impl Shelf {
    fn new(kind: Kind) -> Self {
        Self {
            clean: core::array::from_fn(|_| Stack::new(kind)),
            dirty: core::array::from_fn(|_| Stack::new(kind)),
        }
    }

    fn stacks(&mut self, state: State) -> &mut [Stack; STACKS] {
        match state {
            State::Clean => &mut self.clean,
            State::Dirty => &mut self.dirty,
        }
    }
}

/// The stack for blocks of this size.
fn stack_index(nr_pages: usize) -> usize {
    if nr_pages.is_power_of_two() {
        nr_pages.trailing_zeros() as usize
    } else {
        STACKS - 1
    }
}

impl Stock {
    fn new() -> Self {
        Self {
            shelves: PerKind::new(Shelf::new),
            pages: 0,
            least: 0,
            excess: 0,
            dirty_blocks: 0,
            current: None,
        }
    }

    /// Adds a block that is from the page allocator, and no larger than the largest.
    fn add(&mut self, block: PageBlock, state: State) {
        self.pages += block.nr_pages();
        self.dirty_blocks += usize::from(state == State::Dirty);
        self.push(block, state);
    }

    /// Takes a block of this size, a clean one if there is one, and says how many of its pages are
    /// clean, from the first on.
    fn take(&mut self, nr_pages: usize, kind: Kind) -> Option<(PageBlock, usize)> {
        if self.pages < nr_pages {
            return None;
        }
        if let Some(block) = self.take_from(State::Clean, nr_pages, kind) {
            return Some((block, nr_pages));
        }

        let fits = |block: &PageBlock| block.nr_pages() == nr_pages && block.kind() == Some(kind);
        if let Some((block, done)) = self.current.take_if(|(block, _)| fits(block)) {
            self.uncount(&block, State::Dirty);
            return Some((block, done));
        }

        Some((self.take_from(State::Dirty, nr_pages, kind)?, 0))
    }

    /// Takes a block of this size from those that are all clean, or all dirty.
    fn take_from(&mut self, state: State, nr_pages: usize, kind: Kind) -> Option<PageBlock> {
        let stacks = self.shelves.get_mut(kind).stacks(state);
        let stack = stacks.get_mut(stack_index(nr_pages))?;
        let block = if nr_pages.is_power_of_two() {
            stack.pop()
        } else {
            take_odd(stack, nr_pages, kind)
        }?;

        self.uncount(&block, state);
        Some(block)
    }

    /// Takes a block from the stack of this index on whose pages may be taken for `zone`, of the
    /// largest first, a dirty one if there is one.
    fn take_any(&mut self, zone: Zone, from: usize) -> Option<PageBlock> {
        let fits = |(block, _): &mut (PageBlock, _)| {
            stack_index(block.nr_pages()) >= from
                && block.kind().is_some_and(|kind| kind.is_within(zone))
        };
        let (block, state) = self
            .pop_largest(State::Dirty, zone, from)
            .or_else(|| self.current.take_if(fits).map(|(block, _)| block))
            .map(|block| (block, State::Dirty))
            .or_else(|| Some((self.pop_largest(State::Clean, zone, from)?, State::Clean)))?;

        self.uncount(&block, state);
        Some(block)
    }

    /// Counts a block that has been taken.
    fn uncount(&mut self, block: &PageBlock, state: State) {
        self.pages -= block.nr_pages();
        self.least = self.least.min(self.pages);
        match state {
            State::Clean => block.set_reclaimable(false),
            State::Dirty => self.dirty_blocks -= 1,
        }
    }

    /// Puts a block where it belongs, without counting it.
    fn push(&mut self, block: PageBlock, state: State) {
        let Some(kind) = block.kind() else { return };
        let stacks = self.shelves.get_mut(kind).stacks(state);

        // What is dirty will be clean in a moment, or in use again.
        if state == State::Clean {
            block.set_reclaimable(true);
        }
        if let Some(stack) = stacks.get_mut(stack_index(block.nr_pages())) {
            // It is one that the stack takes.
            let _ = stack.push(block);
        }
    }

    /// Takes a block of the largest there are from the stack of this index on whose pages may be taken
    /// for `zone`, without counting it.
    fn pop_largest(&mut self, state: State, zone: Zone, from: usize) -> Option<PageBlock> {
        self.shelves.within(zone).find_map(|shelf| {
            let stacks = shelf.stacks(state);

            stacks.iter_mut().skip(from).rev().find_map(Stack::pop)
        })
    }
}

/// Takes a block of this size from among the uppermost of a stack for any.
fn take_odd(stack: &mut Stack, nr_pages: usize, kind: Kind) -> Option<PageBlock> {
    let mut others = Stack::new(kind);
    let mut found = None;

    for _ in 0..MAX_ODD_SEARCH {
        let Some(block) = stack.pop() else { break };
        if block.nr_pages() == nr_pages {
            found = Some(block);
            break;
        }
        // They have come from such a stack, so this one takes them, and that one takes them back.
        let _ = others.push(block);
    }
    while let Some(block) = others.pop() {
        let _ = stack.push(block);
    }
    found
}
