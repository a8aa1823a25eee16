// SPDX-License-Identifier: GPL-2.0

//! The blocks of a bin, sorted by kind, by size, and into clean and dirty ones.

use crate::kernel::mm::page::{
    Kind,
    PageBlock,
    PerKind,
    Stack,
    Zone, //
};
use kernel::{
    page::PAGE_SHIFT,
    sizes::SZ_4M, //
};

/// The size of the largest block that the pool allocates, in pages: 4 MiB. The page allocator has
/// no larger blocks on x86_64. An image of 1920 by 1080 pixels in YUV 4:2:2 fits into such a block.
pub(super) const MAX_BLOCK_PAGES: usize = SZ_4M >> PAGE_SHIFT;

/// The number of stacks: one for each power of two, and one for all odd sizes. An odd size is a
/// number of pages that is no power of two.
const STACKS: usize = MAX_BLOCK_PAGES.ilog2() as usize + 2;

/// How many blocks on the stack of odd sizes are searched for one that fits.
const MAX_ODD_SEARCH: usize = 16;

/// Whether all pages of a block have been zeroed since its last use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Clean,
    Dirty,
}

/// The blocks of a bin.
pub(super) struct Stock {
    shelves: PerKind<Shelf>,
    pub(super) pages: usize,
    /// The smallest value of `pages` since the last look for idle memory.
    pub(super) least: usize,
    /// How many pages are to be given back, because they have been idle.
    pub(super) excess: usize,
    /// How many of the pages are in dirty blocks, including the current one.
    pub(super) dirty: usize,
    /// The block that is being zeroed, and how many of its first pages have been zeroed.
    pub(super) current: Option<(PageBlock, usize)>,
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

/// Returns the index of the stack for blocks of this size.
fn stack_index(nr_pages: usize) -> usize {
    if nr_pages.is_power_of_two() {
        nr_pages.trailing_zeros() as usize
    } else {
        STACKS - 1
    }
}

impl Stock {
    pub(super) fn new() -> Self {
        Self {
            shelves: PerKind::new(Shelf::new),
            pages: 0,
            least: 0,
            excess: 0,
            dirty: 0,
            current: None,
        }
    }

    /// Adds and counts a block. It must be from the page allocator, and have at most
    /// [`MAX_BLOCK_PAGES`] pages.
    pub(super) fn add(&mut self, block: PageBlock, state: State) {
        self.pages += block.nr_pages();
        if state == State::Dirty {
            self.dirty += block.nr_pages();
        }
        self.push(block, state);
    }

    /// Takes a block of this size, preferably a clean one. Returns it, and how many of its first
    /// pages are clean.
    pub(super) fn take(&mut self, nr_pages: usize, kind: Kind) -> Option<(PageBlock, usize)> {
        if self.pages < nr_pages {
            return None;
        }
        if self.pages - self.dirty >= nr_pages {
            if let Some(block) = self.take_from(State::Clean, nr_pages, kind) {
                return Some((block, nr_pages));
            }
        }

        let fits = |block: &PageBlock| block.nr_pages() == nr_pages && block.kind() == Some(kind);
        if let Some((block, done)) = self.current.take_if(|(block, _)| fits(block)) {
            self.uncount(&block, State::Dirty);
            return Some((block, done));
        }

        Some((self.take_from(State::Dirty, nr_pages, kind)?, 0))
    }

    /// Takes a block of this size from the clean or from the dirty stacks. The current block is on
    /// none of them.
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

    /// Takes a block whose pages may be used for `zone`, from stacks whose index is at least
    /// `from`. Prefers dirty blocks to clean ones, and then large ones to small ones.
    pub(super) fn take_any(&mut self, zone: Zone, from: usize) -> Option<PageBlock> {
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

    /// Subtracts a block that has been taken from the counters.
    pub(super) fn uncount(&mut self, block: &PageBlock, state: State) {
        self.pages -= block.nr_pages();
        self.least = self.least.min(self.pages);
        match state {
            State::Clean => block.set_reclaimable(false),
            State::Dirty => self.dirty -= block.nr_pages(),
        }
    }

    /// Pushes a block on the stack where it belongs, without counting it.
    pub(super) fn push(&mut self, block: PageBlock, state: State) {
        let Some(kind) = block.kind() else { return };
        let stacks = self.shelves.get_mut(kind).stacks(state);

        // The kernel counts only clean blocks as reclaimable. A dirty block will soon be clean, or
        // in use again.
        if state == State::Clean {
            block.set_reclaimable(true);
        }
        if let Some(stack) = stacks.get_mut(stack_index(block.nr_pages())) {
            // This cannot fail: the stack is for blocks of this kind.
            let _ = stack.push(block);
        }
    }

    /// Pops one of the largest blocks whose pages may be used for `zone`, from stacks whose index
    /// is at least `from`. Does not update the counters.
    pub(super) fn pop_largest(
        &mut self,
        state: State,
        zone: Zone,
        from: usize,
    ) -> Option<PageBlock> {
        self.shelves.within(zone).find_map(|shelf| {
            let stacks = shelf.stacks(state);

            stacks.iter_mut().skip(from).rev().find_map(Stack::pop)
        })
    }
}

/// Takes a block of this size from the topmost [`MAX_ODD_SEARCH`] blocks of a stack of odd sizes.
fn take_odd(stack: &mut Stack, nr_pages: usize, kind: Kind) -> Option<PageBlock> {
    let mut others = Stack::new(kind);
    let mut found = None;

    for _ in 0..MAX_ODD_SEARCH {
        let Some(block) = stack.pop() else { break };
        if block.nr_pages() == nr_pages {
            found = Some(block);
            break;
        }
        // This cannot fail, nor can the push below: both stacks are for blocks of this kind.
        let _ = others.push(block);
    }
    while let Some(block) = others.pop() {
        let _ = stack.push(block);
    }
    found
}
