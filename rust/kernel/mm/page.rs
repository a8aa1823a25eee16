// SPDX-License-Identifier: GPL-2.0

//! Blocks of physically contiguous pages.
//!
//! C headers: [`include/linux/gfp.h`](srctree/include/linux/gfp.h),
//! [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! [`kernel::page::Page`] is a single page. A [`PageBlock`] is any number of them in one physical
//! piece, and [`Pages`] is the memory of one buffer: a sequence of blocks.

use crate::{
    bindings,
    kernel::mm::{
        memcg,
        write_combining::Registry, //
    }, //
};
use core::{
    mem::{
        size_of,
        ManuallyDrop, //
    },
    ops::{
        Deref,
        Range,
        RangeInclusive, //
    },
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        Arc,
        UniqueArc, //
    }, //
};

/// Where memory lies, and how much of it there is.
#[derive(Clone)]
pub(crate) struct Extent {
    /// The physical addresses of the first and the last byte. There may be other memory in between.
    pub(crate) bounds: RangeInclusive<u64>,
    /// The size in bytes.
    pub(crate) size: u64,
}

impl Extent {
    /// None if there is no memory.
    pub(crate) fn from_raw(raw: bindings::dmacoh_extent) -> Option<Self> {
        (raw.size != 0).then_some(Self {
            bounds: raw.first..=raw.last,
            size: raw.size,
        })
    }

    /// The memory below 4 GiB, if that is not all.
    pub(crate) fn dma32() -> Option<Self> {
        // SAFETY: Callable in any context.
        Self::from_raw(unsafe { bindings::dmacoh_dma32_extent() })
    }
}

/// Which memory the page allocator may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// Any memory.
    All,
    /// Memory below 4 GiB.
    Dma32,
}

/// The properties of a block from the page allocator, besides its size.
///
/// # Examples
///
/// ```
/// use kernel::mm::page::{
///     Caching,
///     Effort,
///     Kind,
///     PageBlock,
///     Zone, //
/// };
///
/// let kind = Kind {
///     zone: Zone::All,
///     caching: Caching::WriteBack,
/// };
///
/// // Each block is write-back at first.
/// let block = PageBlock::alloc_zeroed(1, kind.zone, Effort::Reclaim, false)?;
/// assert!(block.caching() == kind.caching);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Where the pages lie.
    pub(crate) zone: Zone,
    /// How the pages have been prepared to be mapped.
    pub(crate) caching: Caching,
}

impl Kind {
    /// Whether its pages may be taken for `zone`.
    pub(crate) fn is_within(self, zone: Zone) -> bool {
        zone == Zone::All || self.zone == zone
    }
}

/// One `T` for each [`Kind`].
pub(crate) struct PerKind<T>([T; 4]);

impl<T> PerKind<T> {
    /// Makes each by `f`.
    pub(crate) fn new(f: impl Fn(Kind) -> T) -> Self {
        let kind = |zone, caching| f(Kind { zone, caching });

        Self([
            kind(Zone::All, Caching::WriteBack),
            kind(Zone::All, Caching::WriteCombining),
            kind(Zone::Dma32, Caching::WriteBack),
            kind(Zone::Dma32, Caching::WriteCombining),
        ])
    }

    /// The one for `kind`.
    #[inline]
    pub(crate) fn get(&self, kind: Kind) -> &T {
        let [first, second, third, fourth] = &self.0;

        match (kind.zone, kind.caching) {
            (Zone::All, Caching::WriteBack) => first,
            (Zone::All, Caching::WriteCombining) => second,
            (Zone::Dma32, Caching::WriteBack) => third,
            (Zone::Dma32, Caching::WriteCombining) => fourth,
        }
    }

    /// The one for `kind`, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, kind: Kind) -> &mut T {
        let [first, second, third, fourth] = &mut self.0;

        match (kind.zone, kind.caching) {
            (Zone::All, Caching::WriteBack) => first,
            (Zone::All, Caching::WriteCombining) => second,
            (Zone::Dma32, Caching::WriteBack) => third,
            (Zone::Dma32, Caching::WriteCombining) => fourth,
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// The ones for the kinds whose blocks may be taken for `zone`, to be changed. The scarcest
    /// memory comes first.
    pub(crate) fn within(&mut self, zone: Zone) -> impl Iterator<Item = &mut T> {
        let others = match zone {
            Zone::All => 0,
            Zone::Dma32 => 2,
        };

        self.0.iter_mut().skip(others).rev()
    }
}

/// How hard the page allocator tries. It never calls the OOM killer, and never logs a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Take a block that is free now; reclaim nothing.
    AtHand,
    /// Take a block that is free now. Reclaim memory of the memory cgroup once, so that the block
    /// can be charged to it.
    Charge,
    /// Reclaim memory for it, for as long as that makes progress.
    Reclaim,
}

