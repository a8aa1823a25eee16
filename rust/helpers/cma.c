// SPDX-License-Identifier: GPL-2.0

#include <linux/cma.h>
#include <linux/dma-map-ops.h>

#include "helpers.h"

#ifdef CONFIG_DMA_CMA
/*
 * Returns the area number @index, NULL if there is none. The default area is
 * number 0, if the kernel has one.
 */
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

/* Returns the area that is reserved for @dev, NULL if there is none. */
struct cma *dmacoh_dev_cma(const struct device *dev)
{
	return dev->cma_area;
}

const char *dmacoh_cma_name(const struct cma *cma)
{
	return cma == dev_get_cma_area(NULL) ? "default_cma_region" :
					       cma_get_name(cma);
}

struct page *dmacoh_cma_alloc_pages(struct cma *cma, unsigned long nr_pages)
{
	unsigned int order = get_order(nr_pages << PAGE_SHIFT);
	unsigned int align = min(order, CONFIG_CMA_ALIGNMENT);
	struct page *page = NULL;

	/*
	 * PMD entries can map a block that is aligned to PMD_ORDER. Ask for
	 * that alignment if the block then needs no more room in the area.
	 */
	if (nr_pages >= BIT(PMD_ORDER) && align < PMD_ORDER &&
	    ALIGN(nr_pages, BIT(PMD_ORDER)) == ALIGN(nr_pages, BIT(align)))
		page = cma_alloc(cma, nr_pages, PMD_ORDER, true);
	return page ?: cma_alloc(cma, nr_pages, align, true);
}

void dmacoh_cma_release_pages(struct cma *cma, const struct page *page,
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

struct page *dmacoh_cma_alloc_pages(struct cma *cma, unsigned long nr_pages)
{
	return NULL;
}

void dmacoh_cma_release_pages(struct cma *cma, const struct page *page,
			      unsigned long nr_pages)
{
}
#endif
