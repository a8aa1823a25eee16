// SPDX-License-Identifier: GPL-2.0

//! From virtual addresses to memory, and how it is mapped: the page tables of the
//! guest, read as the CPU reads them.

use crate::PAGE;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A register of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// A general one, 0 to 30.
    X(u8),
    /// The page table of user space.
    Ttbr0,
    /// The page table of the kernel.
    Ttbr1,
    /// How large the two are.
    Tcr,
    /// What the types of memory in page tables stand for.
    Mair,
}

/// What the checker asks of the machine, as it is at this moment.
pub trait Machine {
    /// The value of a register.
    fn register(&self, register: Register) -> u64;

    /// The eight bytes of memory at a physical address, or nothing where there is no
    /// memory. The address is aligned.
    fn memory(&self, physical: u64) -> Option<u64>;
}

/// How a page is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    /// By the caches.
    Cached,
    /// Beside the caches.
    Uncached,
}

/// Where a page is, and how it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) physical: u64,
    pub(crate) caching: Caching,
}

const ENTRIES: u64 = 4096;

/// The bits of a tag that number a page; bit 43 is set for the kernel's.
const NUMBER_BITS: u32 = 44;

/// In how many generations a tag repeats.
const GENERATIONS: u64 = 1 << (64 - NUMBER_BITS);

/// Bits of [`Entry::page`].
const UNCACHED: u64 = 1;

/// An entry of the [`Tlb`]: the number of a page, with the generation that it belongs to.
struct Entry {
    tag: AtomicU64,
    page: AtomicU64,
}

/// Translations that are still good.
pub(crate) struct Tlb {
    entries: Vec<Entry>,
    /// Counted from 1, so that an empty entry belongs to none: of user space, of the kernel.
    generations: [AtomicU64; 2],
}

impl Tlb {
    pub(crate) fn new() -> Self {
        let entry = |_| Entry {
            tag: AtomicU64::new(0),
            page: AtomicU64::new(0),
        };
        Self {
            entries: (0..ENTRIES).map(entry).collect(),
            generations: [AtomicU64::new(1), AtomicU64::new(1)],
        }
    }

    /// The page that has an address.
    pub(crate) fn find(&self, machine: &impl Machine, address: u64) -> Option<Page> {
        // The upper byte may be anything.
        let number = address << 8 >> 8 >> PAGE.trailing_zeros();
        let kernel = number >> (NUMBER_BITS - 1);
        let generation = self.generations[kernel as usize].load(Relaxed);
        let tag = number | generation << NUMBER_BITS;
        let entry = &self.entries[(number % ENTRIES) as usize];
        if entry.tag.load(Relaxed) != tag {
            let page = walk(machine, address)?;
            let bits = match page.caching {
                Caching::Cached => 0,
                Caching::Uncached => UNCACHED,
            };
            entry.page.store(page.physical | bits, Relaxed);
            entry.tag.store(tag, Relaxed);
            return Some(page);
        }
        let page = entry.page.load(Relaxed);
        Some(Page {
            physical: page & !(PAGE - 1),
            caching: match page & UNCACHED {
                0 => Caching::Cached,
                _ => Caching::Uncached,
            },
        })
    }

    /// Forgets all translations.
    pub(crate) fn flush(&self) {
        self.flush_one(0);
        self.flush_one(1);
    }

    /// Forgets those of user space.
    pub(crate) fn flush_user(&self) {
        self.flush_one(0);
    }

    fn flush_one(&self, which: usize) {
        let generation = self.generations[which].load(Relaxed) + 1;
        if generation < GENERATIONS {
            self.generations[which].store(generation, Relaxed);
            return;
        }
        for entry in &self.entries {
            entry.tag.store(0, Relaxed);
        }
        self.generations[which].store(1, Relaxed);
    }
}

/// The bits of a table or descriptor that are an address.
const ADDRESS: u64 = 0xffff_ffff_f000;

