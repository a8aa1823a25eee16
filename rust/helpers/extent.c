// SPDX-License-Identifier: GPL-2.0

#include <linux/cma.h>
#include <linux/mm.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/swap.h>

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

/*
 * Returns the extent of memory below 4 GiB. It is empty if there is no memory
 * above 4 GiB, or if the kernel has no zone for memory below 4 GiB.
 */
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
/*
 * Returns the extent of the area @cma, if the device tree has it. If @cma is
 * NULL, returns the extent of all areas of the device tree that lie in @zone.
 */
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
 * Returns an extent that contains all of an area.
 *
 * For an area of the device tree, this is the extent in the device tree. Any
 * other area lies in one zone, and the result has the bounds of that zone. Its
 * size is then an upper limit: the contiguous memory of the zone, less the
 * areas of the device tree.
 *
 * To find the zone, this allocates a page of the area. The extent is empty if
 * the area has no free page. An area that the kernel could not activate never
 * has one.
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
#else
struct dmacoh_extent dmacoh_cma_extent(struct cma *cma)
{
	return (struct dmacoh_extent) {};
}
#endif

/*
 * Returns how many of @anonymous pages of anonymous memory can be swapped out.
 */
static long swappable_pages(unsigned long anonymous)
{
	return min_t(long, get_nr_swap_pages(), anonymous);
}

/*
 * Estimates how many pages can be allocated, also by reclaim and swap. Does not
 * count free CMA memory, because only movable pages can be allocated from it.
 */
long dmacoh_available_pages(void)
{
	return si_mem_available() - (long)global_zone_page_state(NR_FREE_CMA_PAGES) +
	       swappable_pages(global_node_page_state(NR_ACTIVE_ANON) +
			       global_node_page_state(NR_INACTIVE_ANON));
}

/*
 * Estimates how many pages below 4 GiB can be allocated: those that are free,
 * are in the page cache, or can be swapped out. Does not count free CMA memory.
 */
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
