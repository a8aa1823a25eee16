// SPDX-License-Identifier: GPL-2.0
/*
 * The C that Rust cannot do without: inline functions, macros, tracepoints
 * and exports.
 */

#include <linux/device.h>
#include <linux/dmabuf_coherency.h>
#include <linux/export.h>
#include <linux/iosys-map.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/swiotlb.h>
#include <linux/vmalloc.h>

#include "helpers.h"

#define CREATE_TRACE_POINTS
#include <trace/events/dmabuf_coherency.h>

bool dmacoh_dev_dma_coherent(const struct device *dev)
{
	return dev_dma_coherent(dev);
}

bool dmacoh_dev_forced_bounce(struct device *dev)
{
	/* An IOMMU in between makes bouncing a matter of each mapping. */
	return !dev_dma_iommu(dev) && is_swiotlb_force_bounce(dev);
}

bool dmacoh_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
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

void dmacoh_iosys_map_set_vaddr(struct iosys_map *map, void *vaddr)
{
	iosys_map_set_vaddr(map, vaddr);
}

void dmacoh_sg_set_page(struct scatterlist *sg, struct page *page,
			unsigned int len, unsigned int offset)
{
	sg_set_page(sg, page, len, offset);
}

void *dmacoh_vmap(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL);
}

void dmacoh_trace_attach(const char *heap, struct device *dev, bool snoops,
			 int error)
{
	trace_dmabuf_coherency_attach(heap, dev, snoops, error);
}

/* Defined in exports.rs. */
EXPORT_SYMBOL_GPL(dmabuf_is_dma_coherent);
