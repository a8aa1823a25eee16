// SPDX-License-Identifier: GPL-2.0
/*
 * The C that Rust cannot do without: inline functions, macros, tracepoints
 * and exports.
 */

#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <linux/cc_platform.h>
#include <linux/cgroup_dmem.h>
#include <linux/cma.h>
#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-resv.h>
#include <linux/dmabuf_coherency.h>
#include <linux/export.h>
#include <linux/freezer.h>
#include <linux/iosys-map.h>
#include <linux/kallsyms.h>
#include <linux/kmemleak.h>
#include <linux/kthread.h>
#include <linux/list_lru.h>
#include <linux/major.h>
#include <linux/memcontrol.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/pci.h>
#include <linux/pgtable.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/swap.h>
#include <linux/swiotlb.h>
#include <linux/sysfs.h>
#include <linux/vmalloc.h>
#include <media/v4l2-dev.h>
#include <media/v4l2-ioctl.h>
#include <media/videobuf2-core.h>

#ifdef CONFIG_X86
#include <linux/set_memory.h>
#endif

#include "helpers.h"

#define CREATE_TRACE_POINTS
#include <trace/events/dmabuf_coherency.h>

bool dmacoh_dev_dma_coherent(const struct device *dev)
{
	return dev_dma_coherent(dev);
}

/*
 * Whether an IOMMU makes one piece of what @dev maps. Those of a device that the
 * machine does not trust stay apart, as each may bounce.
 */
bool dmacoh_dev_has_iommu(const struct device *dev)
{
	return dev_dma_iommu((struct device *)dev) &&
	       !(dev_is_pci(dev) && to_pci_dev(dev)->untrusted);
}

/*
 * Whether memory is encrypted in a way that @dev cannot read, so that the DMA
 * API bounces: what force_dma_unencrypted() says, which is not exported.
 */
static bool is_encrypted_for(const struct device *dev)
{
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return true;
#ifdef CONFIG_AMD_MEM_ENCRYPT
	if (cc_platform_has(CC_ATTR_HOST_MEM_ENCRYPT))
		return min_not_zero(dev->coherent_dma_mask,
				    dev->bus_dma_limit) <=
		       DMA_BIT_MASK(__ffs64(sme_me_mask));
#endif
	return false;
}

/*
 * Whether the DMA API has nothing between @dev and memory that it might bounce
 * by. DMA ops of an architecture's own may do anything: those of Xen's dom0
 * bounce although they are told not to.
 */
static bool is_unbounced(struct device *dev)
{
	if (!dev->dma_mask || get_dma_ops(dev))
		return false;
	/* Whole pages do not bounce behind an IOMMU. */
	return dev_dma_iommu(dev) ||
	       (!is_swiotlb_force_bounce(dev) && !is_encrypted_for(dev));
}

bool dmacoh_dev_reaches_all(struct device *dev)
{
	return is_unbounced(dev) &&
	       (dev_dma_iommu(dev) || !dma_addressing_limited(dev));
}

/*
 * Whether there are bounce buffers for what @dev does not reach, and it reaches
 * those: of the first pool, which is tried first whether it does or not. Operations
 * of a platform's own see to that themselves.
 */
bool dmacoh_dev_can_bounce(struct device *dev)
{
	if (get_dma_ops(dev) || dev_dma_iommu(dev))
		return true;
#ifdef CONFIG_SWIOTLB
	const struct io_tlb_mem *mem = dev->dma_io_tlb_mem;

	return mem && mem->nslabs &&
	       phys_to_dma_unencrypted(dev, mem->defpool.end - 1) <=
		       min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);
#else
	return false;
#endif
}

/*
 * Whether the bus has one window for all that lies from @first to @last. What
 * lies between two windows is not reached.
 */
static bool is_in_one_window(const struct device *dev, u64 first, u64 last)
{
	const struct bus_dma_region *map = dev->dma_range_map;

	if (!map)
		return true;
	for (; map->size; map++)
		if (first >= map->cpu_start &&
		    last - map->cpu_start < map->size)
			return true;
	return false;
}

/* Whether @dev reaches memory from @first to @last, as the DMA API sees it. */
bool dmacoh_dev_reaches(struct device *dev, u64 first, u64 last)
{
	if (!is_unbounced(dev))
		return false;
	if (dev_dma_iommu(dev))
		return true;
	return is_in_one_window(dev, first, last) &&
	       phys_to_dma(dev, last) <=
		       min_not_zero(*dev->dma_mask, dev->bus_dma_limit);
}

