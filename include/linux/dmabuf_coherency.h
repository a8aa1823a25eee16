/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What dmabuf_coherency.ko offers to other kernel modules.
 *
 * See Documentation/driver-guide.rst.
 */
#ifndef _LINUX_DMABUF_COHERENCY_H
#define _LINUX_DMABUF_COHERENCY_H

#include <linux/types.h>

struct dma_buf;

/*
 * Whether only devices that snoop the CPU caches may use this buffer. False
 * for the buffers of any other exporter, of which nothing is known.
 *
 * Callable in any context while the caller holds a reference to @dma_buf; the
 * answer does not change during the buffer's life.
 */
bool dmabuf_is_dma_coherent(const struct dma_buf *dma_buf);

#endif /* _LINUX_DMABUF_COHERENCY_H */
