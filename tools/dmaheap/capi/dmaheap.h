/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * libdmaheap finds the DMA heap that suits a set of devices, says why the others
 * do not, and allocates from it.
 *
 * It reads what the kernel module dmabuf_coherency says of heaps and devices in
 * sysfs. Without the module there are the kernel's own heaps, and nothing is
 * known of devices. See libdmaheap(3) and Documentation/dmaheap.rst.
 *
 * Errors:	A function that can fail returns an int, which then is a negative
 *		errno. dmaheap_error() has a sentence about it.
 * Objects:	What a function that ends in _new stores through its last argument
 *		is the caller's, to be freed by the function of the same name that
 *		ends in _free, which accepts NULL. After a failure it is NULL. An
 *		object says what there was when it was made, whatever happens later.
 * Borrowing:	What a function returns a pointer to belongs to the object that
 *		was asked, and lives as long as that.
 * Lists:	Functions with an index return NULL beyond the last.
 * Threads:	All may use the same object at once. Only free it when nobody does.
 * Pointers:	None may be NULL where this is not allowed in so many words.
 *
 * The library never ends the program, except when there is no memory for its
 * own few bytes. It blocks only where that is said.
 */
#ifndef DMAHEAP_H
#define DMAHEAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dmaheap_system;
struct dmaheap_heaps;
struct dmaheap_heap;
struct dmaheap_devices;
struct dmaheap_device;
struct dmaheap_choice;
struct dmaheap_objection;
struct dmaheap_allocator;
struct dmaheap_mapping;
struct dmaheap_query;
struct dmaheap_monitor;

/* A function that answers with 1 for yes and 0 for no: the kernel does not tell. */
#define DMAHEAP_UNKNOWN		(-1)

/* A function that answers with a number of 64 bits: there is none. */
#define DMAHEAP_NO_NUMBER	((uint64_t)-1)

/*
 * The sentence about the last failure in this thread, "" if there was none, in
 * UTF-8. It lives until the next failure in this thread.
 */
const char *dmaheap_error(void);

/* The system */

/*
 * Where all is read from. The directory root has sys, dev, proc and etc in it, such
 * as the root of a container; NULL is "/". Nothing is read yet.
 */
int dmaheap_system_new(const char *root, struct dmaheap_system **system);
void dmaheap_system_free(struct dmaheap_system *system);

/* Whether the module dmabuf_coherency is loaded: 1 or 0. */
int dmaheap_system_has_module(const struct dmaheap_system *system);

/* Heaps */

/* All heaps, by name. That there is none is no failure. */
int dmaheap_heaps_new(const struct dmaheap_system *system, struct dmaheap_heaps **heaps);
void dmaheap_heaps_free(struct dmaheap_heaps *heaps);
const struct dmaheap_heap *dmaheap_heaps_get(const struct dmaheap_heaps *heaps, size_t index);

/*
 * The heap that a handle stands for: its name ("system"), the path of its node, or
 * of a link to that, or the name of either below /dev/dma_heap.
 * -ENOENT: there is no such heap. -ENODEV: there is none at all.
 */
int dmaheap_heap_new(const struct dmaheap_system *system, const char *handle,
		     struct dmaheap_heap **heap);
void dmaheap_heap_free(struct dmaheap_heap *heap);

/* The kernel's name for it. */
const char *dmaheap_heap_name(const struct dmaheap_heap *heap);

/* The path of its device node. */
const char *dmaheap_heap_node(const struct dmaheap_heap *heap);

/* Whose a heap is: that of a driver of which nothing is known, ... */
#define DMAHEAP_EXPORTER_OTHER		0
/* ... the kernel's own, ... */
#define DMAHEAP_EXPORTER_KERNEL		1
/* ... or that of the module dmabuf_coherency. */
#define DMAHEAP_EXPORTER_MODULE		2
int dmaheap_heap_exporter(const struct dmaheap_heap *heap);

/* Whether only devices that snoop the CPU caches may use its buffers: 1, 0 or unknown. */
int dmaheap_heap_dma_coherent(const struct dmaheap_heap *heap);

/*
 * Whether only devices that do not snoop may, as with uncached heaps where the
 * kernel has a cached mapping of the same memory: 1, 0 or unknown.
 */
int dmaheap_heap_refuses_snooping(const struct dmaheap_heap *heap);

