// SPDX-License-Identifier: GPL-2.0

//! The blocks of a bin, by kind, size, and whether they are clean.

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

/// The size of the largest block that is asked for. It is the largest that the page allocator has
/// on x86_64, and enough for an image of 1920 by 1080 pixels in YUV 4:2:2.
pub(super) const MAX_BLOCK_PAGES: usize = SZ_4M >> PAGE_SHIFT;

/// One stack for each power of two, and one for all other sizes.
const STACKS: usize = MAX_BLOCK_PAGES.ilog2() as usize + 2;

/// How many blocks of other sizes are looked at for one that fits.
const MAX_ODD_SEARCH: usize = 16;

/// Whether a block still holds what its last user has written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Clean,
    Dirty,
}

/// The blocks of a bin.
pub(super) struct Stock {
    shelves: PerKind<Shelf>,
    pub(super) pages: usize,
    /// The least that `pages` has been since the last look at what is idle.
    pub(super) least: usize,
    /// How many pages are to be given back, because they have been idle.
    pub(super) excess: usize,
    /// How many of the pages are in dirty blocks, the current one included.
    pub(super) dirty: usize,
    /// The block that is being zeroed, and how many of its pages have been zeroed.
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

/// The stack for blocks of this size.
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

    /// Adds a block that is from the page allocator, and no larger than the largest.
    pub(super) fn add(&mut self, block: PageBlock, state: State) {
        self.pages += block.nr_pages();
        if state == State::Dirty {
            self.dirty += block.nr_pages();
        }
        self.push(block, state);
    }

    /// Takes a block of this size, a clean one if there is one, and says how many of its pages are
    /// clean, from the first on.
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

    /// Counts a block that has been taken.
    pub(super) fn uncount(&mut self, block: &PageBlock, state: State) {
        self.pages -= block.nr_pages();
        self.least = self.least.min(self.pages);
        match state {
            State::Clean => block.set_reclaimable(false),
            State::Dirty => self.dirty -= block.nr_pages(),
        }
    }

    /// Puts a block where it belongs, without counting it.
    pub(super) fn push(&mut self, block: PageBlock, state: State) {
        let Some(kind) = block.kind() else { return };
        let stacks = self.shelves.get_mut(kind).stacks(state);

        // A dirty block is not counted: it will be clean in a moment, or in use again.
        if state == State::Clean {
            block.set_reclaimable(true);
        }
        if let Some(stack) = stacks.get_mut(stack_index(block.nr_pages())) {
            // The stack is for blocks of this kind, so it takes this one.
            let _ = stack.push(block);
        }
    }

    /// Takes a block of the largest there are from the stack of this index on whose pages may be taken
    /// for `zone`, without counting it.
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

/// Takes a block of this size from among the uppermost of a stack for other sizes.
fn take_odd(stack: &mut Stack, nr_pages: usize, kind: Kind) -> Option<PageBlock> {
    let mut others = Stack::new(kind);
    let mut found = None;

    for _ in 0..MAX_ODD_SEARCH {
        let Some(block) = stack.pop() else { break };
        if block.nr_pages() == nr_pages {
            found = Some(block);
            break;
        }
        // Both stacks are for blocks of this kind, so each takes it.
        let _ = others.push(block);
    }
    while let Some(block) = others.pop() {
        let _ = stack.push(block);
    }
    found
}
