/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What user space can ask dmabuf_coherency.ko about a dma-buf, and for one.
 *
 * See Documentation/user-guide.rst.
 */
#ifndef _UAPI_LINUX_DMABUF_COHERENCY_H
#define _UAPI_LINUX_DMABUF_COHERENCY_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* struct dmabuf_coherency_query, properties */

/* The buffer comes from one of the module's heaps; else nothing is known. */
#define DMABUF_COHERENCY_EXPORTED_HERE	(1ULL << 0)
/* Devices that do not snoop the CPU caches are refused. */
#define DMABUF_COHERENCY_DMA_COHERENT	(1ULL << 1)
/* The memory is physically contiguous, whatever its size. */
#define DMABUF_COHERENCY_CONTIGUOUS	(1ULL << 2)

/* struct dmabuf_coherency_query, cpu_mapping */
#define DMABUF_COHERENCY_MAPPING_UNKNOWN		0
#define DMABUF_COHERENCY_MAPPING_WRITE_BACK		1
#define DMABUF_COHERENCY_MAPPING_WRITE_COMBINING	2

#define DMABUF_COHERENCY_HEAP_NAME_SIZE	64

/* The size of the structure as it was first published, in bytes. */
#define DMABUF_COHERENCY_QUERY_SIZE_VER0	96

/**
 * struct dmabuf_coherency_query - what there is to know about a dma-buf
 * @size: in: size of this structure as the caller knows it, in bytes
 * @fd: in: file descriptor of a dma-buf
 * @flags: in: must be 0
 * @cpu_mapping: out: how the CPU maps the buffer, DMABUF_COHERENCY_MAPPING_*
 * @properties: out: the rest of what is known, DMABUF_COHERENCY_*
 * @reserved: out: 0
 * @heap: out: name of the heap, ends with a NUL byte
 *
 * The structure may grow at its end. A kernel that knows less than the caller
 * accepts what it does not know as long as that is zero, and leaves it so; one
 * that knows more fills in only what the caller has room for.
 *
 * A buffer of another exporter is no error: all that is filled in is zero.
 */
struct dmabuf_coherency_query {
	__u32 size;
	__s32 fd;
	__u32 flags;
	__u32 cpu_mapping;
	__u64 properties;
	__u64 reserved;
	char heap[DMABUF_COHERENCY_HEAP_NAME_SIZE];
};

/*
 * On /dev/dmabuf_coherency. Returns 0, or -1 and errno
 * E2BIG	if what lies beyond the structure that the kernel knows is not
 *		zero, or @size is above the size of a page,
 * EBADF	if @fd is not open,
 * EFAULT	if the structure cannot be read or written,
 * EINVAL	if @fd is not a dma-buf, @flags is not 0, or @size is below
 *		DMABUF_COHERENCY_QUERY_SIZE_VER0,
 * ENOTTY	for another request.
 */
#define DMABUF_COHERENCY_IOCTL_QUERY	_IO(0xD7, 0x00)

/* The size of the structure as it was first published, in bytes. */
#define DMABUF_COHERENCY_SYNC_SIZE_VER0	32

/**
 * struct dmabuf_coherency_sync - one end of a CPU access to a part of a dma-buf
 * @size: in: size of this structure as the caller knows it, in bytes
 * @fd: in: file descriptor of a dma-buf
 * @flags: in: DMA_BUF_SYNC_*, as for DMA_BUF_IOCTL_SYNC
 * @offset: in: where the part begins, in bytes from the beginning of the buffer
 * @length: in: size of the part in bytes, at least 1
 *
 * Does for the part what DMA_BUF_IOCTL_SYNC does for the whole buffer, and costs
 * accordingly less: waits for devices, and makes their writes visible to the CPU
 * or the other way round. The part may be of any alignment. More than the part
 * may become visible, such as the rest of a cache line.
 *
 * The structure may grow at its end, as struct dmabuf_coherency_query may.
 */
struct dmabuf_coherency_sync {
	__u32 size;
	__s32 fd;
	__u64 flags;
	__u64 offset;
	__u64 length;
};

/*
 * On /dev/dmabuf_coherency. Returns 0, or -1 and errno
 * E2BIG	if what lies beyond the structure that the kernel knows is not
 *		zero, or @size is above the size of a page,
 * EBADF	if @fd is not open,
 * EFAULT	if the structure cannot be read,
 * EINTR	if a signal came while it waited for devices: call it again,
 * EINVAL	if @fd is not a dma-buf, @flags are not valid, the part is empty or
 *		not all of it is in the buffer, or @size is below
 *		DMABUF_COHERENCY_SYNC_SIZE_VER0,
 * ENOTTY	if the module is older than this request,
 * EOPNOTSUPP	if the buffer does not come from one of the module's heaps: use
 *		DMA_BUF_IOCTL_SYNC.
 */
#define DMABUF_COHERENCY_IOCTL_SYNC	_IO(0xD7, 0x01)

#endif /* _UAPI_LINUX_DMABUF_COHERENCY_H */