unsigned int dmacoh_address_bits(const struct device *dev)
{
	if (!dev->dma_mask)
		return 0;
	return fls64(min_not_zero(*dev->dma_mask, dev->bus_dma_limit));
}

bool dmacoh_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

void *dmacoh_page_address(const struct page *page)
{
	return page_address(page);
}

unsigned long dmacoh_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

struct page *dmacoh_virt_to_page(const void *addr)
{
	return virt_to_page(addr);
}

void dmacoh_iosys_map_set_vaddr(struct iosys_map *map, void *vaddr)
{
	iosys_map_set_vaddr(map, vaddr);
}

/* Fills a new table with blocks that lie @stride bytes apart. */
void dmacoh_sg_fill(struct sg_table *table, const struct dmacoh_block *block,
		    size_t stride)
{
	struct scatterlist *sg = table->sgl;
	unsigned int left;

	for (left = table->orig_nents; left; left--) {
		if (unlikely(sg_is_chain(sg)))
			sg = sg_chain_ptr(sg);
		sg_assign_page(sg, block->page);
		sg->length = block->nr_pages << PAGE_SHIFT;
		block = (const void *)block + stride;
		sg++;
	}
}

void *dmacoh_vmap(struct page **pages, unsigned int count, bool write_combining)
{
	pgprot_t prot = PAGE_KERNEL;

	if (write_combining)
		prot = pgprot_writecombine(prot);
	return vmap(pages, count, VM_MAP, prot);
}

pgprot_t dmacoh_pgprot_writecombine(pgprot_t prot)
{
	return pgprot_writecombine(prot);
}

/*
 * Whether writes to @vma would go to a copy. A shared mapping of a read-only file
 * has VM_MAYSHARE only. (The kernel crate of 7.2 has the wrong value for that.)
 */
bool dmacoh_vma_is_private(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & VM_MAYSHARE);
}

/* Makes @vma, which is being set up, one for page frames. */
void dmacoh_vma_set_pfnmap(struct vm_area_struct *vma,
			   const struct vm_operations_struct *ops,
			   const void *data)
{
	vm_flags_mod(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MIXEDMAP);
	vma->vm_ops = ops;
	vma->vm_private_data = (void *)data;
}

/*
 * Maps at @addr, which has its entry in the same table as the address of the
 * fault.
 *
 * A page table may have come there meanwhile, if the process has just forbidden
 * huge entries. The core warns of that only where it is to make an entry
 * writable. So that is asked for only where there is an entry that is not; a
 * new one is as writable as the mapping anyway.
 */
vm_fault_t dmacoh_vmf_insert_pfn_pmd(const struct vm_fault *vmf,
				     unsigned long addr, unsigned long pfn)
{
#if defined(CONFIG_TRANSPARENT_HUGEPAGE) && defined(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP)
	struct vm_fault at = {
		.vma = vmf->vma,
		.address = addr,
		.pmd = vmf->pmd + pmd_index(addr) - pmd_index(vmf->address),
	};
	bool write = at.pmd == vmf->pmd && (vmf->flags & FAULT_FLAG_WRITE) &&
		     !pmd_none(vmf->orig_pmd);

	return vmf_insert_pfn_pmd(&at, pfn, write);
#else
	return VM_FAULT_FALLBACK;
#endif
}

/*
 * x86 forbids that mappings of one page differ in caching. Elsewhere the direct
 * mapping stays as it is, and cannot be changed.
 */
int dmacoh_set_memory_wc(unsigned long addr, int nr_pages)
{
#ifdef CONFIG_X86
	return set_memory_wc(addr, nr_pages);
#else
	return 0;
#endif
}

int dmacoh_set_memory_wb(unsigned long addr, int nr_pages)
{
#ifdef CONFIG_X86
	return set_memory_wb(addr, nr_pages);
#else
	return 0;
#endif
}

/*
 * The types are those of linux/cgroup_dmem.h, which only some kernels' Rust
 * bindings have.
 */
void *dmacoh_dmem_register(u64 size, const char *name)
{
#ifdef DMACOH_LINUX_7_2
	return dmem_cgroup_register_region(size, "%s", name);
#else
	struct dmem_cgroup_init init = { .size = size };

	return dmem_cgroup_register_region(&init, "%s", name);
#endif
}

