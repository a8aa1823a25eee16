// SPDX-License-Identifier: GPL-2.0

//! Mappings of a buffer into processes.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)
//!
//! Page frames are mapped, not pages. So nobody can pin a page, which would keep it from being
//! freed together with its block.
//!
//! Where memory and addresses are both aligned for it, one entry of the second level maps what
//! otherwise takes a whole page table. The kernel makes such entries only in page faults. So these
//! parts of a mapping stay empty at first. The first access to one of them fills all parts that
//! have their entries in the same table. The other parts of a mapping are filled at once.

pub(crate) mod cache;
pub(crate) mod cma;
pub(crate) mod memcg;
pub(crate) mod page;
#[allow(
    dead_code,
    reason = "its user is tools/testing/modules/samples/carveout.rs"
)]
pub(crate) mod reserve_mem;
pub(crate) mod shrinker;
pub(crate) mod vmalloc;
pub(crate) mod write_combining;

use crate::{
    bindings,
    kernel::mm::page::{
        PageBlock,
        Pages, //
    }, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    error::to_result,
    mm::virt::VmaNew,
    page::{
        PAGE_MASK,
        PAGE_SHIFT, //
    },
    prelude::*, //
};

/// What one entry of the second level maps, in bytes: a power of two.
const PMD_SIZE: usize = bindings::DMACOH_PMD_SIZE;

/// What all entries of a table of the second level map together, in bytes: a power of two.
const PMD_TABLE_SIZE: usize = bindings::DMACOH_PMD_TABLE_SIZE;

/// Whether the kernel can map page frames by such entries.
const HAS_HUGE_ENTRIES: bool =
    cfg!(CONFIG_TRANSPARENT_HUGEPAGE) && cfg!(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP);

/// A mapping of a dma-buf into a process that is being set up.
///
/// The lifetime is invariant. So what can be borrowed from the dma-buf for just this lifetime is
/// part of the exporter, and lives as long as that.
///
/// # Invariants
///
/// - The VMA's file is that of the dma-buf, as is that of each VMA that comes of this one. So what
///   is borrowed from the dma-buf for `'a` outlives all of them.
/// - The VMA is being set up by the current task.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::{
///         buffer::{
///             BufferVma,
///             MappedVma, //
///         },
///         page::Pages, //
///     },
///     sync::Arc, //
/// };
///
/// struct Buffer {
///     pages: Arc<Pages>,
/// }
///
/// impl Buffer {
///     /// The callback `mmap` of an exporter whose pages live as long as itself.
///     fn mmap<'a>(&'a self, vma: BufferVma<'a>) -> Result<MappedVma<'a>> {
///         vma.map_pages(&self.pages)
///     }
/// }
/// ```
pub(crate) struct BufferVma<'a> {
    vma: &'a VmaNew,
    _invariant: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl<'a> BufferVma<'a> {
    /// Looks at a VMA that is being set up.
    ///
    /// # Safety
    ///
    /// - The VMA's file must be that of a dma-buf.
    /// - Whatever chooses `'a` must let the exporter of that dma-buf, and nobody else, borrow from
    ///   it for so long.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::mm::{
    ///     buffer::BufferVma,
    ///     page::Pages,
    ///     virt::VmaNew, //
    /// };
    ///
    /// /// Maps the memory of a dma-buf into a process.
    /// ///
    /// /// # Safety
    /// ///
    /// /// The VMA's file must be that of a dma-buf whose memory `pages` is.
    /// unsafe fn map<'a>(vma: &'a VmaNew, pages: &'a Pages) -> Result {
    ///     // SAFETY: The caller promises it, and nothing else is borrowed from the dma-buf here.
    ///     let vma = unsafe { BufferVma::new(vma) };
    ///
    ///     vma.map_pages(pages)?;
    ///     Ok(())
    /// }
    /// ```
    #[inline]
    pub(crate) unsafe fn new(vma: &'a VmaNew) -> Self {
        // INVARIANT: By this function's safety requirements; VMAs that are split off, moved or
        // inherited have the file of the one they come of.
        Self {
            vma,
            _invariant: PhantomData,
        }
    }

    /// Maps the part of `pages` that the VMA covers, cached or not as they are.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the mapping reaches beyond `pages`, or is private (`MAP_PRIVATE`): writes
    ///   would go to a copy then, which no device sees.
    /// - [`ENOMEM`] if there is no memory for page tables.
    pub(crate) fn map_pages(self, pages: &'a Pages) -> Result<MappedVma<'a>> {
        let vma = self.vma.as_ptr();
        // SAFETY: The VMA is valid.
        if unsafe { bindings::dmacoh_vma_is_private(vma) } {
            return Err(EINVAL);
        }

        let (mut addr, end) = (self.vma.start(), self.vma.end());
        // SAFETY: By the type invariants nobody else uses the VMA.
        let index = unsafe { (*vma).vm_pgoff };
        match index.checked_add((end - addr) >> PAGE_SHIFT) {
            Some(last) if last <= pages.size() >> PAGE_SHIFT => (),
            _ => return Err(EINVAL),
        }

        // SAFETY: As above. What mprotect() makes of the mapping later is based on this.
        unsafe { (*vma).vm_page_prot = pages.caching().pgprot((*vma).vm_page_prot) };
        // SAFETY: As above. The mapping is shared, hence no copy-on-write mapping. `fault` and
        // `huge_fault` find `pages`, which outlive the VMA by the type invariants.
        unsafe { bindings::dmacoh_vma_set_pfnmap(vma, VM_OPS, core::ptr::from_ref(pages).cast()) };

        let (blocks, mut skip) = pages.blocks_from(index);
        for block in blocks {
            if addr == end {
                break;
            }
            let run = Run::new(block, skip, addr, addr..end);
            let huge = run.huge_part();

            if huge.is_empty() {
                // SAFETY: The VMA is being set up and covers `run`.
                unsafe { run.fill(vma) }?;
            } else {
                // SAFETY: As above; this is the part before `huge`.
                unsafe { run.part(run.addr.start..huge.start).fill(vma) }?;
                // SAFETY: As above; this is the part behind.
                unsafe { run.part(huge.end..run.addr.end).fill(vma) }?;
            }

            addr = run.addr.end;
            skip = 0;
        }

        Ok(MappedVma(PhantomData))
    }
}

/// Proof that a [`BufferVma`] has been set up, which importers that hand one on rely on.
pub(crate) struct MappedVma<'a>(PhantomData<fn(&'a ()) -> &'a ()>);

