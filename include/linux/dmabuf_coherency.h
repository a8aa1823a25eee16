/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What dmabuf_coherency.ko offers to other kernel modules.
 *
 * See Documentation/driver-guide.rst.
 */
#ifndef _LINUX_DMABUF_COHERENCY_H
#define _LINUX_DMABUF_COHERENCY_H

#include <linux/types.h>

struct device;
struct dma_buf;

/*
 * Whether only devices that snoop the CPU caches may use this buffer. False
 * for the buffers of any other exporter, of which nothing is known.
 *
 * Callable in any context while the caller holds a reference to @dma_buf; the
 * answer does not change during the buffer's life.
 */
bool dmabuf_is_dma_coherent(const struct dma_buf *dma_buf);

/*
 * Makes the heap named @heap the first choice for @dev: the link "dma_heap" in
 * the directory of @dev in sysfs points to it, and it comes first in
 * "dma_heaps". To be called by the driver of @dev, in its probe function or
 * later. May sleep.
 *
 * Returns 0, or
 * -EINVAL	if there is no heap of that name,
 * -EEXIST	if there is such a link already,
 * -EOPNOTSUPP	if the heap would refuse @dev, or has buffers in more pieces
 *		than @dev is known to take,
 * -ENODEV	if @dev has no driver,
 * -ENOMEM	if there is no memory for it.
 */
int dma_heap_create_device_link(struct device *dev, const char *heap);

/*
 * Takes that back; what the module itself would choose remains. Harmless
 * without such a link. May sleep.
 */
void dma_heap_remove_device_link(struct device *dev);

/* The same as the first, until @dev is unbound from its driver. */
int devm_dma_heap_create_device_link(struct device *dev, const char *heap);

/* In how many physical pieces a device takes a buffer. */
enum dma_heap_pieces {
	DMA_HEAP_PIECES_ANY,
	DMA_HEAP_PIECES_ONE,
};

/*
 * Says in how many physical pieces @dev takes a buffer, where no IOMMU makes
 * one of many. The module knows that of drivers that import by the usual
 * helpers; drivers with ways of their own, and those whose queues belong to
 * open files, may say it. A device that needs one piece is linked to
 * contiguous heaps only, as is one that nothing is known of. May sleep.
 *
 * Holds until @dev is unbound from its driver. Returns 0, or
 * -EINVAL	if @pieces is none of the above,
 * -ENODEV	if @dev has no driver,
 * -ENOMEM	if there is no memory for it.
 */
int dma_heap_set_device_pieces(struct device *dev, enum dma_heap_pieces pieces);

#endif /* _LINUX_DMABUF_COHERENCY_H */