void dmacoh_dmem_unregister(void *region)
{
	dmem_cgroup_unregister_region(region);
}

int dmacoh_dmem_charge(void *region, u64 size, void **pool)
{
	struct dmem_cgroup_pool_state *charged;
	int ret = dmem_cgroup_try_charge(region, size, &charged, NULL);

	*pool = charged;
	return ret;
}

void dmacoh_dmem_uncharge(void *pool, u64 size)
{
	dmem_cgroup_uncharge(pool, size);
}

static void extend(struct dmacoh_extent *extent, u64 first, u64 last, u64 size)
{
	extent->first = extent->size ? min(extent->first, first) : first;
	extent->last = max(extent->last, last);
	extent->size += size;
}

static struct zone *zone_of(int nid, int i)
{
	return &NODE_DATA(nid)->node_zones[i];
}

static void extend_by_zone(struct dmacoh_extent *extent,
			   const struct zone *zone, u64 nr_pages)
{
	extend(extent, PFN_PHYS(zone->zone_start_pfn),
	       PFN_PHYS(zone_end_pfn(zone)) - 1, nr_pages << PAGE_SHIFT);
}

/* Memory below 4 GiB, where there is memory beyond and the kernel has a way. */
struct dmacoh_extent dmacoh_dma32_extent(void)
{
	struct dmacoh_extent below = {};
#ifdef CONFIG_ZONE_DMA32
	bool beyond = false;
	int nid, i;

	for_each_online_node(nid) {
		for (i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = zone_of(nid, i);

			if (!populated_zone(zone))
				continue;
			if (i <= ZONE_DMA32)
				extend_by_zone(&below, zone,
					       zone_managed_pages(zone));
			else if (PFN_PHYS(zone_end_pfn(zone)) > SZ_4G)
				beyond = true;
		}
	}
	if (!beyond || below.last >= SZ_4G)
		below = (struct dmacoh_extent) {};
#endif
	return below;
}

#ifdef CONFIG_DMA_CMA
/* The default area first, if there is one; NULL behind the last. */
struct cma *dmacoh_cma_area(unsigned int index)
{
	struct cma *preferred = dev_get_cma_area(NULL), *cma;
	unsigned int i;

	if (preferred && !index--)
		return preferred;
	for (i = 0; (cma = dma_contiguous_get_area_by_idx(i)); i++)
		if (cma != preferred && !index--)
			return cma;
	return NULL;
}

/* The area that has been set apart for @dev. */
struct cma *dmacoh_dev_cma(const struct device *dev)
{
	return dev->cma_area;
}

const char *dmacoh_cma_name(const struct cma *cma)
{
	return cma == dev_get_cma_area(NULL) ? "default_cma_region" :
					       cma_get_name(cma);
}

/* What the device tree says of an area, or of all areas in a zone. */
static struct dmacoh_extent reserved_extent(const struct cma *cma,
					    const struct zone *zone)
{
	struct dmacoh_extent extent = {};
	struct device_node *all = of_find_node_by_path("/reserved-memory");
	struct device_node *node;

	for_each_child_of_node(all, node) {
		struct reserved_mem *mem = of_reserved_mem_lookup(node);
		bool wanted;

		if (!mem || !of_device_is_compatible(node, "shared-dma-pool") ||
		    !of_property_read_bool(node, "reusable"))
			continue;
		if (cma)
			wanted = mem->priv == cma;
		else
			wanted = zone_spans_pfn(zone, PHYS_PFN(mem->base));
		if (wanted)
			extend(&extent, mem->base, mem->base + mem->size - 1,
			       mem->size);
	}
	of_node_put(all);
	return extent;
}

/*
 * Where an area lies is told of those in the device tree. Any other is in one
 * zone, and has no more of its contiguous memory than is not theirs. Nothing for
 * an area that has no page to give: one that the kernel could not activate never
 * has any.
 */
struct dmacoh_extent dmacoh_cma_extent(struct cma *cma)
{
	struct dmacoh_extent extent = {};
	struct page *page = cma_alloc(cma, 1, 0, true);
	struct zone *zone;

	if (!page)
		return extent;
	zone = page_zone(page);
	cma_release(cma, page, 1);

	extent = reserved_extent(cma, NULL);
	if (!extent.size) {
		u64 others = reserved_extent(NULL, zone).size >> PAGE_SHIFT;

		extend_by_zone(&extent, zone, zone_cma_pages(zone) - others);
	}
	return extent;
}