/// Where a block came from, and what its drop does.
#[derive(Clone, Copy)]
enum Origin {
    /// The page allocator: one compound page if the number of pages is a power of two, else
    /// `alloc_pages_exact()`. The drop frees them.
    Allocator,
    /// A contiguous memory area. The drop gives the pages back to it.
    Cma,
    /// Memory that its owner lends. The drop does nothing: the owner takes the block back by a
    /// [`Keeper`].
    Lent,
}

/// An owned block of physically contiguous pages.
///
/// Blocks are part of the direct mapping, so they have a kernel address.
///
/// # Invariants
///
/// - `page` is the first of `nr_pages` pages from `origin` that nobody else frees or lends.
/// - `cma` is the contiguous memory area that they are from, if they are from one.
/// - The direct mapping of the pages is write-back if `kind` says so.
///
/// The first two fields are what `dmacoh_sg_make()` reads. The structure is small, so that a
/// move takes few registers.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::page::{
///         Caching,
///         Effort,
///         PageBlock,
///         Zone, //
///     },
///     page::{
///         PAGE_SHIFT,
///         PAGE_SIZE, //
///     }, //
/// };
///
/// let mut block = PageBlock::alloc_zeroed(3, Zone::All, Effort::Reclaim, false)?;
/// assert_eq!(block.nr_pages(), 3);
/// assert_eq!(block.size(), 3 * PAGE_SIZE);
/// assert_eq!(*block.physical().start(), (block.pfn() << PAGE_SHIFT) as u64);
/// assert!(block.caching() == Caching::WriteBack);
/// assert!(block.is_mapped(Caching::WriteBack));
///
/// // SAFETY: The block is in the direct mapping, and nobody else has it.
/// unsafe { block.address().as_ptr().cast::<u8>().write(1) };
/// block.zero(0..1)?;
/// // SAFETY: As above.
/// assert_eq!(unsafe { block.address().as_ptr().cast::<u8>().read() }, 0);
///
/// // Such memory may be there or not.
/// let scarce = PageBlock::alloc_zeroed(1 << 8, Zone::Dma32, Effort::AtHand, false);
/// assert!(scarce.map_or_else(|err| err == ENOMEM, |block| !block.as_ptr().is_null()));
/// # Ok::<(), Error>(())
/// ```
#[repr(C)]
pub(crate) struct PageBlock {
    page: NonNull<bindings::page>,
    nr_pages: usize,
    /// The number of pages before it in its buffer. Set by [`Pages::push`].
    index: u32,
    kind: Kind,
    /// See [`PageBlock::spoil`].
    is_spoilt: bool,
    origin: Origin,
    cma: *mut bindings::cma,
}

const _: () = assert!(size_of::<PageBlock>() == 32);

// SAFETY: Pages belong to no task, and may be freed by any.
unsafe impl Send for PageBlock {}

// SAFETY: A shared `PageBlock` only tells where its pages are.
unsafe impl Sync for PageBlock {}

impl PageBlock {
    /// Takes over pages of a contiguous memory area.
    ///
    /// # Safety
    ///
    /// `page` must be the first of `nr_pages` pages that `cma_alloc()` has returned for `cma`, and
    /// that are not in high memory. The caller must zero them before anybody else sees them.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::ptr::NonNull;
    /// use kernel::{
    ///     bindings,
    ///     mm::page::PageBlock, //
    /// };
    ///
    /// /// Allocates four pages of an area.
    /// fn four_pages(area: NonNull<bindings::cma>) -> Result<PageBlock> {
    ///     // SAFETY: Areas are never freed.
    ///     let page = unsafe { bindings::cma_alloc(area.as_ptr(), 4, 0, true) };
    ///     let page = NonNull::new(page).ok_or(ENOMEM)?;
    ///
    ///     // SAFETY: The four pages are from this area. They are zeroed before anybody sees them.
    ///     let mut block = unsafe { PageBlock::from_cma(page, 4, area) };
    ///     block.zero(0..4)?;
    ///     Ok(block)
    /// }
    /// ```
    pub(crate) unsafe fn from_cma(
        page: NonNull<bindings::page>,
        nr_pages: usize,
        cma: NonNull<bindings::cma>,
    ) -> Self {
        // SAFETY: By this function's safety requirements.
        unsafe { Self::from_elsewhere(page, nr_pages, Origin::Cma, cma.as_ptr()) }
    }

