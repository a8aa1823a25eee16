// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/swap.h>
#ifdef CONFIG_X86
#include <linux/set_memory.h>
#endif

#include "helpers.h"

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

/* How many of so many pages of anonymous memory can be swapped out. */
static long swappable_pages(unsigned long anonymous)
{
	return min_t(long, get_nr_swap_pages(), anonymous);
}

/* Contiguous memory is left out: it is for pages that can be moved. */

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

/* The whole pages that have been reserved under @name when the kernel booted. */
struct page *dmacoh_reserved_pages(const char *name, unsigned long *nr_pages)
{
	phys_addr_t start, size;
	unsigned long first, end;

	if (!reserve_mem_find_by_name(name, &start, &size))
		return NULL;
	first = PFN_UP(start);
	end = PFN_DOWN(start + size);
	if (first >= end)
		return NULL;
	*nr_pages = end - first;
	return pfn_to_page(first);
}
