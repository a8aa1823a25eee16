// SPDX-License-Identifier: GPL-2.0

//! The mappings of a dma-buf that brackets around CPU access have to maintain.
//!
//! Most buffers have no such mapping. A bracket of theirs reads a flag, and takes no lock.

use crate::kernel::{
    compat::smp_mb,
    scatterlist::MappedTable, //
};
use core::ops::Range;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        Mutex,
        MutexGuard, //
    }, //
};

/// A mapped table, as the importer of a dma-buf gets it.
///
/// The table comes first, so that the address which the importer gets is that of the whole.
#[pin_data]
#[repr(C)]
pub(crate) struct Table {
    #[pin]
    pub(crate) mapped: MappedTable,
    /// Whether it is to be listed.
    pub(crate) is_maintained: bool,
}

/// None before there is a table, because even an empty vector takes time to drop.
type Tables = Option<KVVec<Arc<Table>>>;

/// What is known of the mappings.
struct Known {
    tables: Tables,
    /// Whether a device that snoops has ever had the buffer mapped to write to it. What it wrote
    /// may be in the caches alone, where to invalidate them loses it.
    snooping_writer: bool,
}

/// A list of mapped tables.
///
/// `any` is set while there is a table on the list, and while somebody has a [`Change`].
#[pin_data]
pub(crate) struct Maintained {
    /// May be locked with the reservation lock held, not the other way round. Locked while a table
    /// is mapped or unmapped, so that no bracket comes between that and the list.
    #[pin]
    known: Mutex<Known>,
    any: Atomic<bool>,
}

impl Maintained {
    /// Creates an empty list.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            known <- new_mutex!(Known {
                tables: None,
                snooping_writer: false,
            }),
            any: Atomic::new(false),
        })
    }

    /// Keeps brackets waiting until the result is dropped. Meanwhile a table can be mapped and
    /// listed, or unlisted and unmapped. May sleep.
    pub(crate) fn change(&self) -> Change<'_> {
        let known = self.known.lock();

        self.any.store(true, Relaxed);
        // Pairs with the barrier in `sync_for_device()`. Either that function sees the flag, or the
        // mapping that follows sees what the CPU has written before.
        smp_mb();
        Change {
            known,
            any: &self.any,
        }
    }

    /// Whether there is no table. If so, the CPU sees what devices have written by tables that
    /// have been unmapped.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Pairs with the drop of a `Change`, before which the table has been unmapped.
        !self.any.load(Acquire)
    }

    /// Makes what devices have written to a part of the buffer visible to the CPU. May sleep.
    pub(crate) fn sync_for_cpu(&self, part: &Range<usize>) {
        let known = self.known.lock();
        let written = || mapped(&known.tables).filter(|table| table.is_written());

        if known.snooping_writer {
            sync_direct(written(), |table| table.sync_for_device(part));
        }
        // Invalidate the caches before bounce buffers are copied. Afterwards it would lose what has
        // been copied.
        let others = sync_direct(written(), |table| table.sync_for_cpu(part));
        if others {
            for table in written().filter(|table| table.is_copied()) {
                table.sync_for_cpu(part);
            }
            show_copied(&known.tables, part);
        }
    }

    /// Makes what the CPU has written to a part of the buffer visible to the devices. May sleep.
    #[inline]
    pub(crate) fn sync_for_device(&self, part: &Range<usize>) {
        // Pairs with the barrier in `change()`.
        smp_mb();
        if self.any.load(Relaxed) {
            self.sync_all_for_device(part);
        }
    }

    fn sync_all_for_device(&self, part: &Range<usize>) {
        let known = self.known.lock();

        let others = sync_direct(mapped(&known.tables), |table| table.sync_for_device(part));
        if others {
            for table in mapped(&known.tables).filter(|table| !table.is_direct()) {
                table.sync_for_device(part);
            }
        }
    }
}

fn mapped(tables: &Tables) -> impl Iterator<Item = &MappedTable> {
    tables
        .as_deref()
        .unwrap_or_default()
        .iter()
        .map(|table| &table.mapped)
}

/// Synchronises those of the tables that have no bounce buffers. Of tables that share memory,
/// which mostly are all, only one is synchronised. Returns whether other tables have bounce
/// buffers.
fn sync_direct<'a>(
    tables: impl Iterator<Item = &'a MappedTable>,
    sync: impl Fn(&MappedTable),
) -> bool {
    let mut last: Option<&MappedTable> = None;
    let mut others = false;

    for table in tables {
        if !table.is_direct() {
            others = true;
        } else if !last.is_some_and(|last| last.shares_memory(table)) {
            sync(table);
            last = Some(table);
        }
    }
    others
}

/// Makes what has been copied out of bounce buffers visible to other devices. It is in the caches,
/// and a later invalidation would lose it.
fn show_copied(tables: &Tables, part: &Range<usize>) {
    sync_direct(mapped(tables), |table| table.sync_for_device(part));
}

/// Exclusive access to a [`Maintained`]. Brackets wait until it is dropped.
pub(crate) struct Change<'a> {
    known: MutexGuard<'a, Known>,
    any: &'a Atomic<bool>,
}

impl Change<'_> {
    /// Adds a table to the list.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(crate) fn add(&mut self, table: Arc<Table>) -> Result {
        self.known
            .tables
            .get_or_insert_with(KVVec::new)
            .push(table, GFP_KERNEL)?;
        Ok(())
    }

    /// Records that a table has been mapped. Returns `self` if the table is to be listed.
    pub(crate) fn if_needed(mut self, table: &MappedTable) -> Option<Self> {
        self.known.snooping_writer |= table.is_written() && table.snoops();
        table.needs_sync().then_some(self)
    }

    /// Removes a table from the list, and unmaps it. May sleep.
    pub(crate) fn remove(&mut self, table: Arc<Table>) {
        let mapped = &table.mapped;
        let all = 0..mapped.size();
        let copied = mapped.is_copied();

        if let Some(tables) = &mut self.known.tables {
            tables.retain(|other| !Arc::ptr_eq(other, &table));
        }
        // Unmapping invalidates the caches. So first write back what a snooping device left there.
        if self.known.snooping_writer && mapped.is_direct() && mapped.is_written() {
            mapped.sync_for_device(&all);
        }
        // Unmap the table before brackets go on: a bracket that does not find a table on the list
        // takes it for unmapped.
        drop(table);
        if copied {
            show_copied(&self.known.tables, &all);
        }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let any = mapped(&self.known.tables).next().is_some();

        self.any.store(any, Release);
    }
}
