/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The functions that dmabuf_coherency.ko exports to other kernel modules.
 *
 * See Documentation/driver-guide.rst.
 */
#ifndef _LINUX_DMABUF_COHERENCY_H
#define _LINUX_DMABUF_COHERENCY_H

#include <linux/types.h>

struct device;
struct dma_buf;

/*
 * Returns whether only devices that snoop the CPU caches may use the buffer.
 * Returns false for a buffer of another exporter, because the module knows
 * nothing of it.
 *
 * Callable in any context. The caller must hold a reference to @dma_buf. The
 * result does not change during the lifetime of the buffer.
 */
bool dmabuf_is_dma_coherent(const struct dma_buf *dma_buf);

/*
 * Makes the heap named @heap the first choice for @dev. In the sysfs directory
 * of @dev, the link "dma_heap" then points to this heap, and the file
 * "dma_heaps/order" lists it first. The driver of @dev may call this in its
 * probe function or later. May sleep.
 *
 * Returns 0, or
 * -EINVAL	if there is no heap of that name,
 * -EEXIST	if the driver has already chosen a heap for @dev,
 * -EOPNOTSUPP	if the heap would refuse @dev, or if its buffers may have more
 *		pieces than @dev is known to accept,
 * -ENODEV	if @dev is not bound to a driver,
 * -ENOMEM	if there is not enough memory.
 */
int dma_heap_create_device_link(struct device *dev, const char *heap);

/*
 * Undoes dma_heap_create_device_link(). Links that the module creates by itself
 * stay. Does nothing if the driver of @dev has not chosen a heap. May sleep.
 */
void dma_heap_remove_device_link(struct device *dev);

/*
 * As dma_heap_create_device_link(), but the choice is undone automatically when
 * @dev is unbound from its driver.
 */
int devm_dma_heap_create_device_link(struct device *dev, const char *heap);

/* In how many physical pieces a device accepts a buffer: any number, or one. */
enum dma_heap_pieces {
	DMA_HEAP_PIECES_ANY,
	DMA_HEAP_PIECES_ONE,
};

/*
 * Tells the module in how many physical pieces @dev accepts a buffer. This only
 * matters if no IOMMU maps the pieces as one.
 *
 * The module knows the number for drivers that import by the usual helpers. A
 * driver may call this function if it imports in its own way, or if its queues
 * belong to open files. If a device needs one piece, or if nothing is known,
 * the module only links it to contiguous heaps. May sleep.
 *
 * The number is valid until @dev is unbound from its driver. Returns 0, or
 * -EINVAL	if @pieces is none of the above,
 * -ENODEV	if @dev is not bound to a driver,
 * -ENOMEM	if there is not enough memory.
 */
int dma_heap_set_device_pieces(struct device *dev, enum dma_heap_pieces pieces);

#endif /* _LINUX_DMABUF_COHERENCY_H */
