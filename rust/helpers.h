/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C inline functions and macros that the Rust code calls. The prototypes are
 * read by helpers.c and by bindgen alike, so that both sides agree.
 */
#ifndef _DMABUF_COHERENCY_HELPERS_H
#define _DMABUF_COHERENCY_HELPERS_H

#include <linux/types.h>

struct device;
struct iosys_map;
struct page;
struct scatterlist;

bool dmacoh_dev_dma_coherent(const struct device *dev);
bool dmacoh_dev_forced_bounce(struct device *dev);
bool dmacoh_fatal_signal_pending(void);
void *dmacoh_page_address(const struct page *page);
unsigned long dmacoh_page_to_pfn(const struct page *page);
struct page *dmacoh_virt_to_page(const void *addr);
void dmacoh_iosys_map_set_vaddr(struct iosys_map *map, void *vaddr);
void dmacoh_sg_set_page(struct scatterlist *sg, struct page *page,
			unsigned int len, unsigned int offset);
void *dmacoh_vmap(struct page **pages, unsigned int count);
void dmacoh_trace_attach(const char *heap, struct device *dev, bool snoops,
			 int error);

#endif /* _DMABUF_COHERENCY_HELPERS_H */
