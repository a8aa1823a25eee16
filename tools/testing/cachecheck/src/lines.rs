// SPDX-License-Identifier: GPL-2.0

//! What the caches may hold of each line of memory.
//!
//! Nothing is ever evicted for certain, and nothing is ever held for certain: a line
//! that is dirty may be written back at any moment, and one that is not may have been
//! fetched at any moment. What was wrong once is taken for mended, so that it is told
//! once for each line.

use crate::LINE;
use crate::findings::{Access, Kind, Who};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A line. Where there is one CPU, nobody else changes it in the meantime.
#[derive(Default)]
struct Line {
    /// The bytes that are newer in the caches than in memory.
    dirty: AtomicU64,
    /// The bytes that are newer in memory than in the caches, if they are there.
    stale: AtomicU64,
    /// The last access that made bytes dirty.
    writer: AtomicU64,
    /// The last access that made bytes stale.
    changer: AtomicU64,
}

/// What is wrong with an access to a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// What comes too late for it, or is undone by it.
    pub(crate) after: Access,
    pub(crate) bytes: u64,
}

/// All lines of memory.
pub(crate) struct Lines {
    base: u64,
    lines: Vec<Line>,
    /// Whether a line has been fetched since it was last invalidated. Without it, any
    /// line may have been, by speculation.
    fetched: Option<Vec<AtomicBool>>,
    /// The bytes of lines whose cleaning may not have ended yet.
    unfinished: Mutex<HashMap<usize, u64>>,
}

impl Lines {
    /// Those of the memory at a physical address, all of them clean.
    pub(crate) fn new(base: u64, size: u64, speculation: bool) -> Self {
        let count = (size / LINE) as usize;
        let none = || (0..count).map(|_| AtomicBool::new(false)).collect();
        Self {
            base,
            lines: (0..count).map(|_| Line::default()).collect(),
            fetched: (!speculation).then(none),
            unfinished: Mutex::default(),
        }
    }

    /// The number of the line at a physical address, if that is memory.
    #[inline]
    pub(crate) fn number(&self, physical: u64) -> Option<usize> {
        let number = usize::try_from(physical.checked_sub(self.base)? / LINE).ok()?;
        (number < self.lines.len()).then_some(number)
    }

    /// The physical address of a line.
    pub(crate) fn physical(&self, number: usize) -> u64 {
        self.base + number as u64 * LINE
    }

    /// An access by the caches.
    #[inline]
    pub(crate) fn cached(
        &self,
        number: usize,
        bytes: u64,
        store: bool,
        by: Access,
    ) -> Option<Fault> {
        let line = &self.lines[number];
        if let Some(fetched) = &self.fetched {
            fetched[number].store(true, Relaxed);
        }
        let stale = line.stale.load(Relaxed);
        if store {
            if stale != 0 {
                line.stale.store(stale & !bytes, Relaxed);
            }
            let dirty = line.dirty.load(Relaxed);
            if by.who == Who::Snooping && self.fetched.is_some() {
                // It goes to memory.
                line.dirty.store(dirty & !bytes, Relaxed);
            } else {
                line.dirty.store(dirty | bytes, Relaxed);
                line.writer.store(by.pack(), Relaxed);
            }
            return None;
        }
        if stale & bytes == 0 {
            return None;
        }
        let after = Access::unpack(line.changer.load(Relaxed));
        let kind = match after.who {
            Who::Uncached => Kind::MixedAttributes,
            _ => Kind::StaleRead,
        };
        line.stale.store(0, Relaxed);
        let bytes = stale & bytes;
        Some(Fault { kind, after, bytes })
    }

