// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#ifdef CONFIG_X86
#include <linux/set_memory.h>
#endif

#include "helpers.h"

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
 * On x86, all mappings of a page must have the same caching, so the direct
 * mapping has to change. On other architectures it cannot be changed, and stays
 * as it is.
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

/* Stores @next and @nr_pages in fields of @page that its owner may use. */
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

/*
 * Returns the first page of the memory that the kernel parameter reserve_mem=
 * has reserved under @name, NULL if there is none. Only whole pages count.
 */
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
