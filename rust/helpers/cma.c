// SPDX-License-Identifier: GPL-2.0

#include <linux/cma.h>
#include <linux/dma-map-ops.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/sched/mm.h>
#include <linux/string.h>

#include "helpers.h"

#ifdef CONFIG_DMA_CMA
/* The default area comes first, if there is one. NULL behind the last. */
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

/* The extent of an area, or of all areas in a zone, by the device tree. */
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
 * The device tree tells where its areas lie. Any other area lies in one zone, and
 * is no larger than what the areas of the device tree leave of the contiguous
 * memory there. The extent of an area that has no page to give is empty: an area
 * that the kernel could not activate never has any.
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
