// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * All of libdmaheap over a made-up tree: capi ROOT HANDLE... prints what it sees of
 * it, for capi.rs to compare with what the Rust library sees, and checks what fails.
 */
#define _GNU_SOURCE	/* RTLD_NEXT */
#include <dirent.h>
#include <dlfcn.h>
#include <dmaheap.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failures;

static void expect(int right, const char *what, int got)
{
	if (right)
		return;
	printf("%s: got %d, and the sentence \"%s\"\n", what, got, dmaheap_error());
	failures++;
}

#define OK(call)	do { int got = (call); expect(got >= 0, #call, got); } while (0)
#define FAILS(call, error, sentence)						\
	do {									\
		int got = (call);						\
		expect(got == -(error) && strstr(dmaheap_error(), sentence), #call, got); \
	} while (0)

static const char *or_none(const char *text)
{
	return text ? text : "none";
}

static void number(const char *name, uint64_t number)
{
	if (number == DMAHEAP_NO_NUMBER)
		printf(" %s=-1", name);
	else
		printf(" %s=%llu", name, (unsigned long long)number);
}

static void show_heap(const struct dmaheap_heap *heap)
{
	printf("heap %s %s exporter=%d coherent=%d refuses=%d mapping=%d contiguous=%d",
	       dmaheap_heap_name(heap), dmaheap_heap_node(heap), dmaheap_heap_exporter(heap),
	       dmaheap_heap_dma_coherent(heap), dmaheap_heap_refuses_snooping(heap),
	       dmaheap_heap_cpu_mapping(heap), dmaheap_heap_contiguous(heap));
	number("capacity", dmaheap_heap_capacity(heap));
	number("limit", dmaheap_heap_limit(heap));
	number("buffers", dmaheap_heap_buffers(heap));
	number("bytes", dmaheap_heap_bytes(heap));
	number("refused", dmaheap_heap_refused(heap));
	printf(" access=%d group=%s\n", dmaheap_heap_access(heap),
	       or_none(dmaheap_heap_group(heap)));
}

static void show_device(const struct dmaheap_device *device)
{
	const char *text;
	size_t i;

	printf("device %s %s %s %s known=%d snoops=%d bits=%d iommu=%d pieces=%d",
	       dmaheap_device_name(device), dmaheap_device_path(device),
	       or_none(dmaheap_device_bus(device)), or_none(dmaheap_device_driver(device)),
	       dmaheap_device_is_known(device), dmaheap_device_snoops(device),
	       dmaheap_device_address_bits(device), dmaheap_device_iommu(device),
	       dmaheap_device_pieces(device));
	for (i = 0; (text = dmaheap_device_node(device, i)); i++)
		printf(" %s", text);
	for (i = 0; (text = dmaheap_device_heap(device, i)); i++)
		printf(" %s", text);
	printf("\n");
}

static void show_choice(const struct dmaheap_choice *choice)
{
	const struct dmaheap_objection *objection;
	const struct dmaheap_heap *heap;
	size_t i;

	for (i = 0; (heap = dmaheap_choice_fit(choice, i)); i++)
		printf("fits %s\n", dmaheap_heap_name(heap));
	for (i = 0; (objection = dmaheap_choice_objection(choice, i)); i++)
		printf("objection %s %s %d %s\n", dmaheap_objection_heap(objection),
		       or_none(dmaheap_objection_device(objection)),
		       dmaheap_objection_reason(objection),
		       dmaheap_objection_sentence(objection));
	if (dmaheap_choice_best(choice, &heap) == 0)
		printf("best %s\n", dmaheap_heap_name(heap));
	else
		printf("none: %s\n", dmaheap_error());
}

/*
 * When what Rust keeps for a thread is gone already: there is no sentence, and all
 * else works.
 */
static void at_the_end_of_a_thread(void *system)
{
	struct dmaheap_heap *heap;
	int got = dmaheap_heap_new(system, "of-the-end", &heap);

	expect(got == -ENOENT && !*dmaheap_error(), "a failure at the end of a thread", got);
	OK(dmaheap_heap_new(system, "system", &heap));
	dmaheap_heap_free(heap);
}

static void *another_thread(void *system)
{
	static pthread_key_t key;
	struct dmaheap_heap *heap;

	expect(!pthread_key_create(&key, at_the_end_of_a_thread), "a key", 0);
	expect(!pthread_setspecific(key, system), "its value", 0);
	expect(!*dmaheap_error(), "the sentence in a new thread", 0);
	FAILS(dmaheap_heap_new(system, "of-the-thread", &heap), ENOENT, "of-the-thread");
	return NULL;
}

static int closing_fails;

/*
 * In place of the C library's. Rust's own library takes a failure for a mistake of
 * the program, and panics.
 */
int closedir(DIR *directory)
{
	int (*original)(DIR *directory) = dlsym(RTLD_NEXT, "closedir");
	int got = original(directory);

	if (!closing_fails)
		return got;
	errno = EIO;
	return -1;
}

#define PANICS(call)	FAILS(call, ENOTRECOVERABLE, "a mistake in libdmaheap")

/* No panic gets across the border, and all objects are as good as before. */
static void panics(const struct dmaheap_system *system, struct dmaheap_device *device)
{
	struct dmaheap_choice *choice = (void *)1;
	struct dmaheap_devices *devices = (void *)1;
	struct dmaheap_device *another = (void *)1;
	struct dmaheap_heaps *heaps = (void *)1;
	struct dmaheap_heap *heap = (void *)1;

	closing_fails = 1;
	PANICS(dmaheap_heaps_new(system, &heaps));
	PANICS(dmaheap_heap_new(system, "system", &heap));
	PANICS(dmaheap_devices_new(system, &devices));
	PANICS(dmaheap_device_new(system, "vivid.0", &another));
	PANICS(dmaheap_choice_new(system, &device, 1, 0, 0, &choice));
	expect(!heaps && !heap && !devices && !another && !choice, "the objects after a panic", 0);
	closing_fails = 0;
	OK(dmaheap_choice_new(system, &device, 1, 0, 0, &choice));
	dmaheap_choice_free(choice);
}

static void bad_requests(const struct dmaheap_system *system, struct dmaheap_device *device)
{
	struct dmaheap_allocator *allocator;
	struct dmaheap_choice *choice;
	struct dmaheap_mapping *mapping = (void *)1;
	struct dmaheap_device *none;
	struct dmaheap_system *empty;
	struct dmaheap_query *query;
	struct dmaheap_heap *heap;
	const struct dmaheap_heap *best;
	int null = open("/dev/null", O_RDWR), got;

	FAILS(dmaheap_heap_new(system, "nonesuch", &heap), ENOENT, "no heap nonesuch");
	FAILS(dmaheap_heap_new(system, "\xff\n", &heap), ENOENT, "no heap");
	FAILS(dmaheap_device_new(system, "nonesuch", &none), ENOENT, "no device nonesuch");
	FAILS(dmaheap_device_new(system, "", &none), ENOENT, "no device");
	FAILS(dmaheap_device_new(system, "/tmp", &none), ENOTTY, "/tmp is a directory");
	FAILS(dmaheap_device_new(system, "/dev/null", &none), ENODEV, "is gone");
	FAILS(dmaheap_device_new(system, "vivid", &none), ENOTUNIQ, "several devices");
	FAILS(dmaheap_device_new_from_fd(system, null, &none), ENODEV, "is gone");
	FAILS(dmaheap_device_new_from_fd(system, -1, &none), EBADF, "-1 is no descriptor");
	FAILS(dmaheap_device_new_from_fd(system, 1000, &none), EBADF, "");
	expect(!none, "the object after a failure", 0);

	FAILS(dmaheap_choice_new(system, &device, 1, 0, 0x80, &choice), EINVAL, "no flag 0x80");
	OK(dmaheap_choice_new(system, NULL, 0, 0, 0, &choice));
	FAILS(dmaheap_choice_best(choice, &best), EINVAL, "no device was given");
	dmaheap_choice_free(choice);
	OK(dmaheap_choice_new(system, &device, 1, (uint64_t)1 << 50, 0, &choice));
	FAILS(dmaheap_choice_best(choice, &best), ENOMEM, "memory for");
	expect(!best, "the best when there is none", 0);
	dmaheap_choice_free(choice);
	OK(dmaheap_system_new("/nonesuch", &empty));
	expect(dmaheap_system_has_module(empty) == 0, "no module", 0);
	FAILS(dmaheap_choice_new(empty, &device, 1, 0, 0, &choice), ENODEV, "no DMA heaps");
	FAILS(dmaheap_heap_new(empty, "system", &heap), ENODEV, "no DMA heaps");
	dmaheap_system_free(empty);

	/* A file is no heap, which shows when it is asked for memory. */
	OK(dmaheap_heap_new(system, "system", &heap));
	OK(dmaheap_allocator_new(heap, &allocator));
	dmaheap_heap_free(heap);
	FAILS(dmaheap_alloc(allocator, 1, "frame", DMAHEAP_READ_ONLY), ENOTTY, "from the heap system");
	FAILS(dmaheap_alloc(allocator, 0, NULL, 0), EINVAL, "size 0");
	FAILS(dmaheap_alloc(allocator, (uint64_t)1 << 60, NULL, 0), ENOMEM, "has no memory");
	FAILS(dmaheap_alloc(allocator, 1, "thirty-two bytes are one too many", 0), EINVAL, "31 bytes");
	FAILS(dmaheap_alloc(allocator, 1, NULL, 2), EINVAL, "no flag 0x2");
	dmaheap_allocator_free(allocator);

	FAILS(dmaheap_mapping_new(null, &mapping), EINVAL, "no dma-buf");
	FAILS(dmaheap_mapping_new(-5, &mapping), EBADF, "-5");
	expect(!mapping, "the mapping after a failure", 0);
	/* On a machine with the module it knows that this is no dma-buf. */
	got = dmaheap_query_new(null, &query);
	expect((got == -ENODEV || got == -EINVAL || got == -EACCES) && !query, "the query", got);
	close(null);
}

static void monitor(void)
{
	struct dmaheap_monitor *monitor;
	struct pollfd fd;

	OK(dmaheap_monitor_new(&monitor));
	fd.fd = dmaheap_monitor_fd(monitor);
	fd.events = POLLIN;
	expect(poll(&fd, 1, 0) >= 0, "poll", 0);
	OK(dmaheap_monitor_read(monitor));
	expect(dmaheap_monitor_read(monitor) >= 0, "what was read is gone", 0);
	dmaheap_monitor_free(monitor);
}

int main(int argc, char **argv)
{
	struct dmaheap_system *system;
	struct dmaheap_heaps *heaps;
	struct dmaheap_devices *all;
	struct dmaheap_device *devices[8] = { NULL };
	struct dmaheap_choice *choice;
	const struct dmaheap_heap *heap;
	const struct dmaheap_device *device;
	pthread_t thread;
	unsigned int flags;
	size_t i, count = argc - 2;

	expect(!*dmaheap_error(), "no sentence before the first failure", 0);
	OK(dmaheap_system_new(argv[1], &system));
	expect(dmaheap_system_has_module(system) == 1, "the module", 0);
	OK(dmaheap_heaps_new(system, &heaps));
	for (i = 0; (heap = dmaheap_heaps_get(heaps, i)); i++)
		show_heap(heap);
	expect(!dmaheap_heaps_get(heaps, (size_t)-1), "far beyond the last", 0);
	dmaheap_heaps_free(heaps);
	OK(dmaheap_devices_new(system, &all));
	for (i = 0; (device = dmaheap_devices_get(all, i)); i++)
		show_device(device);
	dmaheap_devices_free(all);

	for (i = 0; i < count; i++)
		OK(dmaheap_device_new(system, argv[i + 2], &devices[i]));
	for (flags = 0; flags <= (DMAHEAP_CONTIGUOUS | DMAHEAP_WITHOUT_BRACKETS); flags++) {
		OK(dmaheap_choice_new(system, devices, count, 65 << 20, flags, &choice));
		show_choice(choice);
		dmaheap_choice_free(choice);
	}
	bad_requests(system, devices[0]);
	panics(system, devices[0]);
	monitor();
	FAILS(dmaheap_device_new(system, "of-the-first", devices + 7), ENOENT, "of-the-first");
	expect(!pthread_create(&thread, NULL, another_thread, system), "a thread", 0);
	pthread_join(thread, NULL);
	expect(!!strstr(dmaheap_error(), "of-the-first"), "each thread has its own sentence", 0);

	for (i = 0; i < count; i++)
		dmaheap_device_free(devices[i]);
	dmaheap_system_free(system);
	dmaheap_system_free(NULL);
	dmaheap_heaps_free(NULL);
	dmaheap_heap_free(NULL);
	dmaheap_devices_free(NULL);
	dmaheap_device_free(NULL);
	dmaheap_choice_free(NULL);
	dmaheap_allocator_free(NULL);
	dmaheap_mapping_free(NULL);
	dmaheap_query_free(NULL);
	dmaheap_monitor_free(NULL);
	return failures != 0;
}
