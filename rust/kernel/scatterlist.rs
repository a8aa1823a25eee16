// SPDX-License-Identifier: GPL-2.0

//! Scatter-gather tables over [`Pages`], mapped for a device.
//!
//! C header: [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)
//!
//! [`kernel::scatterlist::SGTable`] owns vmalloc memory, takes no DMA attributes and is bound to
//! its device by devres, none of which fits what a dma-buf exporter returns to an importer.

use crate::{
    bindings,
    kernel::{
        compat::eopnotsupp,
        device::DeviceExt,
        dma_mapping::{
            attrs::DMA_ATTR_REQUIRE_COHERENT,
            Attrs,
            DmaDevice, //
        },
        mm::page::{
            PageBlock,
            Pages, //
        }, //
    }, //
};
use core::ops::Range;
use kernel::{
    dma::DataDirection,
    error::to_result,
    page::{
        PAGE_MASK,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// A `struct sg_table` that owns its entries, not the pages they name.
///
/// Most buffers need a single entry. That is a part of this, and takes no memory of its own.
#[pin_data(PinnedDrop)]
#[repr(C)]
struct RawTable {
    #[pin]
    table: Opaque<bindings::sg_table>,
    #[pin]
    own: Opaque<bindings::scatterlist>,
}

/// Contiguous pages, as `dmacoh_sg_make()` reads them.
#[repr(C)]
struct Segment {
    page: *mut bindings::page,
    nr_pages: usize,
}

/// The limits of what a device takes as one segment.
struct Limits<'a> {
    dev: DmaDevice<'a>,
    /// The longest in any memory, in bytes.
    longest: usize,
    /// The longest in memory that the device does not reach, in bytes. None if it reaches the whole
    /// buffer.
    bounced: Option<usize>,
    /// The mask of addresses whose multiples no segment may cross.
    boundary: usize,
}

impl<'a> Limits<'a> {
    fn of(dev: DmaDevice<'a>, pages: &Pages) -> Self {
        Self {
            dev,
            longest: dev.longest_segment(pages.size()),
            bounced: (!dev.reaches_pages(pages)).then(|| dev.max_mapping()),
            boundary: dev.segment_boundary() | !PAGE_MASK,
        }
    }

    /// The longest segment in `block`, in bytes: whole pages.
    fn longest(&self, block: &PageBlock) -> usize {
        let longest = match self.bounced {
            Some(bounced) if !self.dev.reaches(&block.physical()) => self.longest.min(bounced),
            _ => self.longest,
        };

        (longest.min(u32::MAX as usize) & PAGE_MASK).max(PAGE_SIZE)
    }

    /// The pieces of a block.
    fn segments(&self, block: &PageBlock) -> impl Iterator<Item = Segment> {
        let page = block.as_ptr();
        let start = block.pfn() << PAGE_SHIFT;
        let end = start + block.size();
        let longest = self.longest(block);
        let boundary = self.boundary;
        let mut addr = start;

        core::iter::from_fn(move || {
            if addr == end {
                return None;
            }
            // The last address before the boundary, and one further; 0 if that overflows.
            let border = (addr | boundary).wrapping_add(1);
            let limit = if border > addr {
                border - addr
            } else {
                usize::MAX
            };
            let size = (end - addr).min(longest).min(limit);
            let segment = Segment {
                page: page.wrapping_add((addr - start) >> PAGE_SHIFT),
                nr_pages: size >> PAGE_SHIFT,
            };
            addr += size;
            Some(segment)
        })
    }

    /// Whether each of the blocks is one segment.
    fn take_all(&self, pages: &Pages) -> bool {
        let longest = self.longest.min(self.bounced.unwrap_or(usize::MAX));

        pages.largest_block() <= longest.min(u32::MAX as usize)
            && pages.span() & !self.boundary == 0
    }
}

impl RawTable {
    /// Makes a table of all `pages`, with segments that the device takes. May sleep.
    fn new<'a>(limits: &'a Limits<'_>, pages: &'a Pages) -> impl PinInit<Self, Error> + 'a {
        let init = move |slot: *mut Self| {
            if limits.take_all(pages) {
                // CAST: A `PageBlock` begins with a `Segment`.
                let blocks = pages.blocks().as_ptr().cast();

                // SAFETY: These are valid blocks, which the device takes as they are. The slot is
                // valid for writing.
                unsafe { Self::make(slot, blocks, size_of::<PageBlock>(), pages.blocks().len()) }
            } else {
                let mut segments = KVVec::new();
                for block in pages.blocks() {
                    for segment in limits.segments(block) {
                        segments.push(segment, GFP_KERNEL | __GFP_NOWARN)?;
                    }
                }

                // SAFETY: These are pieces of valid blocks. The slot is valid for writing.
                unsafe {
                    Self::make(
                        slot,
                        segments.as_ptr(),
                        size_of::<Segment>(),
                        segments.len(),
                    )
                }
            }
        };

        // SAFETY: `make()` initialises the slot, or fails. The slot is pinned.
        unsafe { pin_init::pin_init_from_closure(init) }
    }

    /// Makes a table of `count` blocks, each `stride` bytes behind the other.
    ///
    /// # Safety
    ///
    /// - `slot` must be valid for writing. If this succeeds, what it points to must stay there.
    /// - The blocks must be valid for reading, their pages valid, and none larger than what a
    ///   segment can be.
    unsafe fn make(slot: *mut Self, blocks: *const Segment, stride: usize, count: usize) -> Result {
        // SAFETY: The slot is valid. The caller promises the rest. The C side refuses an empty
        // table.
        to_result(unsafe {
            bindings::dmacoh_sg_make(
                Opaque::cast_into(&raw const (*slot).table),
                Opaque::cast_into(&raw const (*slot).own),
                blocks.cast(),
                stride,
                count.try_into()?,
            )
        })
    }
}

