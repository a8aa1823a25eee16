// SPDX-License-Identifier: GPL-2.0

#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <linux/kallsyms.h>
#include <linux/major.h>
#include <media/v4l2-dev.h>
#include <media/v4l2-ioctl.h>
#include <media/videobuf2-core.h>

#include "helpers.h"

/*
 * Finds out how the DRM device behind a node of class drm or accel imports
 * buffers. Returns false if @node is a device of the class but no such node,
 * for example a connector, or if it imports no buffers.
 */
bool dmacoh_drm_node(const struct device *node, struct dmacoh_node *found)
{
	const struct drm_minor *minor = dev_get_drvdata(node);
	const char *type = node->type ? node->type->name : NULL;
	struct drm_device *drm;

	if (!minor || !type ||
	    (strcmp(type, "drm_minor") && strcmp(type, "accel_minor")))
		return false;

	drm = minor->dev;
	*found = (struct dmacoh_node) {
		.dev = drm->dev,
		.dma_dev = drm_dev_dma_dev(drm),
		.driver = drm->driver->name,
		.import = drm->driver->gem_prime_import,
		.import_table = drm->driver->gem_prime_import_sg_table,
	};
	return found->dev && (found->import || found->import_table);
}

/*
 * Does the same for a device of class video4linux. The device is part of a
 * struct video_device if it has the major number of video nodes. Returns false
 * for any other device, or if the node imports no buffers.
 */
bool dmacoh_video_node(struct device *node, struct dmacoh_node *found)
{
	const struct video_device *video = to_video_device(node);
	const struct vb2_queue *queue;

	if (MAJOR(node->devt) != VIDEO_MAJOR ||
	    video->vfl_type == VFL_TYPE_SUBDEV ||
	    !(video->device_caps & V4L2_CAP_STREAMING))
		return false;

	queue = video->queue;
	if (queue && !(queue->io_modes & VB2_DMABUF))
		return false;
	*found = (struct dmacoh_node) {
		.dma_dev = queue && queue->dev ? queue->dev : node->parent,
		.owner = video->fops ? video->fops->owner : NULL,
		.mem_ops = queue ? queue->mem_ops : NULL,
	};
	return found->dma_dev;
}

/* Returns whether kallsyms has this name for @function. */
bool dmacoh_is_function(const void *function, const char *name)
{
	char symbol[KSYM_SYMBOL_LEN];
	size_t len = strlen(name);

	/* The name of the function's module may follow, after a blank. */
	sprint_symbol_no_offset(symbol, (unsigned long)function);
	return !strncmp(symbol, name, len) &&
	       (!symbol[len] || symbol[len] == ' ');
}
