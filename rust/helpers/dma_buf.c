// SPDX-License-Identifier: GPL-2.0

#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/iosys-map.h>

#include "helpers.h"

void dmacoh_iosys_map_set_vaddr(struct iosys_map *map, void *vaddr)
{
	iosys_map_set_vaddr(map, vaddr);
}

/*
 * Waits for the fences of devices that write to @buf. If @write is set, also
 * waits for those of devices that read.
 */
int dmacoh_dma_buf_wait_fences(struct dma_buf *buf, bool write)
{
	long ret;

	/* Take a shortcut: most buffers have never had a fence. */
	if (!rcu_access_pointer(buf->resv->fences))
		return 0;

	ret = dma_resv_wait_timeout(buf->resv, dma_resv_usage_rw(write), true,
				    MAX_SCHEDULE_TIMEOUT);
	return ret < 0 ? ret : 0;
}
