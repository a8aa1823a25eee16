/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabuf_memtype.ko: tells from the page tables how the memory of a dma-buf is
 * mapped.
 *
 * Each ioctl on /dev/dmabuf_memtype examines one page and changes nothing.
 *
 * Errors:
 *
 *   EFAULT      the argument cannot be read or written
 *   EINVAL      USER: no driver has mapped a page frame at the address
 *               FRAME: the direct mapping does not have the page frame
 *               VMAP: the offset exceeds the buffer, or the file is no dma-buf
 *   EBADF       VMAP: the file descriptor is not open
 *   EOPNOTSUPP  VMAP: the exporter maps I/O memory
 *
 * Errors of the exporter are passed on unchanged.
 */
#ifndef _DMABUF_MEMTYPE_H
#define _DMABUF_MEMTYPE_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct dmabuf_memtype_query {
	/*
	 * USER: a virtual address of the calling process. FRAME: a page frame
	 * number. VMAP: an offset in the dma-buf, in bytes.
	 */
	__u64 where;
	/* Returned by USER: the page frame number. */
	__u64 frame;
	/* VMAP: the dma-buf. */
	__s32 fd;
	/* Returned: the memory type, one of those below. */
	__u32 type;
};

#define DMABUF_MEMTYPE_WRITE_BACK	0
#define DMABUF_MEMTYPE_WRITE_COMBINING	1
#define DMABUF_MEMTYPE_OTHER		2

/* USER examines a mapping of page frames in the calling process. */
#define DMABUF_MEMTYPE_IOC_USER		_IOWR(0xf6, 0, struct dmabuf_memtype_query)
/* FRAME examines the kernel's direct mapping. */
#define DMABUF_MEMTYPE_IOC_FRAME	_IOWR(0xf6, 1, struct dmabuf_memtype_query)
/* VMAP maps a dma-buf into the kernel, examines this mapping, and unmaps it. */
#define DMABUF_MEMTYPE_IOC_VMAP		_IOWR(0xf6, 2, struct dmabuf_memtype_query)

#endif /* _DMABUF_MEMTYPE_H */
