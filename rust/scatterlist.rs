// SPDX-License-Identifier: GPL-2.0

//! Scatter-gather tables over [`Pages`], mapped for a device.
//!
//! C header: [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)
//!
//! [`kernel::scatterlist::SGTable`] owns vmalloc memory, takes no DMA attributes and is bound to
//! its device by devres, none of which fits what a dma-buf exporter returns to an importer.

use crate::{
    bindings,
    dma_mapping::{
        Attrs,
        DmaDevice, //
    },
    page::Pages, //
};
use core::marker::PhantomData;
use kernel::{
    device::Device,
    dma::DataDirection,
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    types::Opaque, //
};

/// A `struct sg_table` that owns its entries, not the pages they name.
#[repr(transparent)]
struct RawTable(Opaque<bindings::sg_table>);

impl RawTable {
    /// Makes a table with one entry for each block of `pages`. May sleep.
    fn new(pages: &Pages) -> Result<Self> {
        let count = pages.blocks().len().try_into()?;
        let table = Opaque::zeroed();

        // SAFETY: `table` is valid for writing; an empty table is refused by the C side.
        to_result(unsafe { bindings::sg_alloc_table(table.get(), count, bindings::GFP_KERNEL) })?;
        let table = Self(table);

        // SAFETY: `sg_alloc_table()` has initialised the table.
        let mut sg = unsafe { (*table.0.get()).sgl };
        for block in pages.blocks() {
            let size = block.size().try_into()?;

            // SAFETY: The table has as many entries as there are blocks.
            unsafe { bindings::dmacoh_sg_set_page(sg, block.as_ptr(), size, 0) };
            // SAFETY: `sg` is an entry of a table that ends with an end mark.
            sg = unsafe { bindings::sg_next(sg) };
        }

        Ok(table)
    }
}

impl Drop for RawTable {
    fn drop(&mut self) {
        // SAFETY: The table was initialised by `sg_alloc_table()`.
        unsafe { bindings::sg_free_table(self.0.get()) };
    }
}

/// A table of all of [`Pages`], mapped for one device; unmapped when dropped.
///
/// The lifetime is that of the importer's attachment, which no map outlives. It is invariant, so
/// that an exporter cannot put a table aside where it would outlive the attachment.
///
/// # Invariants
///
/// - `table` is mapped for `dev` in direction `dir` with attributes `attrs`.
/// - `dev` stays able to do DMA until `self` is dropped.
///
/// The table comes first, so that the address which the importer gets is that of the whole.
#[repr(C)]
pub(crate) struct MappedTable<'a> {
    // The drop order matters: first `drop()` unmaps, then the table, then the pages go.
    table: RawTable,
    dev: ARef<Device>,
    dir: DataDirection,
    attrs: Attrs,
    _pages: Arc<Pages>,
    _attachment: PhantomData<fn(&'a ()) -> &'a ()>,
}

// SAFETY: A mapping belongs to no task, and may be undone by any that may sleep.
unsafe impl Send for MappedTable<'_> {}

impl MappedTable<'_> {
    /// Maps `pages` for `dev`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `pages` is empty or has more blocks than the C side can count.
    /// - [`ENOMEM`] if there is no memory for the table or the mapping.
    /// - Otherwise as `dma_map_sgtable()`.
    ///
    /// # Safety
    ///
    /// - `dir` must not be [`DataDirection::None`].
    /// - `dev` must stay able to do DMA until the return value is dropped.
    pub(crate) unsafe fn new(
        dev: DmaDevice<'_>,
        pages: Arc<Pages>,
        dir: DataDirection,
        attrs: Attrs,
    ) -> Result<Self> {
        let table = RawTable::new(&pages)?;

        // SAFETY: The table is valid, the device is able to do DMA, and the direction is valid.
        to_result(unsafe {
            bindings::dma_map_sgtable(dev.as_raw(), table.0.get(), dir.into(), attrs.as_raw())
        })?;

        // INVARIANT: The table has just been mapped in this way; the caller promises the rest.
        Ok(Self {
            table,
            dev: (&*dev).into(),
            dir,
            attrs,
            _pages: pages,
            _attachment: PhantomData,
        })
    }
}

impl Drop for MappedTable<'_> {
    fn drop(&mut self) {
        // CAST: `Device` is a transparent wrapper of `struct device`.
        let dev = core::ptr::from_ref::<Device>(&self.dev).cast_mut().cast();

        // SAFETY: By the type invariants the table is mapped with just these arguments.
        unsafe {
            bindings::dma_unmap_sgtable(
                dev,
                self.table.0.get(),
                self.dir.into(),
                self.attrs.as_raw(),
            )
        };
    }
}
