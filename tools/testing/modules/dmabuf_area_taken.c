// SPDX-License-Identifier: GPL-2.0
/*
 * Allocates all pages of the default contiguous memory area until the module is
 * unloaded. A test can then check what happens to an area without a free page.
 */

#include <linux/cma.h>
#include <linux/dma-map-ops.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>

static LIST_HEAD(taken);

static void __exit dmabuf_area_taken_exit(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &taken, lru) {
		list_del(&page->lru);
		cma_release(dev_get_cma_area(NULL), page,
			    1UL << page_private(page));
	}
}
module_exit(dmabuf_area_taken_exit);

static int __init dmabuf_area_taken_init(void)
{
	struct cma *area = dev_get_cma_area(NULL);
	int order;

	if (!area)
		return -ENODEV;
	for (order = MAX_PAGE_ORDER; order >= 0; order--) {
		struct page *page;

		while ((page = cma_alloc(area, 1UL << order, 0, true))) {
			set_page_private(page, order);
			list_add(&page->lru, &taken);
		}
	}
	return 0;
}
module_init(dmabuf_area_taken_init);

MODULE_AUTHOR("dmabuf-coherency maintainers");
MODULE_DESCRIPTION("Takes all of the default contiguous memory area");
MODULE_LICENSE("GPL");
