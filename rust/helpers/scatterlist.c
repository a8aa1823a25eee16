// SPDX-License-Identifier: GPL-2.0

#include <linux/scatterlist.h>

#include "helpers.h"

/*
 * Fills a new table with blocks that lie @stride bytes apart. Each begins with its
 * first page and the number of pages: see `Segment` in scatterlist.rs.
 */
void dmacoh_sg_fill(struct sg_table *table, const void *block, size_t stride)
{
	const struct {
		struct page *page;
		unsigned long nr_pages;
	} *segment;
	struct scatterlist *sg = table->sgl;
	unsigned int left;

	for (left = table->orig_nents; left; left--) {
		segment = block;
		if (unlikely(sg_is_chain(sg)))
			sg = sg_chain_ptr(sg);
		sg_assign_page(sg, segment->page);
		sg->length = segment->nr_pages << PAGE_SHIFT;
		block += stride;
		sg++;
	}
}