#[pinned_drop]
impl PinnedDrop for RawTable {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The table was made by `dmacoh_sg_make()`, which allocates entries if it does
        // not use the one that is here.
        unsafe {
            if (*self.table.get()).sgl != self.own.get() {
                bindings::sg_free_table(self.table.get());
            }
        }
    }
}

/// A table of all of [`Pages`], mapped for one device; unmapped when dropped.
///
/// Each mapping has a table of its own. It is the importer's until it is unmapped, and some
/// importers write to it.
///
/// # Invariants
///
/// - `table` is mapped for `dev` in direction `dir` with attributes `attrs`.
/// - `dev` is a device that stays able to do DMA until `self` is dropped.
///
/// The table comes first, so that the address which the importer gets is that of the whole.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{
///         Bound,
///         Device, //
///     },
///     dma::{
///         Attrs,
///         DataDirection, //
///     },
///     mm::page::Pages,
///     scatterlist::pages::MappedTable,
///     sync::Arc, //
/// };
///
/// /// Has a device write to memory, and makes that visible to the CPU.
/// fn receive(dev: &Device<Bound>, pages: Arc<Pages>) -> Result {
///     let from = DataDirection::FromDevice;
///     // SAFETY: The device stays bound until this returns, and the table goes before.
///     let table = unsafe { MappedTable::new(dev.into(), pages, from, Attrs::NONE) }?;
///     let table = KBox::pin_init(table, GFP_KERNEL)?;
///
///     if table.needs_sync() {
///         table.sync_for_device(&(0..table.size()));
///     }
///     // Here it would write.
///     if table.needs_sync() {
///         table.sync_for_cpu(&(0..table.size()));
///     }
///     assert!(table.is_written());
///     Ok(())
/// }
/// ```
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct MappedTable {
    // The drop order matters: first `drop()` unmaps, then the table, then the pages go.
    #[pin]
    table: RawTable,
    dev: *mut bindings::device,
    dir: DataDirection,
    attrs: Attrs,
    /// Whether bounce buffers stand between the device and some of the memory. That does not
    /// change, as a mapping bounces from its beginning or never.
    bounces: bool,
    /// See [`Self::snoops`].
    snoops: bool,
    pages: Arc<Pages>,
}