/// Page frames in one piece, and the addresses they are mapped at.
///
/// # Invariants
///
/// `addr` starts and ends at page borders. As many page frames from `pfn` on are memory of one
/// block, and belong at these addresses.
struct Run {
    addr: Range<usize>,
    pfn: usize,
}

impl Run {
    /// The run around `addr`, where page `skip` of `block` belongs, that lies `within` these
    /// addresses: page borders around `addr`.
    fn new(block: &PageBlock, skip: usize, addr: usize, within: Range<usize>) -> Self {
        let before = (skip << PAGE_SHIFT).min(addr - within.start);
        let behind = (block.size() - (skip << PAGE_SHIFT)).min(within.end - addr);

        // INVARIANT: Both bounds lie in the block, and page `skip` of it belongs at `addr`.
        Self {
            addr: addr - before..addr + behind,
            pfn: block.pfn() + skip - (before >> PAGE_SHIFT),
        }
    }

    fn nr_pages(&self) -> usize {
        self.addr.len() >> PAGE_SHIFT
    }

    /// A part of the run, by its addresses, which are page borders.
    fn part(&self, addr: Range<usize>) -> Self {
        // INVARIANT: A part of one block is one as well.
        Self {
            pfn: self.pfn + ((addr.start - self.addr.start) >> PAGE_SHIFT),
            addr,
        }
    }

    /// The addresses that can be mapped by entries of the second level. Without any, the range is
    /// empty.
    fn huge_part(&self) -> Range<usize> {
        let mask = PMD_SIZE - 1;
        let start = (self.addr.start + mask) & !mask;
        let end = self.addr.end & !mask;

        if HAS_HUGE_ENTRIES && start < end && (self.addr.start ^ self.pfn << PAGE_SHIFT) & mask == 0
        {
            start..end
        } else {
            self.addr.end..self.addr.end
        }
    }

    /// The pieces of that part, one for each entry.
    fn huge_entries(self) -> impl Iterator<Item = Self> {
        self.huge_part()
            .step_by(PMD_SIZE)
            .map(move |addr| self.part(addr..addr + PMD_SIZE))
    }

    /// Fills the page tables.
    ///
    /// # Safety
    ///
    /// `vma` must be set up by the current task as a shared mapping of page frames, which covers
    /// `self` and whose file keeps the memory.
    unsafe fn fill(&self, vma: *mut bindings::vm_area_struct) -> Result {
        match self.nr_pages() {
            0 => Ok(()),
            // Half the work of `remap_pfn_range()`.
            1 => {
                // SAFETY: By this function's safety requirements.
                match unsafe { bindings::vmf_insert_pfn(vma, self.addr.start, self.pfn) } {
                    bindings::vm_fault_reason_VM_FAULT_NOPAGE => Ok(()),
                    _ => Err(ENOMEM),
                }
            }
            // SAFETY: As above. On failure the kernel removes the VMA.
            _ => to_result(unsafe {
                bindings::remap_pfn_range(
                    vma,
                    self.addr.start,
                    self.pfn,
                    self.addr.len(),
                    (*vma).vm_page_prot,
                )
            }),
        }
    }
}

/// The operations of a mapping: page faults fill it.
///
/// No `static`: with `CONFIG_USERFAULTFD` the structure has a pointer, and is not [`Sync`].
const VM_OPS: &bindings::vm_operations_struct = &bindings::vm_operations_struct {
    fault: Some(fault_callback),
    huge_fault: Some(huge_fault_callback),
    ..pin_init::zeroed()
};