struct page *dmacoh_cma_alloc(struct cma *cma, unsigned long nr_pages)
{
	unsigned int order = get_order(nr_pages << PAGE_SHIFT);
	unsigned int align = min(order, CONFIG_CMA_ALIGNMENT);
	struct page *page = NULL;

	/*
	 * Entries of the second level of page tables can map what is aligned to
	 * them. Ask for that where the block takes no more of the area by it.
	 */
	if (nr_pages >= BIT(PMD_ORDER) && align < PMD_ORDER &&
	    ALIGN(nr_pages, BIT(PMD_ORDER)) == ALIGN(nr_pages, BIT(align)))
		page = cma_alloc(cma, nr_pages, PMD_ORDER, true);
	return page ?: cma_alloc(cma, nr_pages, align, true);
}

void dmacoh_cma_release(struct cma *cma, const struct page *page,
			unsigned long nr_pages)
{
	cma_release(cma, page, nr_pages);
}
#else
struct cma *dmacoh_cma_area(unsigned int index)
{
	return NULL;
}

struct cma *dmacoh_dev_cma(const struct device *dev)
{
	return NULL;
}

const char *dmacoh_cma_name(const struct cma *cma)
{
	return NULL;
}

struct dmacoh_extent dmacoh_cma_extent(struct cma *cma)
{
	return (struct dmacoh_extent) {};
}

struct page *dmacoh_cma_alloc(struct cma *cma, unsigned long nr_pages)
{
	return NULL;
}

void dmacoh_cma_release(struct cma *cma, const struct page *page,
			unsigned long nr_pages)
{
}
#endif

bool dmacoh_dev_need_sync(const struct device *dev)
{
	return dma_dev_need_sync(dev);
}

/*
 * The longest segment that @dev takes of a buffer of @size bytes: what its
 * driver states, else ULONG_MAX.
 */
unsigned long dmacoh_longest_segment(struct device *dev, size_t size)
{
	unsigned int stated = dev->dma_parms ?
			      dev->dma_parms->max_segment_size : 0;

	/*
	 * Debugging compares segments with what is assumed of a driver that
	 * states nothing. So does the IOMMU code, which otherwise counts what it
	 * merges in 32 bits.
	 */
	if (IS_ENABLED(CONFIG_DMA_API_DEBUG_SG) ||
	    (dev_dma_iommu(dev) && size > U32_MAX))
		return dma_get_max_seg_size(dev);

	/* The PCI core states this for every device, whatever it can do. */
	if (!stated || (dev_is_pci(dev) && stated == SZ_64K))
		return ULONG_MAX;
	return stated;
}

/*
 * The boundary is one of addresses that the device sees. Where these differ from
 * physical ones, what is returned is no larger than what they differ by is a
 * multiple of, so that it holds for both.
 */
unsigned long dmacoh_segment_boundary(struct device *dev)
{
	const struct bus_dma_region *map = dev->dma_range_map;
	unsigned long boundary = dma_get_seg_boundary(dev);
	u64 multiple = 0;

	for (; map && map->size; map++)
		multiple |= map->cpu_start - map->dma_start;
	return multiple ? boundary & ((multiple & -multiple) - 1) : boundary;
}

/* Makes @dev, which is our own, a device that does not snoop. */
int dmacoh_clear_coherent(struct device *dev)
{
	dev_clear_dma_coherent(dev);
	return dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64));
}

/* Cleans the CPU caches by way of @dev, which is our own and does not snoop. */
int dmacoh_clean(struct device *dev, struct page *page, size_t offset,
		 size_t size)
{
	dma_addr_t addr = dma_map_page(dev, page, offset, size,
				       DMA_BIDIRECTIONAL);

	if (dma_mapping_error(dev, addr))
		return -EIO;
	dma_unmap_page(dev, addr, size, DMA_BIDIRECTIONAL);
	return 0;
}

void dmacoh_clear_pages(void *addr, unsigned int nr_pages)
{
	clear_pages(addr, nr_pages);
}

/* Fields of a page that are its owner's to use. */
void dmacoh_page_set_link(struct page *page, struct page *next,
			  unsigned long nr_pages)
{
	page->lru.next = (struct list_head *)next;
	set_page_private(page, nr_pages);
}

