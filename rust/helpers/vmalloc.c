// SPDX-License-Identifier: GPL-2.0

#include <linux/pgtable.h>
#include <linux/vmalloc.h>

#include "helpers.h"

void *dmacoh_vmap_pages(struct page **pages, unsigned int count,
			bool write_combining)
{
	pgprot_t prot = PAGE_KERNEL;

	if (write_combining)
		prot = pgprot_writecombine(prot);
	return vmap(pages, count, VM_MAP, prot);
}