// SAFETY: A mapping belongs to no task, and may be undone by any that may sleep.
unsafe impl Send for MappedTable {}

// SAFETY: A shared mapping can only be synchronised, which any number of tasks may do at once.
unsafe impl Sync for MappedTable {}

impl MappedTable {
    /// Maps `pages` for `dev`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `pages` is empty or has more segments than the C side can count.
    /// - [`EIO`] if `dev` does not reach all of the memory, and there are no bounce buffers. The
    ///   DMA API would warn about that.
    /// - [`ENOMEM`] if there is no memory for the table or the mapping.
    /// - [`EOPNOTSUPP`] if `dev` has no DMA mask. The DMA API would warn about that, and succeed
    ///   with a table of no segments.
    /// - [`EOPNOTSUPP`] if `attrs` is [`DMA_ATTR_REQUIRE_COHERENT`], and the device does not snoop,
    ///   or does not reach all of the memory. The DMA API would warn about the latter.
    /// - Otherwise as `dma_map_sgtable()`.
    ///
    /// # Safety
    ///
    /// - `dir` must not be [`DataDirection::None`].
    /// - `dev` must stay able to do DMA until the return value is dropped.
    pub(crate) unsafe fn new<'a>(
        dev: DmaDevice<'a>,
        pages: Arc<Pages>,
        dir: DataDirection,
        attrs: Attrs,
    ) -> Result<impl PinInit<Self, Error> + 'a> {
        if !dev.has_dma_mask() {
            return Err(eopnotsupp());
        }
        let limits = Limits::of(dev, &pages);
        if attrs == DMA_ATTR_REQUIRE_COHERENT && limits.bounced.is_some() {
            return Err(eopnotsupp());
        }
        if limits.bounced.is_some() && !dev.can_bounce() {
            return Err(EIO);
        }

        // INVARIANT: The table is mapped in this way; the caller promises the rest.
        Ok(try_pin_init!(Self {
            table <- RawTable::new(&limits, &pages),
            _: {
                // SAFETY: The table is valid, the device is able to do DMA, and the direction is
                // valid.
                to_result(unsafe {
                    bindings::dma_map_sgtable(
                        dev.as_raw(),
                        table.table.get(),
                        dir.into(),
                        attrs.as_raw(),
                    )
                })?
            },
            dir,
            attrs,
            bounces: limits.bounced.is_some(),
            snoops: dev.is_dma_coherent(),
            dev: dev.as_raw(),
            pages,
        }? Error))
    }
}