    /// An access beside the caches.
    pub(crate) fn uncached(
        &self,
        number: usize,
        bytes: u64,
        store: bool,
        by: Access,
    ) -> Option<Fault> {
        let line = &self.lines[number];
        let dirty = line.dirty.load(Relaxed);
        let unfinished = self.unfinished().get(&number).copied().unwrap_or(0);
        // To write back a line may undo what is written beside it.
        let concerned = if store { u64::MAX } else { bytes };
        if store && self.is_fetched(number) {
            let stale = line.stale.load(Relaxed);
            line.stale.store(stale | bytes, Relaxed);
            line.changer.store(by.pack(), Relaxed);
        }
        let (kind, bytes) = match (dirty & concerned, unfinished & concerned) {
            (0, 0) => return None,
            (0, bytes) => (Kind::UnfinishedClean, bytes),
            (bytes, _) if by.who == Who::Uncached => (Kind::MixedAttributes, bytes),
            (bytes, _) if store => (Kind::LostWrite, bytes),
            (bytes, _) => (Kind::DirtyRead, bytes),
        };
        line.dirty.store(0, Relaxed);
        self.unfinished().remove(&number);
        let after = Access::unpack(line.writer.load(Relaxed));
        Some(Fault { kind, after, bytes })
    }

    /// Writes a line back.
    pub(crate) fn clean(&self, number: usize) {
        let dirty = self.lines[number].dirty.swap(0, Relaxed);
        if dirty != 0 {
            *self.unfinished().entry(number).or_insert(0) |= dirty;
        }
    }

    /// Drops a line. What is dirty of it is lost, or not.
    pub(crate) fn invalidate(&self, number: usize) -> Option<Fault> {
        let line = &self.lines[number];
        line.stale.store(0, Relaxed);
        if let Some(fetched) = &self.fetched {
            fetched[number].store(false, Relaxed);
        }
        let bytes = line.dirty.swap(0, Relaxed);
        let after = Access::unpack(line.writer.load(Relaxed));
        (bytes != 0).then_some(Fault {
            kind: Kind::LostWrite,
            after,
            bytes,
        })
    }

    /// Waits for what has been begun.
    pub(crate) fn barrier(&self) {
        self.unfinished().clear();
    }

    fn is_fetched(&self, number: usize) -> bool {
        let fetched = self.fetched.as_ref();
        fetched.is_none_or(|fetched| fetched[number].load(Relaxed))
    }

    fn unfinished(&self) -> MutexGuard<'_, HashMap<usize, u64>> {
        self.unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x4000_0000;

    fn access(who: Who) -> Access {
        Access { pc: 0x1000, who }
    }

    /// Lines of which only the first is used, and all bytes of it.
    struct One(Lines);

    impl One {
        fn new() -> Self {
            Self(Lines::new(BASE, 4096, true))
        }

        fn without_speculation() -> Self {
            Self(Lines::new(BASE, 4096, false))
        }

        fn does(&self, who: Who, store: bool, bytes: u64) -> Option<Kind> {
            let fault = match who {
                Who::Cpu | Who::Snooping => self.0.cached(0, bytes, store, access(who)),
                Who::Uncached | Who::Device => self.0.uncached(0, bytes, store, access(who)),
            };
            fault.map(|fault| fault.kind)
        }

        fn reads(&self, who: Who) -> Option<Kind> {
            self.does(who, false, u64::MAX)
        }

        /// Writes, which must not be wrong.
        fn written(self, who: Who) -> Self {
            assert_eq!(self.writes(who), None);
            self
        }

        fn writes(&self, who: Who) -> Option<Kind> {
            self.does(who, true, u64::MAX)
        }

        fn cleaned(self) -> Self {
            self.0.clean(0);
            self.0.barrier();
            self
        }

        fn invalidated(self) -> Self {
            assert_eq!(self.0.invalidate(0), None);
            self
        }
    }

    #[test]
    fn a_device_reads_what_was_cleaned() {
        assert_eq!(
            One::new().written(Who::Cpu).reads(Who::Device),
            Some(Kind::DirtyRead)
        );
        assert_eq!(
            One::new().written(Who::Cpu).cleaned().reads(Who::Device),
            None
        );
        assert_eq!(One::new().written(Who::Cpu).reads(Who::Snooping), None);
    }