struct page *dmacoh_page_take_link(struct page *page, unsigned long *nr_pages)
{
	struct page *next = (struct page *)page->lru.next;

	*nr_pages = page_private(page);
	page->lru.next = NULL;
	set_page_private(page, 0);
	return next;
}

void dmacoh_mod_reclaimable(struct page *page, long nr_pages)
{
	mod_node_page_state(page_pgdat(page), NR_KERNEL_MISC_RECLAIMABLE,
			    nr_pages);
}

/* What swapping can make room for of so many pages of anonymous memory. */
static long swappable_pages(unsigned long anonymous)
{
	return min_t(long, get_nr_swap_pages(), anonymous);
}

/* Contiguous memory is for pages that can be moved, which these cannot. */

long dmacoh_available_pages(void)
{
	return si_mem_available() - (long)global_zone_page_state(NR_FREE_CMA_PAGES) +
	       swappable_pages(global_node_page_state(NR_ACTIVE_ANON) +
			       global_node_page_state(NR_INACTIVE_ANON));
}

/* Below 4 GiB: what is free, and what the page cache and programs have there. */
long dmacoh_available_dma32_pages(void)
{
	long nr_pages = 0;
#ifdef CONFIG_ZONE_DMA32
	unsigned long anonymous = 0;
	int nid, i;

	for_each_online_node(nid) {
		for (i = 0; i <= ZONE_DMA32; i++) {
			struct zone *zone = zone_of(nid, i);

			nr_pages += zone_page_state(zone, NR_FREE_PAGES) -
				    zone_page_state(zone, NR_FREE_CMA_PAGES) +
				    zone_page_state(zone, NR_ZONE_ACTIVE_FILE) +
				    zone_page_state(zone, NR_ZONE_INACTIVE_FILE);
			anonymous += zone_page_state(zone, NR_ZONE_ACTIVE_ANON) +
				     zone_page_state(zone, NR_ZONE_INACTIVE_ANON);
		}
	}
	nr_pages += swappable_pages(anonymous);
#endif
	return nr_pages;
}

unsigned long dmacoh_totalram_pages(void)
{
	return totalram_pages();
}

bool dmacoh_memcg_disabled(void)
{
	return mem_cgroup_disabled();
}

#ifdef CONFIG_MEMCG
/* The task may be moved, and what it was in may go, at any time. */
static struct mem_cgroup *current_memcg_rcu(void)
{
	return dmacoh_memcg_disabled() ? NULL : mem_cgroup_from_task(current);
}

struct mem_cgroup *dmacoh_current_memcg(void)
{
	struct mem_cgroup *memcg;

	rcu_read_lock();
	do {
		memcg = current_memcg_rcu();
	} while (memcg && !css_tryget(&memcg->css));
	rcu_read_unlock();
	return memcg;
}

void dmacoh_memcg_put(struct mem_cgroup *memcg)
{
	mem_cgroup_put(memcg);
}

/*
 * A number that no other control group ever gets, nor this one once its memory
 * controller has been off. 0 for the root, which is charged for nothing, and for
 * none.
 */
u64 dmacoh_memcg_id(struct mem_cgroup *memcg)
{
	return memcg && !mem_cgroup_is_root(memcg) ?
	       memcg->css.serial_nr : 0;
}

u64 dmacoh_current_memcg_id(void)
{
	u64 id;

	rcu_read_lock();
	id = dmacoh_memcg_id(current_memcg_rcu());
	rcu_read_unlock();
	return id;
}

/*
 * What @page is charged to: the parent, once a control group has gone, and
 * meanwhile a number that none has.
 */
u64 dmacoh_page_memcg_id(struct page *page)
{
	struct mem_cgroup *memcg;
	u64 id;

	rcu_read_lock();
	memcg = folio_memcg_check(page_folio(page));
	id = memcg && css_is_dying(&memcg->css) ? U64_MAX :
						  dmacoh_memcg_id(memcg);
	rcu_read_unlock();
	return id;
}
#else
struct mem_cgroup *dmacoh_current_memcg(void)
{
	return NULL;
}

void dmacoh_memcg_put(struct mem_cgroup *memcg)
{
}

u64 dmacoh_memcg_id(struct mem_cgroup *memcg)
{
	return 0;
}

u64 dmacoh_current_memcg_id(void)
{
	return 0;
}

u64 dmacoh_page_memcg_id(struct page *page)
{
	return 0;
}
#endif