    /// Lends pages to a buffer, whose [`Keeper`] takes them back.
    ///
    /// # Safety
    ///
    /// - `page` must be the first of `nr_pages` pages that are in the direct mapping, are no high
    ///   memory, and never become the page allocator's.
    /// - The caller must zero them before anybody else sees them.
    /// - Nobody else may use them before the block has been dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::ptr::NonNull;
    /// use kernel::{
    ///     bindings,
    ///     mm::page::{
    ///         Caching,
    ///         Home,
    ///         PageBlock,
    ///         Pages, //
    ///     },
    ///     sync::Arc, //
    /// };
    ///
    /// /// Makes a buffer of reserved memory. `owner` gets the block back when the buffer has gone.
    /// ///
    /// /// # Safety
    /// ///
    /// /// `page` must be the first of `nr_pages` reserved pages that nobody else uses until
    /// /// `owner` has them back.
    /// unsafe fn buffer(
    ///     page: NonNull<bindings::page>,
    ///     nr_pages: usize,
    ///     owner: Home,
    /// ) -> Result<Arc<Pages>> {
    ///     // SAFETY: The caller promises it, and the pages are zeroed here.
    ///     let mut block = unsafe { PageBlock::lend(page, nr_pages) };
    ///     block.zero(0..nr_pages)?;
    ///
    ///     let mut pages = Pages::new(Caching::WriteBack, Some(owner))?;
    ///     pages.push(block, 1)?;
    ///     Ok(pages.into())
    /// }
    /// ```
    pub(crate) unsafe fn lend(page: NonNull<bindings::page>, nr_pages: usize) -> Self {
        // SAFETY: By this function's safety requirements.
        unsafe { Self::from_elsewhere(page, nr_pages, Origin::Lent, core::ptr::null_mut()) }
    }

    /// Takes over pages that are not from the page allocator.
    ///
    /// # Safety
    ///
    /// As for the function that is for this origin: [`PageBlock::from_cma`] or [`PageBlock::lend`].
    unsafe fn from_elsewhere(
        page: NonNull<bindings::page>,
        nr_pages: usize,
        origin: Origin,
        cma: *mut bindings::cma,
    ) -> Self {
        // INVARIANT: By this function's safety requirements.
        Self {
            page,
            nr_pages,
            index: 0,
            kind: Kind {
                zone: Zone::All,
                caching: Caching::WriteBack,
            },
            is_spoilt: false,
            origin,
            cma,
        }
    }

    /// Whether the page allocator has such a block now. Somebody else may take it a moment later.
    pub(crate) fn is_at_hand(nr_pages: usize, zone: Zone) -> bool {
        let gfp = Self::gfp(zone, Effort::AtHand);

        Self::alloc(nr_pages, zone, gfp).is_ok()
    }

    /// Allocates `nr_pages` zeroed pages of `zone` in one piece, charged to the memory cgroup of
    /// the current task if `account` is set.
    ///
    /// Sleeps unless `effort` is [`Effort::AtHand`].
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `nr_pages` is 0.
    /// - [`ENOMEM`] if there is no such block, or the memory cgroup is at its limit.
    pub(crate) fn alloc_zeroed(
        nr_pages: usize,
        zone: Zone,
        effort: Effort,
        account: bool,
    ) -> Result<Self> {
        let mut gfp = Self::gfp(zone, effort) | bindings::__GFP_ZERO;

        if account {
            gfp |= bindings::DMACOH___GFP_ACCOUNT;
        }
        Self::alloc(nr_pages, zone, gfp)
    }

    fn gfp(zone: Zone, effort: Effort) -> bindings::gfp_t {
        let mut gfp = bindings::DMACOH_GFP_USER | bindings::__GFP_NOWARN;

        match effort {
            Effort::AtHand => {
                gfp |= bindings::DMACOH___GFP_NORETRY;
                gfp &= !bindings::DMACOH___GFP_RECLAIM;
            }
            Effort::Charge => gfp |= bindings::DMACOH___GFP_NORETRY,
            Effort::Reclaim => gfp |= bindings::DMACOH___GFP_RETRY_MAYFAIL,
        }
        if zone == Zone::Dma32 {
            gfp |= bindings::DMACOH___GFP_DMA32;
            // That memory may be on none of the nodes that the task is meant to allocate from.
            gfp &= !bindings::DMACOH___GFP_HARDWALL;
        }
        gfp
    }

