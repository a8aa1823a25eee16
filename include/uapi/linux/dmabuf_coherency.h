/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ioctls of /dev/dmabuf_coherency. User space can query the properties of a
 * dma-buf, and synchronise CPU access to a part of it.
 *
 * See Documentation/user-guide.rst.
 */
#ifndef _UAPI_LINUX_DMABUF_COHERENCY_H
#define _UAPI_LINUX_DMABUF_COHERENCY_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* struct dmabuf_coherency_query, properties */

/* The buffer comes from a heap of this module. Otherwise nothing is known. */
#define DMABUF_COHERENCY_EXPORTED_HERE	(1ULL << 0)
/* The heap refuses devices that do not snoop the CPU caches. */
#define DMABUF_COHERENCY_DMA_COHERENT	(1ULL << 1)
/* The memory is physically contiguous, whatever the size of the buffer is. */
#define DMABUF_COHERENCY_CONTIGUOUS	(1ULL << 2)

/* struct dmabuf_coherency_query, cpu_mapping */
#define DMABUF_COHERENCY_MAPPING_UNKNOWN		0
#define DMABUF_COHERENCY_MAPPING_WRITE_BACK		1
#define DMABUF_COHERENCY_MAPPING_WRITE_COMBINING	2

#define DMABUF_COHERENCY_HEAP_NAME_SIZE	64

/* The size of the first published version of the structure, in bytes. */
#define DMABUF_COHERENCY_QUERY_SIZE_VER0	96

/**
 * struct dmabuf_coherency_query - properties of a dma-buf
 * @size: in: size of this structure as the caller knows it, in bytes
 * @fd: in: file descriptor of a dma-buf
 * @flags: in: must be 0
 * @cpu_mapping: out: how the CPU maps the buffer, DMABUF_COHERENCY_MAPPING_*
 * @properties: out: further properties, DMABUF_COHERENCY_*
 * @reserved: out: 0
 * @heap: out: name of the heap, ends with a NUL byte
 *
 * Later versions may add fields at the end of the structure. An older module
 * accepts fields that it does not know if they are zero, and leaves them zero.
 * A newer module fills in only what fits into @size.
 *
 * A buffer of another exporter is not an error. All output fields are then 0.
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
 * An ioctl on /dev/dmabuf_coherency. Returns 0, or -1 and errno
 * E2BIG	if a field that the module does not know is not zero, or if @size
 *		is larger than a page,
 * EBADF	if @fd is not open,
 * EFAULT	if the structure cannot be read or written,
 * EINVAL	if @fd is not a dma-buf, @flags is not 0, or @size is below
 *		DMABUF_COHERENCY_QUERY_SIZE_VER0,
 * ENOTTY	if the module does not know the request.
 */
#define DMABUF_COHERENCY_IOCTL_QUERY	_IO(0xD7, 0x00)

/* The size of the first published version of the structure, in bytes. */
#define DMABUF_COHERENCY_SYNC_SIZE_VER0	32

/**
 * struct dmabuf_coherency_sync - begin or end CPU access to part of a dma-buf
 * @size: in: size of this structure as the caller knows it, in bytes
 * @fd: in: file descriptor of a dma-buf
 * @flags: in: DMA_BUF_SYNC_*, as for DMA_BUF_IOCTL_SYNC
 * @offset: in: where the part begins, in bytes from the beginning of the buffer
 * @length: in: size of the part in bytes, at least 1
 *
 * This is DMA_BUF_IOCTL_SYNC for a part of the buffer, and costs accordingly
 * less. The begin of an access waits for devices, and makes their writes
 * visible to the CPU. The end of an access makes the writes of the CPU visible
 * to devices. The part may have any alignment. More than the part may become
 * visible, for example the rest of a cache line.
 *
 * Later versions may add fields at the end of the structure, as for struct
 * dmabuf_coherency_query.
 */
struct dmabuf_coherency_sync {
	__u32 size;
	__s32 fd;
	__u64 flags;
	__u64 offset;
	__u64 length;
};

/*
 * An ioctl on /dev/dmabuf_coherency. Returns 0, or -1 and errno
 * E2BIG	if a field that the module does not know is not zero, or if @size
 *		is larger than a page,
 * EBADF	if @fd is not open,
 * EFAULT	if the structure cannot be read,
 * EINTR	if a signal came while it waited for devices: call it again,
 * EINVAL	if @fd is not a dma-buf, @flags is not valid, the part is empty or
 *		exceeds the buffer, or @size is below
 *		DMABUF_COHERENCY_SYNC_SIZE_VER0,
 * ENOTTY	if the module is too old to know the request,
 * EOPNOTSUPP	if the buffer does not come from a heap of this module: use
 *		DMA_BUF_IOCTL_SYNC.
 */
#define DMABUF_COHERENCY_IOCTL_SYNC	_IO(0xD7, 0x01)

#endif /* _UAPI_LINUX_DMABUF_COHERENCY_H */
