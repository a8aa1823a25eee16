// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A buffer that several devices share, by libdmaheap:
 * share / /dev/video0 /dev/dri/card0. The first argument is the root of the machine.
 * Build it with: cc share.c $(pkg-config --cflags --libs libdmaheap)
 */
#include <dmaheap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program with the sentence about what has failed. */
static int check(int result)
{
	if (result < 0) {
		fprintf(stderr, "%s\n", dmaheap_error());
		exit(1);
	}
	return result;
}

int main(int argc, char **argv)
{
	struct dmaheap_system *system;
	struct dmaheap_device *devices[8];
	struct dmaheap_choice *choice;
	const struct dmaheap_objection *objection;
	const struct dmaheap_heap *heap;
	struct dmaheap_allocator *allocator;
	struct dmaheap_mapping *frame;
	size_t i, count = 0;
	int fd;

	check(dmaheap_system_new(argc > 1 ? argv[1] : NULL, &system));
	for (; count < 8 && count + 2 < (size_t)argc; count++)
		check(dmaheap_device_new(system, argv[count + 2], &devices[count]));

	check(dmaheap_choice_new(system, devices, count, 8 << 20, 0, &choice));
	for (i = 0; (objection = dmaheap_choice_objection(choice, i)); i++)
		printf("%s\n", dmaheap_objection_sentence(objection));
	check(dmaheap_choice_best(choice, &heap));
	printf("the best is %s\n", dmaheap_heap_node(heap));

	check(dmaheap_allocator_new(heap, &allocator));
	fd = check(dmaheap_alloc(allocator, 8 << 20, "frame", 0));

	/* Brackets around each access of the CPU. */
	check(dmaheap_mapping_new(fd, &frame));
	check(dmaheap_mapping_begin(frame, DMAHEAP_WRITE));
	memset(dmaheap_mapping_data(frame), 0x80, dmaheap_mapping_size(frame));
	check(dmaheap_mapping_end(frame, DMAHEAP_WRITE));

	/* fd is for both devices: VIDIOC_QBUF, DRM_IOCTL_PRIME_FD_TO_HANDLE. */
	dmaheap_mapping_free(frame);
	dmaheap_allocator_free(allocator);
	dmaheap_choice_free(choice);
	for (i = 0; i < count; i++)
		dmaheap_device_free(devices[i]);
	dmaheap_system_free(system);
	return 0;
}