    fn alloc(nr_pages: usize, zone: Zone, gfp: bindings::gfp_t) -> Result<Self> {
        let order = nr_pages.checked_ilog2().ok_or(EINVAL)?;
        let page = if nr_pages.is_power_of_two() {
            // SAFETY: An order that is too large is refused by returning NULL.
            unsafe { bindings::alloc_pages(gfp | bindings::DMACOH___GFP_COMP, order) }
        } else {
            let size = nr_pages.checked_mul(PAGE_SIZE).ok_or(ENOMEM)?;
            // SAFETY: As above, and `gfp` asks neither for a compound page nor for high memory.
            let addr = unsafe { bindings::alloc_pages_exact_noprof(size, gfp) };
            if addr.is_null() {
                return Err(ENOMEM);
            }
            // SAFETY: `addr` is an address in the direct mapping.
            unsafe { bindings::dmacoh_virt_to_page(addr) }
        };

        // INVARIANT: The pages have just been allocated in the way that the invariants name.
        Ok(Self {
            page: NonNull::new(page).ok_or(ENOMEM)?,
            nr_pages,
            index: 0,
            kind: Kind {
                zone,
                caching: Caching::WriteBack,
            },
            is_spoilt: false,
            origin: Origin::Allocator,
            cma: core::ptr::null_mut(),
        })
    }

    /// The size in bytes, a multiple of [`PAGE_SIZE`].
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.nr_pages << PAGE_SHIFT
    }

    /// The number of pages.
    #[inline]
    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// The first `struct page`. The others follow it within the same memory section map.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::page {
        self.page.as_ptr()
    }

    /// The page frame number of the first page.
    #[inline]
    pub(crate) fn pfn(&self) -> usize {
        // SAFETY: The page is valid by the type invariants.
        unsafe { bindings::dmacoh_page_to_pfn(self.page.as_ptr()) }
    }

    /// The physical addresses of the first and the last byte.
    #[inline]
    pub(crate) fn physical(&self) -> RangeInclusive<u64> {
        // CAST: To a type of the same size.
        let start = (self.pfn() << PAGE_SHIFT) as u64;

        start..=start + (self.size() as u64 - 1)
    }

    /// How the block has been prepared to be mapped.
    #[inline]
    pub(crate) fn caching(&self) -> Caching {
        self.kind.caching
    }

    /// Fills some pages of a write-back block with zeroes, as far as it has them.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the block is write-combining: its zeroes would stay in the caches.
    #[inline]
    pub(crate) fn zero(&mut self, pages: Range<usize>) -> Result {
        if self.caching() != Caching::WriteBack {
            return Err(EINVAL);
        }
        // SAFETY: The CPU caches are where the data of such a block belongs.
        unsafe { self.zero_in_cache(pages) };
        Ok(())
    }

    /// Marks the block as fit for nothing but being freed: [`Pages::push`] refuses it.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::page::{
    ///     Caching,
    ///     Effort,
    ///     PageBlock,
    ///     Pages,
    ///     Zone, //
    /// };
    ///
    /// let mut block = PageBlock::alloc_zeroed(1, Zone::All, Effort::Reclaim, false)?;
    /// let mut pages = Pages::new(Caching::WriteBack, None)?;
    ///
    /// block.spoil();
    /// assert!(pages.push(block, 1).is_err_and(|err| err == EINVAL));
    /// assert_eq!(pages.size(), 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub(crate) fn spoil(&mut self) {
        self.is_spoilt = true;
    }

    /// Fills some pages with zeroes, as far as the block has them. Callable in any context.
    ///
    /// # Safety
    ///
    /// The zeroes may be in the caches only, while the memory holds what its last user has
    /// written. So the caller must clean the caches of a write-combining block before somebody
    /// else gets it, or [spoil](Self::spoil) it.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::page::{
    ///     Effort,
    ///     PageBlock,
    ///     Zone, //
    /// };
    ///
    /// let mut block = PageBlock::alloc_zeroed(2, Zone::All, Effort::Reclaim, false)?;
    /// let first = block.address().as_ptr().cast::<u8>();
    /// // SAFETY: The block is in the direct mapping, and nobody else has it.
    /// unsafe { first.write(1) };
    ///
    /// // SAFETY: The block is write-back, so the zeroes may stay in the caches.
    /// unsafe { block.zero_in_cache(0..2) };
    /// // SAFETY: As for the write.
    /// assert_eq!(unsafe { first.read() }, 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub(crate) unsafe fn zero_in_cache(&mut self, pages: Range<usize>) {
        let end = pages.end.min(self.nr_pages);
        let start = pages.start.min(end);
        // The kernel's function clears one page at least.
        if start == end {
            return;
        }

        // SAFETY: The pages are ours and in the direct mapping; nobody else uses them.
        unsafe {
            bindings::dmacoh_clear_pages(
                self.address().as_ptr().byte_add(start << PAGE_SHIFT),
                // CAST: A block is far smaller than all memory.
                (end - start) as u32,
            )
        };
    }

    /// Has the kernel count the block as memory that it can reclaim, or no longer.
    #[inline]
    pub(crate) fn set_reclaimable(&self, reclaimable: bool) {
        // CAST: A block is far smaller than all memory.
        let nr_pages = self.nr_pages as isize;
        let change = if reclaimable { nr_pages } else { -nr_pages };

        // SAFETY: The page is valid by the type invariants.
        unsafe { bindings::dmacoh_mod_reclaimable(self.page.as_ptr(), change) };
    }

    /// Whether the kernel's own mapping is of this kind.
    #[inline]
    pub(crate) fn is_mapped(&self, caching: Caching) -> bool {
        self.kind.caching == caching && (caching == Caching::WriteBack || cfg!(CONFIG_X86))
    }

    /// The kind of a block from the page allocator.
    #[inline]
    pub(crate) fn kind(&self) -> Option<Kind> {
        matches!(self.origin, Origin::Allocator).then_some(self.kind)
    }

    /// The memory cgroup that the block is charged to. If that cgroup has been removed, this is its
    /// parent. While the kernel moves the charge to the parent, this is an identifier that no
    /// cgroup has.
    #[inline]
    pub(crate) fn memcg(&self) -> memcg::Id {
        // SAFETY: The page is valid by the type invariants.
        unsafe { memcg::Id::of_page(self.page) }
    }

    /// The kernel address of the first byte.
    #[inline]
    pub(crate) fn address(&self) -> NonNull<c_void> {
        // SAFETY: The page is valid by the type invariants.
        let addr = unsafe { bindings::dmacoh_page_address(self.page.as_ptr()) };
        // SAFETY: Directly mapped pages have an address, which is not NULL.
        unsafe { NonNull::new_unchecked(addr) }
    }
}