struct kmem_cache *dmacoh_cache_create(const char *name, unsigned int size,
				       unsigned int align)
{
	return kmem_cache_create(name, size, align, SLAB_NO_MERGE, NULL);
}

/*
 * The object is charged to @memcg, which thereby gets a list on @lru; to nobody
 * if there is none.
 */
void *dmacoh_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru,
			     struct mem_cgroup *memcg)
{
	struct mem_cgroup *old = set_active_memcg(memcg);
	gfp_t gfp = memcg ? GFP_KERNEL_ACCOUNT : GFP_KERNEL;
	void *object = kmem_cache_alloc_lru(cache, lru, gfp | __GFP_NOWARN);

	set_active_memcg(old);
	return object;
}

int dmacoh_list_lru_init(struct list_lru *lru, struct shrinker *shrinker)
{
	memset(lru, 0, sizeof(*lru));
	return list_lru_init_memcg(lru, shrinker);
}

/* Tells whoever is reclaiming memory that the current task has freed some. */
void dmacoh_account_reclaimed_pages(unsigned long nr_pages)
{
	mm_account_reclaimed_pages(nr_pages);
}

/* The next memory node that there may be, -1 after the last. */
int dmacoh_next_node(int node)
{
	node = next_node(node, node_possible_map);
	return node < MAX_NUMNODES ? node : -1;
}

struct task_struct *dmacoh_kthread(int (*run)(void *data), void *data,
				   const char *name)
{
	struct task_struct *task = kthread_create(run, data, "%s", name);

	if (!IS_ERR(task)) {
		set_user_nice(task, MAX_NICE);
		wake_up_process(task);
	}
	return task;
}

void dmacoh_set_freezable(void)
{
	set_freezable();
}

void dmacoh_try_to_freeze(void)
{
	cond_resched();
	try_to_freeze();
}

void dmacoh_trace_attach(const char *heap, struct device *dev, bool snoops,
			 int error)
{
	trace_dmabuf_coherency_attach(heap, dev, snoops, error);
}

/* Waits for the devices that the CPU must not be in the way of. */
int dmacoh_wait_fences(struct dma_buf *buf, bool write)
{
	long ret;

	/* Most buffers have never had a fence. */
	if (!rcu_access_pointer(buf->resv->fences))
		return 0;

	ret = dma_resv_wait_timeout(buf->resv, dma_resv_usage_rw(write), true,
				    MAX_SCHEDULE_TIMEOUT);
	return ret < 0 ? ret : 0;
}

/* Whether there is something of that name in the directory of @kobj. */
bool dmacoh_sysfs_has(struct kobject *kobj, const char *name)
{
	struct kernfs_node *found = sysfs_get_dirent(kobj->sd, name);

	sysfs_put(found);
	return found;
}

void dmacoh_sysfs_attr_init(struct attribute *attr)
{
	sysfs_attr_init(attr);
}

void dmacoh_kmemleak_not_leak(const void *ptr)
{
	kmemleak_not_leak(ptr);
}

/*
 * How the DRM device behind a node of class drm or accel imports buffers. False
 * for a device of the class that is no such node.
 */
bool dmacoh_drm_node(const struct device *node, struct dmacoh_node *found)
{
	const struct drm_minor *minor = dev_get_drvdata(node);
	const char *type = node->type ? node->type->name : NULL;
	struct drm_device *drm;

	if (!minor || !type ||
	    (strcmp(type, "drm_minor") && strcmp(type, "accel_minor")))
		return false;

	drm = minor->dev;
	*found = (struct dmacoh_node) {
		.dev = drm->dev,
		.dma_dev = drm_dev_dma_dev(drm),
		.driver = drm->driver->name,
		.import = drm->driver->gem_prime_import,
		.import_table = drm->driver->gem_prime_import_sg_table,
	};
	return found->dev && (found->import || found->import_table);
}

/*
 * The same for a node of class video4linux. What has a number of such nodes is
 * part of a video device. False if it imports no buffers.
 */