/// Walks the page tables, of pages of 4 KiB and addresses of up to 48 bits.
fn walk(machine: &impl Machine, address: u64) -> Option<Page> {
    let user = address >> 55 & 1 == 0;
    let tcr = machine.register(Register::Tcr);
    let (table, unused) = match user {
        true => (Register::Ttbr0, tcr & 63),
        false => (Register::Ttbr1, tcr >> 16 & 63),
    };
    let bits = 64 - unused as u32;
    let mut table = machine.register(table) & ADDRESS;
    // Each level takes nine bits, the first one what is left.
    let mut shift = 12 + (bits - 13) / 9 * 9;
    let mut index_bits = bits - shift;
    loop {
        let index = address >> shift & ((1 << index_bits) - 1);
        let descriptor = machine.memory(table + index * 8)?;
        let is_table = descriptor & 2 != 0;
        if descriptor & 1 == 0 || shift == 12 && !is_table {
            return None;
        }
        if shift == 12 || !is_table {
            let size = 1 << shift;
            let physical = descriptor & ADDRESS & !(size - 1) | address & (size - 1);
            let kind = machine.register(Register::Mair) >> ((descriptor >> 2 & 7) * 8) & 0xff;
            return Some(Page {
                physical: physical & !(PAGE - 1),
                caching: match kind {
                    // Normal memory that is not cached, and devices.
                    0x44 | 0x00..=0x0f => Caching::Uncached,
                    _ => Caching::Cached,
                },
            });
        }
        table = descriptor & ADDRESS;
        shift -= 9;
        index_bits = 9;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;

    /// The kernel's addresses start here.
    pub(crate) const KERNEL: u64 = 0xffff << 48;

    const TABLE: u64 = 0x8000_0000;

    /// A machine whose kernel has mapped a block of 1 GiB as cached, and at
    /// the next GiB the same block as uncached.
    pub(crate) struct Fake {
        pub(crate) x: RefCell<[u64; 31]>,
        pub(crate) memory: RefCell<HashMap<u64, u64>>,
        user: Cell<u64>,
    }

    impl Fake {
        pub(crate) const UNCACHED: u64 = KERNEL + (1 << 30);

        pub(crate) fn new(base: u64) -> Self {
            let memory = HashMap::from([
                (TABLE, (TABLE + 0x1000) | 3),
                (TABLE + 0x1000, base | 1),
                (TABLE + 0x1008, base | 1 << 2 | 1),
            ]);
            Self {
                x: [0; 31].into(),
                memory: memory.into(),
                user: 0x9000_0000.into(),
            }
        }
    }

    impl Machine for Fake {
        fn register(&self, register: Register) -> u64 {
            match register {
                Register::X(number) => self.x.borrow()[usize::from(number)],
                Register::Ttbr0 => self.user.get(),
                Register::Ttbr1 => TABLE | 1,
                Register::Tcr => 16 | 16 << 16,
                Register::Mair => 0x44ff,
            }
        }

        fn memory(&self, physical: u64) -> Option<u64> {
            self.memory.borrow().get(&physical).copied()
        }
    }

    #[test]
    fn blocks_and_their_attributes_are_found() {
        let fake = Fake::new(0x4000_0000);
        let tlb = Tlb::new();
        let find = |address| tlb.find(&fake, address);
        for _ in 0..2 {
            let page = |caching| {
                let physical = 0x4123_4000;
                Some(Page { physical, caching })
            };
            assert_eq!(find(KERNEL + 0x123_4567), page(Caching::Cached));
            assert_eq!(find(Fake::UNCACHED + 0x123_4567), page(Caching::Uncached));
        }
        assert_eq!(find(KERNEL + (2 << 30)), None);
        assert_eq!(find(0x1000), None);
    }

    /// A page of user space with three levels above it, which another process has elsewhere.
    #[test]
    fn translations_are_good_until_they_are_flushed() {
        let fake = Fake::new(0x4000_0000);
        let tlb = Tlb::new();
        let map = |table: u64, page: u64| {
            let levels =
                [0, 0x1000, 0x2000].map(|level| (table + level, (table + level + 0x1000) | 3));
            fake.memory.borrow_mut().extend(levels);
            fake.memory.borrow_mut().insert(table + 0x3008, page | 3);
        };
        map(0x9000_0000, 0x4000_5000);
        map(0xa000_0000, 0x4000_6000);
        let find = || tlb.find(&fake, 0x1234).map(|page| page.physical);
        assert_eq!(find(), Some(0x4000_5000));
        fake.user.set(0xa000_0000);
        assert_eq!(find(), Some(0x4000_5000));
        tlb.flush_user();
        assert_eq!(find(), Some(0x4000_6000));
        fake.memory.borrow_mut().insert(0xa000_3008, 0);
        assert_eq!(find(), Some(0x4000_6000));
        tlb.flush();
        assert_eq!(find(), None);
        // The generation repeats, the translation does not.
        map(0xa000_0000, 0x4000_7000);
        assert_eq!(find(), Some(0x4000_7000));
        fake.memory.borrow_mut().insert(0xa000_3008, 0);
        for _ in 1..GENERATIONS {
            tlb.flush_user();
        }
        assert_eq!(find(), None);
    }
}
