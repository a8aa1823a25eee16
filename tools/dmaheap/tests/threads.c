// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Many threads with the same objects of libdmaheap, where there is memory to give:
 * threads HANDLE... prints what was wrong, and ends with 1 if something was.
 */
#include <dmaheap.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS	8
#define ROUNDS	20
#define SIZE	(1 << 20)
#define PART	(SIZE / THREADS)

static const struct dmaheap_system *shared_system;
static struct dmaheap_device *shared_devices[4];
static size_t device_count;
static const struct dmaheap_choice *shared_choice;
static const struct dmaheap_allocator *shared_allocator;
static const struct dmaheap_mapping *shared_mapping;

/* What each thread leaves for the next one to free. */
static struct dmaheap_choice *left[THREADS];
static pthread_barrier_t everybody;
static int failures;

static void expect(int right, const char *what)
{
	if (right)
		return;
	printf("%s: \"%s\"\n", what, dmaheap_error());
	__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED);
}

#define OK(call)	expect((call) >= 0, #call)

/* Whether all of these bytes are so. */
static int is_filled(const unsigned char *bytes, size_t count, int with)
{
	return bytes[0] == with && !memcmp(bytes, bytes + 1, count - 1);
}

/* A part of the shared buffer, which is this thread's alone. */
static void use_part(size_t number, int with)
{
	unsigned char *bytes = dmaheap_mapping_data(shared_mapping);
	unsigned int flags = DMAHEAP_READ | DMAHEAP_WRITE;

	bytes += number * PART;
	OK(dmaheap_mapping_begin_part(shared_mapping, flags, number * PART, PART));
	memset(bytes, with, PART);
	expect(is_filled(bytes, PART, with), "what another thread wrote");
	OK(dmaheap_mapping_end_part(shared_mapping, flags, number * PART, PART));
}

/* A buffer of this thread's own. */
static void use_own(int with)
{
	struct dmaheap_mapping *mapping;
	struct dmaheap_query *query;
	int fd = dmaheap_alloc(shared_allocator, SIZE, "own", 0);

	OK(fd);
	OK(dmaheap_mapping_new(fd, &mapping));
	expect(is_filled(dmaheap_mapping_data(mapping), SIZE, 0), "a new buffer is zeroes");
	OK(dmaheap_mapping_begin(mapping, DMAHEAP_WRITE));
	memset(dmaheap_mapping_data(mapping), with, SIZE);
	OK(dmaheap_mapping_end(mapping, DMAHEAP_WRITE));
	OK(dmaheap_query_new(fd, &query));
	expect(dmaheap_query_exported_here(query) == 1, "whose buffer it is");
	dmaheap_query_free(query);
	close(fd);
	expect(is_filled(dmaheap_mapping_data(mapping), SIZE, with), "the own buffer");
	dmaheap_mapping_free(mapping);
}

static void *work(void *argument)
{
	const struct dmaheap_heap *heap, *best;
	struct dmaheap_device *device;
	size_t number = (size_t)argument;
	char name[32];
	int round, got;

	snprintf(name, sizeof(name), "of-thread-%zu", number);
	OK(dmaheap_choice_best(shared_choice, &best));
	pthread_barrier_wait(&everybody);
	for (round = 0; round < ROUNDS; round++) {
		got = dmaheap_device_new(shared_system, name, &device);
		OK(dmaheap_choice_new(shared_system, shared_devices, device_count, SIZE, 0,
				      &left[number]));
		OK(dmaheap_choice_best(left[number], &heap));
		expect(!strcmp(dmaheap_heap_name(heap), dmaheap_heap_name(best)), "the best heap");
		use_part(number, number * ROUNDS + round);
		use_own(round + 1);
		/* Others have failed meanwhile. */
		expect(got == -ENOENT && strstr(dmaheap_error(), name), "the own sentence");
		pthread_barrier_wait(&everybody);
		dmaheap_choice_free(left[(number + 1) % THREADS]);
		pthread_barrier_wait(&everybody);
	}
	return NULL;
}

static int open_files(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

int main(int argc, char **argv)
{
	struct dmaheap_system *system;
	struct dmaheap_choice *choice;
	struct dmaheap_allocator *allocator;
	struct dmaheap_mapping *mapping;
	const struct dmaheap_heap *best;
	pthread_t threads[THREADS];
	int files = open_files(), fd;
	size_t i;

	OK(dmaheap_system_new(NULL, &system));
	for (; device_count < 4 && device_count + 1 < (size_t)argc; device_count++)
		OK(dmaheap_device_new(system, argv[device_count + 1],
				      &shared_devices[device_count]));
	OK(dmaheap_choice_new(system, shared_devices, device_count, SIZE, 0, &choice));
	OK(dmaheap_choice_best(choice, &best));
	OK(dmaheap_allocator_new(best, &allocator));
	OK(fd = dmaheap_alloc(allocator, SIZE, "shared", 0));
	OK(dmaheap_mapping_new(fd, &mapping));
	if (failures)
		return 1;
	shared_system = system;
	shared_choice = choice;
	shared_allocator = allocator;
	shared_mapping = mapping;

	pthread_barrier_init(&everybody, NULL, THREADS);
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, work, (void *)i))
			abort();
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);

	dmaheap_mapping_free(mapping);
	close(fd);
	dmaheap_allocator_free(allocator);
	dmaheap_choice_free(choice);
	for (i = 0; i < device_count; i++)
		dmaheap_device_free(shared_devices[i]);
	dmaheap_system_free(system);
	expect(open_files() == files, "descriptors are left open");
	return failures != 0;
}
