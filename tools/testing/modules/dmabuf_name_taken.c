// SPDX-License-Identifier: GPL-2.0
/*
 * Registers a DMA heap under a given name. A test can then check what another
 * module does that wants to register a heap of the same name. Allocations from
 * the heap fail. This module has no exit, because a heap cannot be removed.
 */

#include <linux/dma-heap.h>
#include <linux/err.h>
#include <linux/module.h>

static char *name = "system-coherent";
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "Name of the heap");

static struct dma_buf *allocate(struct dma_heap *heap, unsigned long len,
				u32 fd_flags, u64 heap_flags)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static const struct dma_heap_ops ops = {
	.allocate = allocate,
};

static int __init dmabuf_name_taken_init(void)
{
	const struct dma_heap_export_info info = {
		.name = name,
		.ops = &ops,
	};

	return PTR_ERR_OR_ZERO(dma_heap_add(&info));
}
module_init(dmabuf_name_taken_init);

MODULE_AUTHOR("dmabuf-coherency maintainers");
MODULE_DESCRIPTION("Takes the name of a DMA heap");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF_HEAP");
