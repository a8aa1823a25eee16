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
 * -EOPNOTSUPP	if the heap would refuse @dev,
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

#endif /* _LINUX_DMABUF_COHERENCY_H */