impl PageBlock {
    /// Makes the kernel's own mapping of the pages write-combining until they are freed. Only x86
    /// needs that, where all mappings of a page must have the same caching. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if the kernel's page tables cannot be changed, or there is no memory for the
    /// registry.
    ///
    /// # Safety
    ///
    /// As for [`Self::zero_in_cache`], of all pages. If this fails, the block must be freed or
    /// spoilt.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     mm::{
    ///         page::{
    ///             Caching,
    ///             Effort,
    ///             PageBlock,
    ///             Pages,
    ///             Zone, //
    ///         },
    ///         write_combining::Registry, //
    ///     },
    ///     sync::Arc, //
    /// };
    ///
    /// /// Makes a buffer of one page that the CPU does not cache. x86 cleans the caches when it
    /// /// changes the kernel's mapping.
    /// #[cfg(CONFIG_X86)]
    /// fn uncached(registry: Registry) -> Result<Arc<Pages>> {
    ///     let mut block = PageBlock::alloc_zeroed(1, Zone::All, Effort::Reclaim, false)?;
    ///     // SAFETY: This cleans the caches. If it fails, the block is freed.
    ///     unsafe { block.set_write_combining(registry) }?;
    ///
    ///     let mut pages = Pages::new(Caching::WriteCombining, None)?;
    ///     pages.push(block, 1)?;
    ///     Ok(pages.into())
    /// }
    /// ```
    pub(crate) unsafe fn set_write_combining(&mut self, registry: Registry) -> Result {
        registry.add(self.page, self.nr_pages)?;
        // INVARIANT: Even if this fails, part of it may have been done.
        self.kind.caching = Caching::WriteCombining;
        // SAFETY: The pages are ours and in the direct mapping.
        to_result(unsafe {
            bindings::dmacoh_set_memory_wc(self.address().addr().get(), self.nr_pages as c_int)
        })
    }
}

