// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A buffer that the devices of these nodes share, without the library:
 * choose /dev/video0 /dev/dri/card0. Takes the first of the first node's order
 * that all have and that may be opened.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/dma-heap.h>

/* Whether the device of a node is linked to a heap. "" stands for its list. */
static int linked(const char *node, const char *heap, char path[static 512])
{
	struct stat st;

	if (stat(node, &st))
		err(1, "%s", node);
	snprintf(path, 512, "/sys/dev/char/%u:%u/device/dma_heaps/%s",
		 major(st.st_rdev), minor(st.st_rdev), *heap ? heap : "order");
	return !access(path, F_OK);
}

int main(int argc, char **argv)
{
	struct dma_heap_allocation_data buf = { .len = 8 << 20, .fd_flags = O_RDWR | O_CLOEXEC };
	char path[512], name[256];
	FILE *order = argc > 1 && linked(argv[1], "", path) ? fopen(path, "r") : NULL;

	while (order && fscanf(order, "%255s", name) == 1) {
		int i, heap, all = 1;

		for (i = 2; i < argc; i++)
			all &= linked(argv[i], name, path);
		snprintf(path, sizeof(path), "/dev/dma_heap/%s", name);
		heap = all ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		if (heap < 0)
			continue;
		if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &buf))
			err(1, "%s", path);
		printf("%llu bytes of %s\n", buf.len, path);
		return 0; /* buf.fd is the dma-buf: VIDIOC_QBUF, DRM_IOCTL_PRIME_FD_TO_HANDLE. */
	}
	errx(1, "no heap is known to fit: do what you did before there were links");
}
