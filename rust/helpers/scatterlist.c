// SPDX-License-Identifier: GPL-2.0

#include <linux/scatterlist.h>

#include "helpers.h"

/*
 * Makes a table with an entry for each of the @count blocks at @block. The
 * blocks are structures that lie @stride bytes apart. Each structure begins
 * with the first page and the number of pages: see `Segment` in scatterlist.rs.
 * If @count is 1, the table uses @own as its only entry, and need not be freed.
 */
int dmacoh_sg_make(struct sg_table *table, struct scatterlist *own,
		   const void *block, size_t stride, unsigned int count)
{
	const struct {
		struct page *page;
		unsigned long nr_pages;
	} *segment;
	struct scatterlist *sg;
	int err;

	if (count == 1) {
		*own = (struct scatterlist){};
		sg_init_marker(own, 1);
		*table = (struct sg_table){
			.sgl = own,
			.nents = 1,
			.orig_nents = 1,
		};
	} else {
		err = sg_alloc_table(table, count, GFP_KERNEL);
		if (err)
			return err;
	}

	for (sg = table->sgl; count; count--) {
		segment = block;
		if (unlikely(sg_is_chain(sg)))
			sg = sg_chain_ptr(sg);
		sg_assign_page(sg, segment->page);
		sg->length = segment->nr_pages << PAGE_SHIFT;
		block += stride;
		sg++;
	}
	return 0;
}