impl Drop for PageBlock {
    fn drop(&mut self) {
        if self.kind.caching == Caching::WriteCombining {
            // SAFETY: `set_write_combining()`, without which it is not so, got one.
            unsafe { Registry::remove(self.page) };
            // SAFETY: The pages are ours and in the direct mapping.
            let result = to_result(unsafe {
                bindings::dmacoh_set_memory_wb(self.address().addr().get(), self.nr_pages as c_int)
            });
            if let Err(err) = result {
                // Their next user would have them uncached without knowing.
                pr_err!(
                    "{} pages are lost, as they cannot be made cacheable: {:?}\n",
                    self.nr_pages,
                    err
                );
                return;
            }
        }

        let page = self.page.as_ptr();
        match self.origin {
            Origin::Allocator if self.nr_pages.is_power_of_two() => {
                // SAFETY: By the type invariants this is the compound page that we own.
                unsafe { bindings::__free_pages(page, self.nr_pages.trailing_zeros()) };
            }
            Origin::Allocator => {
                // SAFETY: By the type invariants this came from `alloc_pages_exact()` with this
                // size.
                unsafe { bindings::free_pages_exact(self.address().as_ptr(), self.size()) };
            }
            Origin::Cma => {
                // SAFETY: By the type invariants these came from `cma` in one piece.
                unsafe { bindings::dmacoh_cma_release_pages(self.cma, page, self.nr_pages) };
            }
            Origin::Lent => (),
        }
    }
}

/// How the CPU maps memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Cached.
    WriteBack,
    /// Not cached; writes are gathered.
    WriteCombining,
}

impl Caching {
    /// Adapts the protection bits of a mapping.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     bindings,
    ///     mm::page::Caching, //
    /// };
    ///
    /// /// Sets how a process is going to map memory.
    /// ///
    /// /// # Safety
    /// ///
    /// /// `vma` must be a VMA that the caller is setting up.
    /// unsafe fn set_caching(vma: *mut bindings::vm_area_struct, caching: Caching) {
    ///     // SAFETY: The caller promises that nobody else uses the VMA.
    ///     unsafe { (*vma).vm_page_prot = caching.pgprot((*vma).vm_page_prot) };
    /// }
    /// ```
    pub(crate) fn pgprot(self, prot: bindings::pgprot_t) -> bindings::pgprot_t {
        match self {
            Self::WriteBack => prot,
            // SAFETY: This only computes.
            Self::WriteCombining => unsafe { bindings::dmacoh_pgprot_writecombine(prot) },
        }
    }
}

/// A stack of blocks that takes no memory: each block is linked to the next by its own `struct
/// page`.
///
/// # Invariants
///
/// `top` is the first page of a block of this kind that the stack owns, or there is none. Its link
/// leads to the next such page and tells its size.
pub(crate) struct Stack {
    top: Option<NonNull<bindings::page>>,
    kind: Kind,
}

// SAFETY: Blocks belong to no task.
unsafe impl Send for Stack {}