/* How the CPU maps buffers: nobody says, ... */
#define DMAHEAP_MAPPING_UNKNOWN			0
/* ... cached, ... */
#define DMAHEAP_MAPPING_WRITE_BACK		1
/* ... or not: fast to write from one end to the other, very slow to read. */
#define DMAHEAP_MAPPING_WRITE_COMBINING		2
int dmaheap_heap_cpu_mapping(const struct dmaheap_heap *heap);

/* Whether each buffer is one physical block: 1, 0 or unknown. */
int dmaheap_heap_contiguous(const struct dmaheap_heap *heap);

/* The size of its region in bytes, which no buffer can exceed, or DMAHEAP_NO_NUMBER. */
uint64_t dmaheap_heap_capacity(const struct dmaheap_heap *heap);

/* How many bytes its live buffers may have together, or DMAHEAP_NO_NUMBER. */
uint64_t dmaheap_heap_limit(const struct dmaheap_heap *heap);

/*
 * How many buffers live, how many bytes they have, and how many attachments and
 * mappings it has refused; or DMAHEAP_NO_NUMBER.
 */
uint64_t dmaheap_heap_buffers(const struct dmaheap_heap *heap);
uint64_t dmaheap_heap_bytes(const struct dmaheap_heap *heap);
uint64_t dmaheap_heap_refused(const struct dmaheap_heap *heap);

/* Whether the caller may allocate. It may: its node was opened to see that. */
#define DMAHEAP_ACCESS_ALLOWED		0
/* The node's mode does not let it: see dmaheap_heap_group(). */
#define DMAHEAP_ACCESS_DENIED		1
/* The mode does, and a sandbox, a container's rules or another policy does not. */
#define DMAHEAP_ACCESS_FORBIDDEN	2
/* The heap has no node. */
#define DMAHEAP_ACCESS_NO_NODE		3
int dmaheap_heap_access(const struct dmaheap_heap *heap);

/* If it is denied: the group whose members may; NULL if only root may. */
const char *dmaheap_heap_group(const struct dmaheap_heap *heap);

/* Devices */

/*
 * All devices with a node of the classes drm, accel or video4linux, or with links
 * to heaps; by path.
 */
int dmaheap_devices_new(const struct dmaheap_system *system, struct dmaheap_devices **devices);
void dmaheap_devices_free(struct dmaheap_devices *devices);
const struct dmaheap_device *dmaheap_devices_get(const struct dmaheap_devices *devices,
						 size_t index);

/*
 * The device that a handle stands for: a device node ("/dev/video0",
 * "/dev/bus/usb/001/004"), a directory of sysfs, the name of a device ("vivid.0",
 * "0000:00:02.0", "1-1:1.0"), of a node ("card0"), or of a driver or its module if
 * that has one device.
 * -ENOENT: there is no such device. -ENOTTY: it is something else.
 * -ENODEV: the device of that node is gone. -ENOTUNIQ: it stands for several.
 */
int dmaheap_device_new(const struct dmaheap_system *system, const char *handle,
		       struct dmaheap_device **device);

/* The device of an open node, which stays open. Fails as dmaheap_device_new(). */
int dmaheap_device_new_from_fd(const struct dmaheap_system *system, int fd,
			       struct dmaheap_device **device);
void dmaheap_device_free(struct dmaheap_device *device);

/* The kernel's name for it, and its directory below /sys/devices. */
const char *dmaheap_device_name(const struct dmaheap_device *device);
const char *dmaheap_device_path(const struct dmaheap_device *device);

/* The bus that it is on and the driver that it is bound to; NULL if there is none. */
const char *dmaheap_device_bus(const struct dmaheap_device *device);
const char *dmaheap_device_driver(const struct dmaheap_device *device);

/* The paths of its nodes of the classes drm, accel and video4linux. */
const char *dmaheap_device_node(const struct dmaheap_device *device, size_t index);

/* Whether the module knows it: 1 or 0. If so, it has links to all heaps that suit it. */
int dmaheap_device_is_known(const struct dmaheap_device *device);

/* The names of the heaps that suit it, best first. */
const char *dmaheap_device_heap(const struct dmaheap_device *device, size_t index);