bool dmacoh_video_node(struct device *node, struct dmacoh_node *found)
{
	const struct video_device *video = to_video_device(node);
	const struct vb2_queue *queue;

	if (MAJOR(node->devt) != VIDEO_MAJOR ||
	    video->vfl_type == VFL_TYPE_SUBDEV ||
	    !(video->device_caps & V4L2_CAP_STREAMING))
		return false;

	queue = video->queue;
	if (queue && !(queue->io_modes & VB2_DMABUF))
		return false;
	*found = (struct dmacoh_node) {
		.dma_dev = queue && queue->dev ? queue->dev : node->parent,
		.owner = video->fops ? video->fops->owner : NULL,
		.mem_ops = queue ? queue->mem_ops : NULL,
	};
	return found->dma_dev;
}

/*
 * The folder of the modules that use the module named @name. Nothing if no such
 * module is loaded; what is built in has no such folder.
 */
static struct kernfs_node *holders_of(const char *name)
{
	struct kobject *module = kset_find_obj(THIS_MODULE->mkobj.kobj.kset, name);
	struct kernfs_node *holders = NULL;

	if (module && module->sd)
		holders = sysfs_get_dirent(module->sd, "holders");
	kobject_put(module);
	return holders;
}

/* Whether a module of this name is loaded; false for what is built in. */
bool dmacoh_module_exists(const char *name)
{
	struct kernfs_node *holders = holders_of(name);

	sysfs_put(holders);
	return holders;
}

/* Whether @user uses symbols of the module named @used. */
bool dmacoh_module_uses(const struct module *user, const char *used)
{
	struct kernfs_node *holders = holders_of(used), *holder = NULL;

	if (holders)
		holder = sysfs_get_dirent(holders, user->name);
	sysfs_put(holder);
	sysfs_put(holders);
	return holder;
}

/* Whether the kernel knows @function by this name. */
bool dmacoh_is_function(const void *function, const char *name)
{
	char symbol[KSYM_SYMBOL_LEN];
	size_t len = strlen(name);

	/* The name of the module may follow. */
	sprint_symbol_no_offset(symbol, (unsigned long)function);
	return !strncmp(symbol, name, len) &&
	       (!symbol[len] || symbol[len] == ' ');
}

bool dmacoh_within_module(unsigned long addr, const struct module *mod)
{
	return within_module(addr, mod);
}

bool dmacoh_accounting __ro_after_init = true;
module_param_named(accounting, dmacoh_accounting, bool, 0444);
MODULE_PARM_DESC(accounting,
		 "Charge buffers to the control group of the process that allocates them");

u8 dmacoh_pool_percent __ro_after_init = 5;
module_param_named(pool_percent, dmacoh_pool_percent, byte, 0444);
MODULE_PARM_DESC(pool_percent,
		 "How much of the memory may be kept for new buffers, in per cent; 0 is none");

/*
 * The parameter "links". The text is kept here for reading; what it means is
 * decided in Rust, which refuses what it cannot follow.
 */
static char *links;

static int links_set(const char *text, const struct kernel_param *kp)
{
	char *copy = kstrdup(skip_spaces(text), GFP_KERNEL);
	int ret;

	if (!copy)
		return -ENOMEM;
	/* Without the new line that "echo" adds. */
	strim(copy);

	ret = dmacoh_set_links(copy);
	if (ret) {
		kfree(copy);
		return ret;
	}
	kfree(links);
	links = copy;
	return 0;
}

static int links_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", links ?: "");
}

static void links_free(void *arg)
{
	kfree(links);
	links = NULL;
}

static const struct kernel_param_ops links_ops = {
	.set = links_set,
	.get = links_get,
	.free = links_free,
};

module_param_cb(links, &links_ops, NULL, 0644);
MODULE_PARM_DESC(links,
		 "Heaps to link devices to, best first, instead of the default: driver=[pieces/one:|pieces/any:]heap[:heap...][,driver=...]");

void dmacoh_apply_links(void)
{
	kernel_param_lock(THIS_MODULE);
	if (links && dmacoh_set_links(links))
		links_free(NULL);
	kernel_param_unlock(THIS_MODULE);
}

MODULE_VERSION(DMACOH_VERSION);

/* Its heap is there first, also where that is a module. */
MODULE_SOFTDEP("pre: system_heap");

/* Defined in exports.rs. */
EXPORT_SYMBOL_GPL(dmabuf_is_dma_coherent);
EXPORT_SYMBOL_GPL(dma_heap_create_device_link);
EXPORT_SYMBOL_GPL(devm_dma_heap_create_device_link);
EXPORT_SYMBOL_GPL(dma_heap_remove_device_link);
EXPORT_SYMBOL_GPL(dma_heap_set_device_pieces);
