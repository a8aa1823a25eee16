// SPDX-License-Identifier: GPL-2.0

#include <linux/scatterlist.h>

#include "helpers.h"

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
