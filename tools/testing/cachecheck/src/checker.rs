// SPDX-License-Identifier: GPL-2.0

//! Accesses and instructions as they happen, what the guest tells, and what is
//! wrong with that.

use crate::edu::{self, Edu};
use crate::findings::{Access, Counts, Findings, Kind, Place, Report, Who};
use crate::instruction::Instruction;
use crate::lines::{Fault, Lines};
use crate::translation::{Caching, Machine, Page, Register, Tlb};
use crate::{LINE, PAGE};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is assumed.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Where memory begins.
    pub base: u64,
    /// How much there is.
    pub size: u64,
    /// Whether any line may have been fetched at any time, and what a snooping device writes may
    /// stay in the caches. Otherwise a line is fetched by an access, and a device writes to memory.
    pub speculation: bool,
    /// Whether `edu` snoops.
    pub edu_snoops: bool,
}

/// What the guest tells by x0 at a [`Instruction::Call`]: see `cachecheck.h`.
const DMA: u64 = 0;
const DMA_END: u64 = 1;
const BUFFER: u64 = 2;

/// Of a [`DMA`], in x3.
const WRITES: u64 = 1;
const SNOOPS: u64 = 2;

/// The longest name of a buffer.
const NAME_LEN: u64 = 64;

/// A number that only one CPU adds to.
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    #[inline]
    fn add(&self, number: u64) {
        self.0.store(self.get() + number, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// As [`Counts`].
#[derive(Default)]
struct Counters {
    accesses: Counter,
    uncached: Counter,
    unmapped: Counter,
    maintenance: Counter,
    dma: Counter,
    snooping: Counter,
}

/// The caches of a machine with one CPU.
pub struct Checker {
    model: Model,
    tlb: Tlb,
    lines: Lines,
    /// Where the CPU stands in for a device, and how many bytes.
    window: (AtomicU64, AtomicU64),
    edu: Mutex<Edu>,
    /// By the numbers of their pages; the name of a buffer, and where in it.
    buffers: Mutex<BTreeMap<u64, (Arc<str>, u64)>>,
    reports: Mutex<HashMap<(Kind, Access, Access), Report>>,
    counters: Counters,
}

impl Checker {
    /// A machine whose caches are empty.
    pub fn new(model: Model) -> Self {
        Self {
            tlb: Tlb::new(),
            lines: Lines::new(model.base, model.size, model.speculation),
            window: Default::default(),
            edu: Mutex::default(),
            buffers: Mutex::default(),
            reports: Mutex::default(),
            counters: Counters::default(),
            model,
        }
    }

    /// The CPU loads or stores some bytes. Where there is no memory, this is the
    /// physical address.
    #[inline]
    pub fn access(
        &self,
        machine: &impl Machine,
        pc: u64,
        address: u64,
        size: u64,
        store: bool,
    ) -> Option<u64> {
        self.counters.accesses.add(1);
        let Some(page) = self.tlb.find(machine, address) else {
            self.counters.unmapped.add(1);
            return None;
        };
        let physical = page.physical + address % PAGE;
        let start = physical % LINE;
        let len = size.min(LINE - start);
        let number = match self.lines.number(physical) {
            Some(number) => number,
            None => return Some(physical),
        };
        if physical.wrapping_sub(self.window.0.load(Relaxed)) < self.window.1.load(Relaxed) {
            return None;
        }
        self.touch(number, mask(start, len), store, page.caching, pc);
        if len < size {
            self.access(machine, pc, address + len, size - len, store);
        }
        None
    }

    #[inline]
    fn touch(&self, number: usize, bytes: u64, store: bool, caching: Caching, pc: u64) {
        let fault = match caching {
            Caching::Cached => {
                let by = Access { pc, who: Who::Cpu };
                self.lines
                    .cached(number, bytes, store, by)
                    .map(|fault| (by, fault))
            }
            Caching::Uncached => {
                self.counters.uncached.add(1);
                let by = Access {
                    pc,
                    who: Who::Uncached,
                };
                self.lines
                    .uncached(number, bytes, store, by)
                    .map(|fault| (by, fault))
            }
        };
        if let Some((by, fault)) = fault {
            self.report(number, by, fault);
        }
    }

    /// The CPU stores to a device that QEMU calls so.
    pub fn store_to_device(&self, name: &str, pc: u64, physical: u64, value: u64, size: u64) {
        if name != edu::NAME {
            return;
        }
        if let Some(transfer) = lock(&self.edu).store(physical, value, size) {
            let who = if self.model.edu_snoops {
                Who::Snooping
            } else {
                Who::Device
            };
            self.dma(
                transfer.physical,
                transfer.len,
                transfer.writes,
                Access { pc, who },
            );
        }
    }

    /// The CPU is about to execute an instruction.
    pub fn execute(&self, machine: &impl Machine, pc: u64, instruction: Instruction) {
        let line = |register: u8| {
            let address = match register {
                31 => 0,
                register => machine.register(Register::X(register)),
            };
            let Page { physical, caching } = self.tlb.find(machine, address)?;
            Some((self.lines.number(physical + address % PAGE)?, caching))
        };
        match instruction {
            Instruction::Clean(register) => {
                self.counters.maintenance.add(1);
                if let Some((number, _)) = line(register) {
                    self.lines.clean(number);
                }
            }
            Instruction::CleanInvalidate(register) => {
                self.counters.maintenance.add(1);
                if let Some((number, _)) = line(register) {
                    self.lines.clean(number);
                    self.lines.invalidate(number);
                }
            }
            Instruction::Invalidate(register) => {
                self.counters.maintenance.add(1);
                if let Some((number, _)) = line(register) {
                    if let Some(fault) = self.lines.invalidate(number) {
                        self.report(number, Access { pc, who: Who::Cpu }, fault);
                    }
                }
            }
            Instruction::Zero(register) => {
                if let Some((number, caching)) = line(register) {
                    self.touch(number, u64::MAX, true, caching, pc);
                }
            }
            Instruction::Barrier => self.lines.barrier(),
            Instruction::Flush => self.tlb.flush(),
            Instruction::FlushUser => self.tlb.flush_user(),
            Instruction::Call => self.call(machine, pc),
        }
    }

    fn call(&self, machine: &impl Machine, pc: u64) {
        let [call, physical, len, flags, offset] =
            [0, 1, 2, 3, 4].map(|x| machine.register(Register::X(x)));
        match call {
            DMA => {
                let who = if flags & SNOOPS != 0 {
                    Who::Snooping
                } else {
                    Who::Device
                };
                self.dma(physical, len, flags & WRITES != 0, Access { pc, who });
                self.window.0.store(physical, Relaxed);
                self.window.1.store(len, Relaxed);
            }
            DMA_END => self.window.1.store(0, Relaxed),
            BUFFER => {
                let name: Arc<str> = self.string(machine, flags).into();
                let mut buffers = lock(&self.buffers);
                for page in 0..len.div_ceil(PAGE) {
                    let place = (name.clone(), offset + page * PAGE);
                    buffers.insert(physical / PAGE + page, place);
                }
            }
            // A later version of the guest's.
            _ => (),
        }
    }

    /// A string in the guest, up to a length.
    fn string(&self, machine: &impl Machine, address: u64) -> String {
        let byte = |address: u64| {
            let physical = self.tlb.find(machine, address)?.physical + address % PAGE;
            let word = machine.memory(physical & !7)?;
            Some(word.to_le_bytes()[(physical % 8) as usize])
        };
        let bytes: Vec<u8> = (0..NAME_LEN)
            .map_while(|index| byte(address + index).filter(|byte| *byte != 0))
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A device reads or writes memory.
    fn dma(&self, physical: u64, len: u64, writes: bool, by: Access) {
        let mut done = 0;
        while done < len {
            let at = physical + done;
            let part = (len - done).min(LINE - at % LINE);
            done += part;
            let Some(number) = self.lines.number(at) else {
                continue;
            };
            let bytes = mask(at % LINE, part);
            let fault = if by.who == Who::Snooping {
                self.counters.snooping.add(1);
                self.lines.cached(number, bytes, writes, by)
            } else {
                self.counters.dma.add(1);
                self.lines.uncached(number, bytes, writes, by)
            };
            if let Some(fault) = fault {
                self.report(number, by, fault);
            }
        }
    }

    #[cold]
    fn report(&self, number: usize, by: Access, fault: Fault) {
        let Fault { kind, after, bytes } = fault;
        let place = || {
            let physical = self.lines.physical(number);
            let buffer = lock(&self.buffers)
                .get(&(physical / PAGE))
                .map(|(name, offset)| (name.to_string(), offset + physical % PAGE));
            Place {
                physical,
                bytes,
                buffer,
            }
        };
        lock(&self.reports)
            .entry((kind, by, after))
            .or_insert_with(|| Report {
                kind,
                by,
                after,
                lines: 0,
                first: place(),
            })
            .lines += 1;
    }

    /// All that was found up to now.
    pub fn findings(&self) -> Findings {
        let mut reports: Vec<_> = lock(&self.reports).values().cloned().collect();
        reports.sort_by_key(|report| (report.kind, report.by, report.after));
        let counters = &self.counters;
        Findings {
            reports,
            counts: Counts {
                accesses: counters.accesses.get(),
                uncached: counters.uncached.get(),
                unmapped: counters.unmapped.get(),
                maintenance: counters.maintenance.get(),
                dma: counters.dma.get(),
                snooping: counters.snooping.get(),
            },
        }
    }
}

/// The bytes of a line from one on, each a bit.
#[inline]
fn mask(start: u64, len: u64) -> u64 {
    u64::MAX >> (LINE - len) << start
}

/// What a thread that has panicked left is as good as any: it is only counted.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translation::tests::{Fake, KERNEL};

    const BASE: u64 = 0x4000_0000;
    const PC: u64 = KERNEL + 0x8000_0000;

    struct Guest {
        fake: Fake,
        checker: Checker,
    }

    impl Guest {
        fn new() -> Self {
            let model = Model {
                base: BASE,
                size: 1 << 20,
                speculation: true,
                edu_snoops: false,
            };
            Self {
                fake: Fake::new(BASE),
                checker: Checker::new(model),
            }
        }

        fn store(&self, address: u64, size: u64) {
            assert_eq!(
                self.checker.access(&self.fake, PC, address, size, true),
                None
            );
        }

        fn load(&self, address: u64) {
            assert_eq!(self.checker.access(&self.fake, PC, address, 1, false), None);
        }

        fn call(&self, x: [u64; 5]) {
            self.fake.x.borrow_mut()[..5].copy_from_slice(&x);
            self.checker.execute(&self.fake, PC, Instruction::Call);
        }

        /// An instruction whose register has this address.
        fn execute(&self, instruction: fn(u8) -> Instruction, address: u64) {
            self.fake.x.borrow_mut()[9] = address;
            self.checker.execute(&self.fake, PC, instruction(9));
        }

        fn found(&self) -> Vec<(Kind, u64, u64)> {
            let reports = self.checker.findings().reports;
            reports
                .iter()
                .map(|report| (report.kind, report.lines, report.first.bytes))
                .collect()
        }
    }

    #[test]
    fn a_store_across_lines_makes_both_dirty() {
        let guest = Guest::new();
        guest.store(KERNEL + 0x7c, 8);
        guest.call([DMA, BASE, 4096, 0, 0]);
        assert_eq!(guest.found(), [(Kind::DirtyRead, 2, 0xf << 60)]);
    }

    #[test]
    fn maintenance_is_of_the_line_that_has_the_address() {
        let guest = Guest::new();
        guest.store(KERNEL + 0x40, 8);
        guest.execute(Instruction::Clean, KERNEL + 0x7f);
        guest.checker.execute(&guest.fake, PC, Instruction::Barrier);
        guest.call([DMA, BASE, 4096, WRITES, 0]);
        guest.call([DMA_END, 0, 0, 0, 0]);
        guest.execute(Instruction::CleanInvalidate, KERNEL + 0x40);
        guest.execute(Instruction::Invalidate, KERNEL + 0x80);
        guest.load(KERNEL + 0x40);
        guest.load(KERNEL + 0x80);
        assert_eq!(guest.found(), []);
        guest.load(KERNEL + 0xc0);
        assert_eq!(guest.found(), [(Kind::StaleRead, 1, 1)]);
    }

    #[test]
    fn zeroing_a_line_makes_it_dirty() {
        let guest = Guest::new();
        guest.execute(Instruction::Zero, KERNEL + 0x44);
        guest.load(Fake::UNCACHED + 0x41);
        assert_eq!(guest.found(), [(Kind::MixedAttributes, 1, 2)]);
    }

    #[test]
    fn the_cpu_stands_in_for_a_device_until_that_is_done() {
        let guest = Guest::new();
        guest.call([DMA, BASE, 64, WRITES, 0]);
        guest.store(KERNEL, 8);
        guest.call([DMA_END, 0, 0, 0, 0]);
        guest.call([DMA, BASE, 64, 0, 0]);
        assert_eq!(guest.found(), []);
        guest.call([DMA_END, 0, 0, 0, 0]);
        guest.store(KERNEL, 8);
        guest.call([DMA, BASE, 64, 0, 0]);
        assert_eq!(guest.found(), [(Kind::DirtyRead, 1, 0xff)]);
    }

    #[test]
    fn reports_name_the_buffer() {
        let guest = Guest::new();
        for (address, text) in [
            (BASE + 0x8000, *b"system 1"),
            (BASE + 0x8008, [b'7', 0, b'x', 0, 0, 0, 0, 0]),
        ] {
            guest
                .fake
                .memory
                .borrow_mut()
                .insert(address, u64::from_le_bytes(text));
        }
        guest.call([BUFFER, BASE + 0x3000, 0x2000, KERNEL + 0x8000, 0x6000]);
        guest.store(KERNEL + 0x4040, 8);
        guest.call([DMA, BASE + 0x3000, 0x2000, 0, 0]);
        let first = guest.checker.findings().reports[0].first.clone();
        assert_eq!(first.buffer, Some(("system 17".into(), 0x7040)));
    }

    #[test]
    fn edu_does_what_its_registers_say() {
        let guest = Guest::new();
        guest.store(KERNEL + 0x1000, 8);
        for (offset, value) in [(0x80, BASE + 0x1000), (0x90, 8), (0x98, 1)] {
            guest
                .checker
                .store_to_device("other", PC, 0x1000_0000 + offset, value, 8);
        }
        assert_eq!(guest.found(), []);
        for (offset, value) in [(0x80, BASE + 0x1000), (0x90, 8), (0x98, 1)] {
            guest
                .checker
                .store_to_device(edu::NAME, PC, 0x1000_0000 + offset, value, 8);
        }
        assert_eq!(guest.found(), [(Kind::DirtyRead, 1, 0xff)]);
    }

    #[test]
    fn what_is_no_memory_is_told() {
        let guest = Guest::new();
        let outside = KERNEL + (1 << 20) + 4;
        let physical = guest.checker.access(&guest.fake, PC, outside, 4, true);
        assert_eq!(physical, Some(BASE + (1 << 20) + 4));
        assert_eq!(guest.checker.access(&guest.fake, PC, 0x1000, 4, true), None);
        let counts = guest.checker.findings().counts;
        assert_eq!((counts.accesses, counts.unmapped), (2, 1));
    }
}