/* Whether its DMA sees the CPU caches, or the CPU does all of its work: 1, 0 or unknown. */
int dmaheap_device_snoops(const struct dmaheap_device *device);

/*
 * How many bits an address of its DMA has: 64 reaches all memory, 0 is a device
 * without a DMA mask. Or unknown.
 */
int dmaheap_device_address_bits(const struct dmaheap_device *device);

/* Whether an IOMMU translates the addresses of its DMA: 1, 0 or unknown. */
int dmaheap_device_iommu(const struct dmaheap_device *device);

/*
 * In how many pieces its driver takes a buffer: any, one, or unknown. Behind an
 * IOMMU it is no matter, as that makes one piece of any.
 */
#define DMAHEAP_PIECES_ANY	0
#define DMAHEAP_PIECES_ONE	1
int dmaheap_device_pieces(const struct dmaheap_device *device);

/* The choice */

/* Each buffer has to be one physical block, though no device is known to need that. */
#define DMAHEAP_CONTIGUOUS		(1u << 0)
/* The bytes have to be right, though the program never brackets its accesses. */
#define DMAHEAP_WITHOUT_BRACKETS	(1u << 1)

/*
 * Chooses a heap for buffers of size bytes, or of any size if it is 0, that count
 * devices share.
 * -ENODEV: there are no heaps. -EINVAL: a flag is not known. That none fits is for
 * dmaheap_choice_best() to say.
 */
int dmaheap_choice_new(const struct dmaheap_system *system, struct dmaheap_device *const *devices,
		       size_t count, uint64_t size, unsigned int flags,
		       struct dmaheap_choice **choice);
void dmaheap_choice_free(struct dmaheap_choice *choice);

/*
 * The best heap that fits and that the caller may open; it belongs to the choice.
 * -EOPNOTSUPP: none fits, or none is contiguous or right without brackets.
 * -ENODATA: nothing is known of a device. Do what was done before there was this.
 * -ENOMEM: none has room for the size. -EACCES or -ENOENT: one fits, and may not be
 * opened or has no node. -EINVAL: there were no devices. Then *heap is NULL.
 */
int dmaheap_choice_best(const struct dmaheap_choice *choice, const struct dmaheap_heap **heap);

/* All heaps that fit, best first, whether the caller may open them or not. */
const struct dmaheap_heap *dmaheap_choice_fit(const struct dmaheap_choice *choice, size_t index);

/* What speaks against the others, by heap and device. */
const struct dmaheap_objection *dmaheap_choice_objection(const struct dmaheap_choice *choice,
							 size_t index);

/* The names of the heap and of the device; NULL if it is not about a device. */
const char *dmaheap_objection_heap(const struct dmaheap_objection *objection);
const char *dmaheap_objection_device(const struct dmaheap_objection *objection);

/* Why; dmaheap(1) and Documentation/dmaheap.rst explain each. There may be more in future. */
#define DMAHEAP_REASON_NOTHING_KNOWN		1
#define DMAHEAP_REASON_DOES_NOT_SNOOP		2
#define DMAHEAP_REASON_SNOOPS			3
#define DMAHEAP_REASON_ONE_PIECE		4
#define DMAHEAP_REASON_PIECES_UNKNOWN		5
#define DMAHEAP_REASON_OUT_OF_REACH		6
#define DMAHEAP_REASON_LEFT_OUT_BY_RULE		7
#define DMAHEAP_REASON_NOT_OFFERED		8
#define DMAHEAP_REASON_NOT_CONTIGUOUS		9
#define DMAHEAP_REASON_TOO_SMALL		10
#define DMAHEAP_REASON_OVER_LIMIT		11
#define DMAHEAP_REASON_NEEDS_BRACKETS		12
#define DMAHEAP_REASON_MAY_NEED_BRACKETS	13
int dmaheap_objection_reason(const struct dmaheap_objection *objection);

/* All of it in a sentence for people. */
const char *dmaheap_objection_sentence(const struct dmaheap_objection *objection);

/* Buffers */

/*
 * Opens a heap. Allocating from it takes no more permission after that.
 * -EACCES: the caller may not. -ENOENT: there is no node.
 */
int dmaheap_allocator_new(const struct dmaheap_heap *heap, struct dmaheap_allocator **allocator);
void dmaheap_allocator_free(struct dmaheap_allocator *allocator);