    #[test]
    fn a_device_may_write_what_was_cleaned() {
        assert_eq!(
            One::new().written(Who::Cpu).writes(Who::Device),
            Some(Kind::LostWrite)
        );
        assert_eq!(
            One::new().written(Who::Cpu).cleaned().writes(Who::Device),
            None
        );
        assert_eq!(One::new().written(Who::Cpu).writes(Who::Snooping), None);
    }

    #[test]
    fn the_cpu_reads_what_was_invalidated() {
        assert_eq!(
            One::new().written(Who::Device).reads(Who::Cpu),
            Some(Kind::StaleRead)
        );
        assert_eq!(
            One::new().written(Who::Device).reads(Who::Snooping),
            Some(Kind::StaleRead)
        );
        assert_eq!(
            One::new()
                .written(Who::Device)
                .invalidated()
                .reads(Who::Cpu),
            None
        );
        assert_eq!(
            One::new()
                .written(Who::Device)
                .written(Who::Cpu)
                .reads(Who::Cpu),
            None
        );
    }

    #[test]
    fn what_is_invalidated_must_be_clean() {
        for who in [Who::Cpu, Who::Snooping] {
            let one = One::new().written(who);
            assert_eq!(
                one.0.invalidate(0).map(|fault| fault.kind),
                Some(Kind::LostWrite)
            );
            One::new().written(who).cleaned().invalidated();
        }
        One::without_speculation()
            .written(Who::Snooping)
            .invalidated();
    }

    #[test]
    fn a_line_is_used_in_one_way() {
        let mixed = Some(Kind::MixedAttributes);
        assert_eq!(One::new().written(Who::Cpu).reads(Who::Uncached), mixed);
        assert_eq!(One::new().written(Who::Cpu).writes(Who::Uncached), mixed);
        assert_eq!(One::new().written(Who::Uncached).reads(Who::Cpu), mixed);
        assert_eq!(
            One::new().written(Who::Uncached).reads(Who::Snooping),
            mixed
        );
        assert_eq!(
            One::new().written(Who::Snooping).reads(Who::Uncached),
            mixed
        );
        let one = One::new().written(Who::Cpu).cleaned().invalidated();
        assert_eq!(one.written(Who::Uncached).reads(Who::Uncached), None);
        let one = One::new().written(Who::Uncached);
        assert_eq!(one.reads(Who::Device), None);
        assert_eq!(one.invalidated().reads(Who::Cpu), None);
    }

    #[test]
    fn cleaning_ends_with_a_barrier() {
        let begun = || {
            let one = One::new().written(Who::Cpu);
            one.0.clean(0);
            one
        };
        let unfinished = Some(Kind::UnfinishedClean);
        assert_eq!(begun().reads(Who::Device), unfinished);
        assert_eq!(begun().writes(Who::Device), unfinished);
        let one = begun();
        one.0.barrier();
        assert_eq!(one.reads(Who::Device), None);
    }

    #[test]
    fn only_the_same_bytes_are_read_but_whole_lines_are_written_back() {
        let one = One::new();
        assert_eq!(one.does(Who::Cpu, true, 0xf0), None);
        assert_eq!(one.does(Who::Device, false, 0x0f), None);
        assert_eq!(one.does(Who::Device, true, 0x0f), Some(Kind::LostWrite));
    }

    #[test]
    fn a_mistake_is_told_once() {
        let one = One::new().written(Who::Cpu);
        assert!(one.reads(Who::Device).is_some());
        assert_eq!(one.reads(Who::Device), None);
        let one = One::new().written(Who::Device);
        assert!(one.reads(Who::Cpu).is_some());
        assert_eq!(one.reads(Who::Cpu), None);
    }

    #[test]
    fn speculation_makes_more_of_it_wrong() {
        let one = One::without_speculation().written(Who::Device);
        assert_eq!(one.reads(Who::Cpu), None);
        let one = one.written(Who::Device);
        assert_eq!(one.reads(Who::Cpu), Some(Kind::StaleRead));
        let one = One::without_speculation().written(Who::Snooping);
        assert_eq!(one.reads(Who::Uncached), None);
    }
}