impl MappedTable {
    /// The size of the memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.pages.size()
    }

    /// Whether the device may write to the memory.
    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        self.dir != DataDirection::ToDevice
    }

    /// Whether the device snoops the CPU caches.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::scatterlist::pages::MappedTable;
    ///
    /// /// Whether the CPU caches may hold data from the device that memory does not.
    /// fn caches_are_newer(table: &MappedTable) -> bool {
    ///     table.snoops() && table.is_written() && !table.is_copied()
    /// }
    /// ```
    pub(crate) fn snoops(&self) -> bool {
        self.snoops
    }

    /// Whether the device works on the memory itself and does not snoop. Then synchronising it is a
    /// matter of the caches alone.
    #[inline]
    pub(crate) fn is_direct(&self) -> bool {
        !self.bounces && !self.snoops
    }

    /// Whether what the device writes has to be copied out of bounce buffers.
    #[inline]
    pub(crate) fn is_copied(&self) -> bool {
        self.bounces && self.is_written()
    }

    /// Whether both map the same memory. If both are [direct](Self::is_direct) as well,
    /// synchronising one of them is enough for both.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::scatterlist::pages::MappedTable;
    ///
    /// /// Makes what two devices have written visible to the CPU. If only the caches matter, and
    /// /// the memory is the same, once is enough.
    /// fn sync_for_cpu(first: &MappedTable, second: &MappedTable) {
    ///     let both_direct = first.is_direct() && second.is_direct();
    ///
    ///     first.sync_for_cpu(&(0..first.size()));
    ///     if !(both_direct && first.shares_memory(second)) {
    ///         second.sync_for_cpu(&(0..second.size()));
    ///     }
    /// }
    /// ```
    #[inline]
    pub(crate) fn shares_memory(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pages, &other.pages)
    }

    /// Whether synchronising it does anything.
    pub(crate) fn needs_sync(&self) -> bool {
        if self.snoops && !self.bounces {
            return false;
        }
        // SAFETY: The device is valid.
        unsafe { bindings::dmacoh_dma_dev_need_sync(self.dev) }
    }

    /// Makes what the device has written to a part of the memory visible to the CPU, if
    /// [`Self::needs_sync`]. The part is in bytes from the beginning of all pages.
    #[inline]
    pub(crate) fn sync_for_cpu(&self, part: &Range<usize>) {
        let table = self.table.table.get();

        if !self.is_all(part) {
            // SAFETY: By the type invariants the table is mapped for this device and direction.
            self.pieces(part, |addr, size| unsafe {
                bindings::__dma_sync_single_for_cpu(self.dev, addr, size, self.dir.into())
            });
            return;
        }
        // SAFETY: As above.
        unsafe {
            bindings::__dma_sync_sg_for_cpu(
                self.dev,
                (*table).sgl,
                // CAST: As `dma_sync_sgtable_for_cpu()` does, which asks once more if it has to.
                (*table).orig_nents as c_int,
                self.dir.into(),
            )
        };
    }

    /// Makes what the CPU has written to a part of the memory visible to the device, as
    /// [`Self::sync_for_cpu`] does for what the device has written.
    #[inline]
    pub(crate) fn sync_for_device(&self, part: &Range<usize>) {
        let table = self.table.table.get();

        if !self.is_all(part) {
            // SAFETY: As above.
            self.pieces(part, |addr, size| unsafe {
                bindings::__dma_sync_single_for_device(self.dev, addr, size, self.dir.into())
            });
            return;
        }
        // SAFETY: As above.
        unsafe {
            bindings::__dma_sync_sg_for_device(
                self.dev,
                (*table).sgl,
                // CAST: As above.
                (*table).orig_nents as c_int,
                self.dir.into(),
            )
        };
    }

    fn is_all(&self, part: &Range<usize>) -> bool {
        part.start == 0 && part.end == self.size()
    }

    /// Calls `sync` with the DMA address and the size of each piece of `part` that is contiguous
    /// both in memory and for the device. Each entry before `part` costs a few instructions.
    fn pieces(&self, part: &Range<usize>, sync: impl Fn(bindings::dma_addr_t, usize)) {
        let table = self.table.table.get();
        // One segment of the device consists of one entry of the memory or several, in their order.
        //
        // SAFETY: The table is valid, and has an entry.
        let (mut entry, mut segment) = unsafe { ((*table).sgl, (*table).sgl) };
        let (mut start, mut segment_start) = (0_usize, 0_usize);

        while start < part.end && !entry.is_null() && !segment.is_null() {
            // SAFETY: Both are entries of the table.
            let (size, segment_size, segment_addr) = unsafe {
                (
                    (*entry).length as usize,
                    bindings::sg_dma_len(segment) as usize,
                    bindings::sg_dma_address(segment),
                )
            };
            if start == segment_start.wrapping_add(segment_size) {
                // SAFETY: As above.
                segment = unsafe { bindings::sg_next(segment) };
                segment_start = start;
                continue;
            }

            let from = part.start.max(start);
            let to = part.end.min(start + size);
            if from < to {
                sync(
                    segment_addr.wrapping_add((from - segment_start) as u64),
                    to - from,
                );
            }
            start += size;
            // SAFETY: As above.
            entry = unsafe { bindings::sg_next(entry) };
        }
    }
}

#[pinned_drop]
impl PinnedDrop for MappedTable {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the table is mapped with just these arguments.
        unsafe {
            bindings::dma_unmap_sgtable(
                self.dev,
                self.table.table.get(),
                self.dir.into(),
                self.attrs.as_raw(),
            )
        };
    }
}