/* Nobody may map the buffer for writing through this descriptor. */
#define DMAHEAP_READ_ONLY	(1u << 0)

/*
 * Allocates a buffer of zeroes. Returns the descriptor of a dma-buf, which is the
 * caller's to close and is closed on exec. The size is rounded up to whole pages.
 * The name of up to 31 bytes shows in /proc and debugfs; it may be NULL.
 * Blocks for as long as the kernel takes.
 * -ENOMEM: there is not enough memory. -EINVAL: the size is 0, the name too long, or
 * a flag not known.
 */
int dmaheap_alloc(const struct dmaheap_allocator *allocator, uint64_t size, const char *name,
		  unsigned int flags);

/*
 * Maps all of a dma-buf of any exporter, at an address that lets the kernel use
 * huge entries: to write to if the descriptor is for writing, too. The descriptor
 * may be closed after that. Freeing it unmaps.
 * -EINVAL: it is no dma-buf.
 */
int dmaheap_mapping_new(int fd, struct dmaheap_mapping **mapping);
void dmaheap_mapping_free(struct dmaheap_mapping *mapping);

/* Where it begins, and how many bytes it has. */
void *dmaheap_mapping_data(const struct dmaheap_mapping *mapping);
size_t dmaheap_mapping_size(const struct dmaheap_mapping *mapping);

/* What a bracket is for. */
#define DMAHEAP_READ	(1u << 0)
#define DMAHEAP_WRITE	(1u << 1)

/*
 * Opens and closes a bracket around an access of the CPU, both with the same flags.
 * Brackets do not count, so open none while another is open on the same buffer.
 * Opening blocks until devices are done whose fences the buffer has.
 * -EACCES: the descriptor was not for writing. -EINVAL: there is no such flag.
 */
int dmaheap_mapping_begin(const struct dmaheap_mapping *mapping, unsigned int flags);
int dmaheap_mapping_end(const struct dmaheap_mapping *mapping, unsigned int flags);

/*
 * The same around length bytes at offset, both with the same part. It costs no more
 * than these bytes do if the module has exported the buffer, and as much as a
 * bracket around the whole otherwise.
 * -EINVAL: not all of them are in the buffer, or there are none.
 */
int dmaheap_mapping_begin_part(const struct dmaheap_mapping *mapping, unsigned int flags,
			       size_t offset, size_t length);
int dmaheap_mapping_end_part(const struct dmaheap_mapping *mapping, unsigned int flags,
			     size_t offset, size_t length);

/*
 * What the module knows of a dma-buf.
 * -ENODEV: the module is not loaded. -EINVAL: it is no dma-buf. -EACCES: the caller
 * may not open /dev/dmabuf_coherency.
 */
int dmaheap_query_new(int fd, struct dmaheap_query **query);
void dmaheap_query_free(struct dmaheap_query *query);

/* Whether the module has exported it: 1 or 0. If not, nothing else is known. */
int dmaheap_query_exported_here(const struct dmaheap_query *query);

/* Whether every device that is attached snoops the CPU caches: 1, 0 or unknown. */
int dmaheap_query_dma_coherent(const struct dmaheap_query *query);

/* Whether it is one physical block: 1, 0 or unknown. */
int dmaheap_query_contiguous(const struct dmaheap_query *query);

/* How the CPU maps it: DMAHEAP_MAPPING_*. */
int dmaheap_query_cpu_mapping(const struct dmaheap_query *query);

/* The name of its heap, or NULL. */
const char *dmaheap_query_heap(const struct dmaheap_query *query);

/* Waiting */

/*
 * Listens to what the kernel says of devices, for programs that wait for the links
 * of one that has just appeared. First listen, then look: nothing is missed.
 */
int dmaheap_monitor_new(struct dmaheap_monitor **monitor);
void dmaheap_monitor_free(struct dmaheap_monitor *monitor);

/* A descriptor for poll(), which is readable when there is something to read. */
int dmaheap_monitor_fd(const struct dmaheap_monitor *monitor);

/*
 * Reads all that there is, and never waits. Returns 1 if links may have changed
 * since the last time: look again. Else 0.
 */
int dmaheap_monitor_read(const struct dmaheap_monitor *monitor);

#ifdef __cplusplus
}
#endif

#endif /* DMAHEAP_H */
