// SPDX-License-Identifier: GPL-2.0
#include <linux/errno.h>

/* snippet: coherent-function */

struct object {
	struct dma_buf *dma_buf;
};

struct plane;

static bool plane_snoops(const struct plane *plane)
{
	return plane;
}

int snippet_coherent(struct object *obj, const struct plane *plane);
int snippet_coherent(struct object *obj, const struct plane *plane)
{
	/* snippet: coherent-use */
	return 0;
}
