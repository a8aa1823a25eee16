/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabuf_memtype.ko: how the memory of a dma-buf is mapped, as the page tables
 * have it.
 *
 * Each ioctl on /dev/dmabuf_memtype looks at one page and changes nothing.
 *
 * Errors:
 *
 *   EFAULT      the argument cannot be read or written
 *   EINVAL      USER: no page frame is mapped there by a driver; FRAME: no such
 *               frame in the direct mapping; VMAP: beyond the end, or the
 *               descriptor is no dma-buf
 *   EBADF       VMAP: the descriptor is closed
 *   EOPNOTSUPP  VMAP: the exporter maps I/O memory
 *
 * Those of the exporter are passed on unchanged.
 */
#ifndef _DMABUF_MEMTYPE_H
#define _DMABUF_MEMTYPE_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct dmabuf_memtype_query {
	/*
	 * USER: an address in the caller's memory. FRAME: a page frame number.
	 * VMAP: an offset in the dma-buf.
	 */
	__u64 where;
	/* Returned by USER: the page frame number. */
	__u64 frame;
	/* VMAP: the dma-buf. */
	__s32 fd;
	/* Returned. */
	__u32 type;
};

/* Memory types. */
#define DMABUF_MEMTYPE_WRITE_BACK	0
#define DMABUF_MEMTYPE_WRITE_COMBINING	1
#define DMABUF_MEMTYPE_OTHER		2

/* USER looks at a mapping of page frames in the calling process. */
#define DMABUF_MEMTYPE_IOC_USER		_IOWR(0xf6, 0, struct dmabuf_memtype_query)
/* FRAME looks at the kernel's direct mapping. */
#define DMABUF_MEMTYPE_IOC_FRAME	_IOWR(0xf6, 1, struct dmabuf_memtype_query)
/* VMAP maps a dma-buf into the kernel, looks at that, and unmaps it again. */
#define DMABUF_MEMTYPE_IOC_VMAP		_IOWR(0xf6, 2, struct dmabuf_memtype_query)

#endif /* _DMABUF_MEMTYPE_H */
