// SPDX-License-Identifier: GPL-2.0
/*
 * The parts of the module that must be in C: the tracepoint, the parameters and
 * the exports.
 */

#include <linux/dmabuf_coherency.h>
#include <linux/export.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "helpers/helpers.h"

#define CREATE_TRACE_POINTS
#include <trace/events/dmabuf_coherency.h>

void dmacoh_trace_attach(const char *heap, struct device *dev, bool snoops,
			 int error)
{
	trace_dmabuf_coherency_attach(heap, dev, snoops, error);
}

bool dmacoh_accounting __ro_after_init = true;
module_param_named(accounting, dmacoh_accounting, bool, 0444);
MODULE_PARM_DESC(accounting,
		 "Charge buffers to the control group of the process that allocates them");

u8 dmacoh_pool_percent __ro_after_init = 5;
module_param_named(pool_percent, dmacoh_pool_percent, byte, 0444);
MODULE_PARM_DESC(pool_percent,
		 "How much of the memory may be kept for new buffers, in per cent; 0 is none");

/*
 * The value of the parameter "links", stored so that it can be read back. The
 * Rust code interprets it, and refuses a value that is wrong.
 */
static char *links;

static int links_set(const char *text, const struct kernel_param *kp)
{
	char *copy = kstrdup(skip_spaces(text), GFP_KERNEL);
	int ret;

	if (!copy)
		return -ENOMEM;
	/* "echo" adds a newline. */
	strim(copy);

	ret = dmacoh_set_links(copy);
	if (ret) {
		kfree(copy);
		return ret;
	}
	kfree(links);
	links = copy;
	return 0;
}

static int links_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", links ?: "");
}

static void links_free(void *arg)
{
	kfree(links);
	links = NULL;
}

static const struct kernel_param_ops links_ops = {
	.set = links_set,
	.get = links_get,
	.free = links_free,
};

module_param_cb(links, &links_ops, NULL, 0644);
MODULE_PARM_DESC(links,
		 "Heaps to link devices to, best first, instead of the default: driver=[pieces/one:|pieces/any:]heap[:heap...][,driver=...]");

void dmacoh_apply_links(void)
{
	kernel_param_lock(THIS_MODULE);
	if (links && dmacoh_set_links(links))
		links_free(NULL);
	kernel_param_unlock(THIS_MODULE);
}

MODULE_VERSION(DMACOH_VERSION);

/* Load the module of the heap "system" first, if that heap is not built in. */
MODULE_SOFTDEP("pre: system_heap");

/* Defined in exports.rs. */
EXPORT_SYMBOL_GPL(dmabuf_is_dma_coherent);
EXPORT_SYMBOL_GPL(dma_heap_create_device_link);
EXPORT_SYMBOL_GPL(devm_dma_heap_create_device_link);
EXPORT_SYMBOL_GPL(dma_heap_remove_device_link);
EXPORT_SYMBOL_GPL(dma_heap_set_device_pieces);
