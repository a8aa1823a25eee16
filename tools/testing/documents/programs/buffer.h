/* SPDX-License-Identifier: GPL-2.0 */
/* What the snippets take for granted: a buffer. */
#include <err.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "linux/dmabuf_coherency.h"

#define SIZE 65536

static int allocate(void)
{
	struct dma_heap_allocation_data data = { .len = SIZE, .fd_flags = O_RDWR | O_CLOEXEC };
	int heap = open("/dev/dma_heap/system-noncoherent", O_RDONLY | O_CLOEXEC);

	if (heap < 0 || ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data))
		err(1, "allocating");
	return data.fd;
}