/// A page fault in a mapping of [`Pages`].
///
/// # Invariants
///
/// - `vmf` is about a VMA that [`BufferVma::map_pages`] has set up, or one that comes of it, and
///   which is locked.
/// - The VMA maps `pages` to `bounds`, from page `index` on.
struct Fault<'a> {
    vmf: *const bindings::vm_fault,
    vma: *mut bindings::vm_area_struct,
    /// The address, a page border.
    addr: usize,
    pages: &'a Pages,
    bounds: Range<usize>,
    index: usize,
}

impl<'a> Fault<'a> {
    /// # Safety
    ///
    /// `vmf` must be what the kernel has called one of [`VM_OPS`] with, which has not returned
    /// during `'a`.
    unsafe fn new(vmf: *const bindings::vm_fault) -> Self {
        // Others write to both meanwhile, so there are no references to them.
        //
        // SAFETY: By this function's safety requirements; nobody changes these fields.
        let (vma, addr) = unsafe {
            let fields = &raw const (*vmf).__bindgen_anon_1;
            ((*fields).vma, (*fields).address & PAGE_MASK)
        };
        // SAFETY: The kernel keeps the VMA locked, so nobody changes these fields either.
        let (bounds, index, pages) = unsafe {
            (
                (*vma).__bindgen_anon_1.__bindgen_anon_1,
                (*vma).vm_pgoff,
                (*vma).vm_private_data,
            )
        };

        // INVARIANT: This is as `map_pages()` has made it, as importers promise; the kernel changes
        // bounds and offset together.
        Self {
            vmf,
            vma,
            addr,
            // SAFETY: `map_pages()` has put it there. It outlives the VMA, which exists.
            pages: unsafe { &*pages.cast() },
            bounds: bounds.vm_start..bounds.vm_end,
            index,
        }
    }

    /// The part of the VMA in the aligned range of `size` bytes around the address. `size` is a
    /// power of two.
    fn window(&self, size: usize) -> Range<usize> {
        let start = self.addr & !(size - 1);

        start.max(self.bounds.start)..(start + size).min(self.bounds.end)
    }

    /// The run around `addr`, a page border, that lies `within` a part of the VMA.
    fn run(&self, addr: usize, within: &Range<usize>) -> Option<Run> {
        let index = self.index + ((addr - self.bounds.start) >> PAGE_SHIFT);

        let (blocks, skip) = self.pages.blocks_from(index);

        Some(Run::new(blocks.first()?, skip, addr, within.clone()))
    }

    /// Maps page by page what an entry of the second level would map. The kernel asks for that if
    /// the VMA covers only part of it, or if the process has forbidden such entries.
    fn fill(&self) -> bindings::vm_fault_t {
        let Some(run) = self.run(self.addr, &self.window(PMD_SIZE)) else {
            return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
        };
        let vma = self.vma;

        until_error((0..run.nr_pages()).map(|i| {
            // SAFETY: By the type invariants this is a shared VMA for page frames, and locked. The
            // memory belongs there. Somebody else may have mapped the page meanwhile.
            unsafe {
                bindings::vmf_insert_pfn(vma, run.addr.start + (i << PAGE_SHIFT), run.pfn + i)
            }
        }))
    }

    /// Maps by an entry of the second level, or makes that entry writable. Makes all other entries
    /// that are possible in the same table.
    fn fill_huge(&self) -> bindings::vm_fault_t {
        let table = self.window(PMD_TABLE_SIZE);
        let addr = self.addr;

        match self.run(addr, &table) {
            Some(run) if run.huge_part().contains(&addr) => (),
            _ => return bindings::vm_fault_reason_VM_FAULT_FALLBACK,
        }

        let mut next = table.start;
        until_error(
            core::iter::from_fn(|| {
                if next == table.end {
                    return None;
                }
                let run = self.run(next, &table)?;
                next = run.addr.end;
                Some(run)
            })
            .flat_map(Run::huge_entries)
            .map(|entry| {
                // SAFETY: As above; all addresses in `table` have their entries in the same table.
                unsafe { bindings::dmacoh_insert_pfn_pmd(self.vmf, entry.addr.start, entry.pfn) }
            }),
        )
    }
}

/// The result of a page fault that inserts several entries: the first error, if there is one.
fn until_error(mut inserted: impl Iterator<Item = bindings::vm_fault_t>) -> bindings::vm_fault_t {
    const NOPAGE: bindings::vm_fault_t = bindings::vm_fault_reason_VM_FAULT_NOPAGE;

    inserted.find(|result| *result != NOPAGE).unwrap_or(NOPAGE)
}

/// # Safety
///
/// Only called by the kernel's memory management, with the VMA locked.
unsafe extern "C" fn fault_callback(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: By this function's safety requirements.
    unsafe { Fault::new(vmf) }.fill()
}

/// # Safety
///
/// Only called by the kernel's memory management, with the VMA locked.
unsafe extern "C" fn huge_fault_callback(
    vmf: *mut bindings::vm_fault,
    order: c_uint,
) -> bindings::vm_fault_t {
    if order != PMD_SIZE.ilog2() - PAGE_SHIFT as c_uint {
        return bindings::vm_fault_reason_VM_FAULT_FALLBACK;
    }

    // SAFETY: By this function's safety requirements.
    unsafe { Fault::new(vmf) }.fill_huge()
}