impl Stack {
    /// Creates a stack for blocks of this kind.
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { top: None, kind }
    }

    /// Adds a block. Gives it back if it is not one for this stack.
    pub(crate) fn push(&mut self, block: PageBlock) -> Result<(), PageBlock> {
        if block.is_spoilt || block.kind() != Some(self.kind) {
            return Err(block);
        }

        let block = ManuallyDrop::new(block);
        let next = self.top.map_or(core::ptr::null_mut(), NonNull::as_ptr);
        // SAFETY: The page is ours, and so are these of its fields.
        unsafe { bindings::dmacoh_page_set_link(block.as_ptr(), next, block.nr_pages) };
        // INVARIANT: The block is as it has to be, and has just been linked.
        self.top = Some(block.page);
        Ok(())
    }

    /// Takes the block that was added last.
    pub(crate) fn pop(&mut self) -> Option<PageBlock> {
        let page = self.top?;
        let mut nr_pages = 0;
        // SAFETY: By the type invariants.
        let next = unsafe { bindings::dmacoh_page_take_link(page.as_ptr(), &mut nr_pages) };

        // INVARIANT: By this type's invariants, both for what is left and for what is taken.
        self.top = NonNull::new(next);
        Some(PageBlock {
            page,
            nr_pages,
            index: 0,
            kind: self.kind,
            is_spoilt: false,
            origin: Origin::Allocator,
            cma: core::ptr::null_mut(),
        })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// A list of blocks. A list of one block, which most buffers have, takes no memory.
#[derive(Default)]
pub(crate) enum Blocks {
    /// No block.
    #[default]
    None,
    /// One block.
    One(PageBlock),
    /// Any number of them.
    Many(KVVec<PageBlock>),
}

impl Blocks {
    /// Adds a block behind the others. The list gets room for `expected` more, this one included.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for the list. The others stay on it.
    fn push(&mut self, block: PageBlock, expected: usize) -> Result {
        match self {
            Self::None if expected == 1 => *self = Self::One(block),
            Self::None | Self::One(_) => {
                let flags = GFP_KERNEL | __GFP_NOWARN;
                let mut blocks = KVVec::with_capacity(expected.saturating_add(1), flags)?;

                if let Self::One(first) = core::mem::take(self) {
                    blocks.push(first, GFP_KERNEL)?;
                }
                blocks.push(block, GFP_KERNEL)?;
                *self = Self::Many(blocks);
            }
            Self::Many(blocks) => {
                blocks.reserve(expected, GFP_KERNEL | __GFP_NOWARN)?;
                blocks.push(block, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// Takes the last block.
    pub(crate) fn pop(&mut self) -> Option<PageBlock> {
        match self {
            Self::None => None,
            Self::One(_) => match core::mem::take(self) {
                Self::One(block) => Some(block),
                _ => None,
            },
            Self::Many(blocks) => blocks.pop(),
        }
    }

    /// Keeps the blocks that `keep` wants, and frees the others.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&PageBlock) -> bool) {
        match self {
            Self::None => (),
            Self::One(block) => {
                if !keep(block) {
                    *self = Self::None;
                }
            }
            Self::Many(blocks) => blocks.retain(|block| keep(block)),
        }
    }
}

impl Deref for Blocks {
    type Target = [PageBlock];

    #[inline]
    fn deref(&self) -> &[PageBlock] {
        match self {
            Self::None => &[],
            Self::One(block) => core::slice::from_ref(block),
            Self::Many(blocks) => blocks,
        }
    }
}

/// Takes back the blocks of buffers that have been released.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::page::{
///         Blocks,
///         Caching,
///         Effort,
///         Home,
///         Keeper,
///         PageBlock,
///         Pages,
///         Zone, //
///     },
///     new_mutex,
///     sync::{
///         Arc,
///         Mutex, //
///     }, //
/// };
///
/// /// Keeps blocks of single pages.
/// #[pin_data]
/// struct Single {
///     #[pin]
///     kept: Mutex<KVec<PageBlock>>,
/// }
///
/// impl Keeper for Single {
///     fn keep(&self, blocks: &mut Blocks) {
///         // What cannot be kept is freed.
///         blocks.retain(|block| block.nr_pages() == 1);
///         while let Some(block) = blocks.pop() {
///             let _ = self.kept.lock().push(block, GFP_KERNEL);
///         }
///     }
///
///     fn left(&self) {}
/// }
///
/// let single = Arc::pin_init(pin_init!(Single { kept <- new_mutex!(KVec::new()) }), GFP_KERNEL)?;
/// let mut pages = Pages::new(Caching::WriteBack, Some(Home::new(single.clone())))?;
/// for nr_pages in [1, 2, 1] {
///     let block = PageBlock::alloc_zeroed(nr_pages, Zone::All, Effort::Reclaim, false)?;
///     pages.push(block, 1)?;
/// }
/// drop(pages);
/// assert_eq!(single.kept.lock().len(), 2);
/// # Ok::<(), Error>(())
/// ```
pub(crate) trait Keeper: Send + Sync {
    /// Takes the blocks of a buffer, and leaves those that are to be freed. May sleep.
    fn keep(&self, blocks: &mut Blocks);

    /// Called when a [`Home`] has been dropped: one buffer less will leave its blocks.
    fn left(&self);
}

/// The right of one buffer to leave its blocks to a [`Keeper`].
pub(crate) struct Home(Arc<dyn Keeper>);

impl Home {
    /// Creates the right to leave blocks to `keeper`, which is told when that is dropped.
    pub(crate) fn new(keeper: Arc<dyn Keeper>) -> Self {
        Self(keeper)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.0.left();
    }
}

/// The memory of one buffer: blocks in the order of their offsets in it.
///
/// # Invariants
///
/// - Each block's `index` is the number of pages in all blocks before it.
/// - Each block has been prepared for `caching`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::page::{
///         Caching,
///         Effort,
///         PageBlock,
///         Pages,
///         Zone, //
///     },
///     page::PAGE_SIZE,
///     sync::Arc, //
/// };
///
/// let mut pages = Pages::new(Caching::WriteBack, None)?;
/// pages.push(PageBlock::alloc_zeroed(1, Zone::All, Effort::Reclaim, false)?, 2)?;
/// pages.push(PageBlock::alloc_zeroed(4, Zone::All, Effort::Reclaim, false)?, 1)?;
/// let pages: Arc<Pages> = pages.into();
///
/// assert_eq!(pages.size(), 5 * PAGE_SIZE);
/// assert_eq!(pages.blocks().len(), 2);
/// assert_eq!(pages.largest_block(), 4 * PAGE_SIZE);
/// assert!(pages.span() >= 4 * PAGE_SIZE - 1);
/// assert!(pages.caching() == Caching::WriteBack);
///
/// // The third page of the buffer is the second one of its block.
/// let (blocks, skip) = pages.blocks_from(2);
/// assert_eq!((blocks.len(), skip), (1, 1));
/// # Ok::<(), Error>(())
/// ```
pub(crate) struct Pages {
    blocks: Blocks,
    size: usize,
    /// See [`Pages::largest_block`].
    largest: usize,
    /// See [`Pages::span`].
    span: usize,
    caching: Caching,
    /// The keeper that takes the blocks when the buffer has gone. Without one they are dropped.
    home: Option<Home>,
}

impl Pages {
    /// Creates the memory of a buffer, without a block yet. `home` says who takes the blocks in
    /// the end.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(crate) fn new(caching: Caching, home: Option<Home>) -> Result<UniqueArc<Self>> {
        // INVARIANT: There are no blocks.
        UniqueArc::init(
            init!(Self {
                blocks: Blocks::None,
                size: 0,
                largest: 0,
                span: 0,
                caching,
                home,
            }),
            GFP_KERNEL,
        )
    }

    /// Adds a block behind the others. The user of the buffer will see what the block holds. The
    /// list gets room for `expected` more blocks, this one included.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the block has not been prepared for [`Pages::caching`] or is
    ///   [spoilt](PageBlock::spoil), or there are 2^32 pages before it.
    /// - [`ENOMEM`] if there is no memory for the list.
    pub(crate) fn push(&mut self, mut block: PageBlock, expected: usize) -> Result {
        if block.is_spoilt || block.caching() != self.caching {
            return Err(EINVAL);
        }
        let start = block.pfn() << PAGE_SHIFT;
        let size = block.size();

        // INVARIANT: The blocks before it have so many pages.
        block.index = (self.size >> PAGE_SHIFT).try_into()?;
        self.blocks.push(block, expected)?;
        self.size += size;
        self.largest = self.largest.max(size);
        self.span |= start ^ (start + size - 1);
        Ok(())
    }

    /// The blocks, by rising offset.
    #[inline]
    pub(crate) fn blocks(&self) -> &[PageBlock] {
        &self.blocks
    }

    /// The blocks from the one on that has page `index` of the buffer, and the index of that page
    /// in its block. There are no blocks if `index` is beyond the end.
    pub(crate) fn blocks_from(&self, index: usize) -> (&[PageBlock], usize) {
        let start = |block: &PageBlock| block.index as usize;
        let behind = self.blocks.partition_point(|block| start(block) <= index);

        match behind.checked_sub(1).and_then(|i| self.blocks.get(i..)) {
            Some(blocks @ [block, ..]) if index - start(block) < block.nr_pages => {
                (blocks, index - start(block))
            }
            _ => (&[], 0),
        }
    }

    /// The size of all blocks together, in bytes.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The size of the largest block, in bytes.
    #[inline]
    pub(crate) fn largest_block(&self) -> usize {
        self.largest
    }

    /// The bits in which physical addresses of the same block differ.
    #[inline]
    pub(crate) fn span(&self) -> usize {
        self.span
    }

    /// How the CPU is to map it.
    #[inline]
    pub(crate) fn caching(&self) -> Caching {
        self.caching
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            home.0.keep(&mut self.blocks);
        }
    }
}

/// An estimate of the pages of `zone` that can be allocated. It includes what can be reclaimed or
/// swapped out, and excludes contiguous memory.
pub(crate) fn available(zone: Zone) -> usize {
    // SAFETY: Callable in any context.
    let pages = unsafe {
        match zone {
            Zone::All => bindings::dmacoh_available_pages(),
            Zone::Dma32 => bindings::dmacoh_available_dma32_pages(),
        }
    };

    pages.try_into().unwrap_or(0)
}

/// The pages that the kernel manages.
pub(crate) fn total() -> usize {
    // SAFETY: Callable in any context.
    unsafe { bindings::dmacoh_totalram_pages() }
}
