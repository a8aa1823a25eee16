// SPDX-License-Identifier: GPL-2.0
#include <linux/dmabuf_coherency.h>
#include <linux/module.h>

bool snippet_lookup(const struct dma_buf *dma_buf);
bool snippet_lookup(const struct dma_buf *dma_buf)
{
	/* snippet: symbol-get */
	return is_coherent && is_coherent(dma_buf);
}
