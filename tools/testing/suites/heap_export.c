// SPDX-License-Identifier: GPL-2.0
/*
 * For a test program that exports buffers of one video device and queues them
 * at another: preloaded, it makes these buffers of a heap.
 *
 *   LD_PRELOAD=/heap_export.so EXPORTER=/dev/video1 HEAP=/dev/dma_heap/system \
 *           v4l2-compliance -d /dev/video0 -e /dev/video1 -s
 *
 * In the end it says how many there were.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <err.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned int replaced;

/* Children that it forks would say once more what is still in its buffer. */
__attribute__((constructor)) static void say_at_once(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static int is_exporter(int fd)
{
	struct stat exporter, other;

	return !stat(getenv("EXPORTER"), &exporter) && !fstat(fd, &other) &&
	       exporter.st_rdev == other.st_rdev;
}

int ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int fd, unsigned long request, ...) = dlsym(RTLD_NEXT, "ioctl");
	struct dma_heap_allocation_data alloc = { .fd_flags = O_RDWR | O_CLOEXEC };
	struct v4l2_exportbuffer *buffer;
	va_list arguments;
	int heap, result;

	va_start(arguments, request);
	buffer = va_arg(arguments, void *);
	va_end(arguments);
	result = next(fd, request, buffer);
	if (result || request != VIDIOC_EXPBUF || !is_exporter(fd))
		return result;

	/* The descriptor stays, and is that of another buffer of the same size. */
	alloc.len = lseek(buffer->fd, 0, SEEK_END);
	heap = open(getenv("HEAP"), O_RDWR | O_CLOEXEC);
	if (heap < 0 || next(heap, DMA_HEAP_IOCTL_ALLOC, &alloc) ||
	    dup3(alloc.fd, buffer->fd, O_CLOEXEC) < 0)
		err(1, "%s", getenv("HEAP"));
	close(alloc.fd);
	close(heap);
	replaced++;
	return 0;
}

__attribute__((destructor)) static void say(void)
{
	printf("heap_export: %u buffers of %s\n", replaced, getenv("HEAP"));
}
