/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabuf_importer.ko: devices that import dma-bufs as user space tells them.
 *
 * Each open file of /dev/dmabuf_importer is one device: a synthetic one, or
 * QEMU's edu. Closing the file undoes all that is left.
 *
 * A handle is not used again while the file is open. Calls on one file run one
 * after the other. Different devices can work at the same time.
 *
 * All ioctls may return these errors, in addition to their own:
 *
 *   EBADF   the file descriptor is not open
 *   EINVAL  the file is no dma-buf; a flag, direction or value is unknown; a
 *           range exceeds the buffer
 *   ENODEV  the device is not set up
 *   ENOENT  there is no such handle
 *
 * Errors of the exporter, of the dma-buf core and of the DMA API are passed on
 * unchanged.
 */
#ifndef _DMABUF_IMPORTER_H
#define _DMABUF_IMPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Directions, as in enum dma_data_direction. */
#define DMABUF_IMPORTER_BIDIRECTIONAL	0
#define DMABUF_IMPORTER_TO_DEVICE	1
#define DMABUF_IMPORTER_FROM_DEVICE	2

/*
 * SETUP creates the device of the file. Before SETUP, only these ioctls work:
 * VMAP, VUNMAP, KREAD, KWRITE, BEGIN_CPU_ACCESS, END_CPU_ACCESS and QUERY.
 *
 * EBUSY if the file already has a device. EIO from dma_set_mask() if the
 * platform has no memory that such a device can reach. With EDU: ENODEV if
 * there is no such device, EBUSY if another file uses it.
 */
struct dmabuf_importer_setup {
	__u32 flags;
	/* The number of address bits of the device, 1 to 64. 0 with NO_MASK. */
	__u32 mask_bits;
	/* The largest DMA segment in bytes; 0 if the driver sets no limit. */
	__u32 max_segment_size;
	/*
	 * Returned: the device is called "dmabuf_importer.<number>". Not with
	 * EDU.
	 */
	__u32 number;
	/* A power of two less one; 0 if the driver sets no boundary. */
	__u64 segment_boundary;
	/*
	 * The difference between a physical address of the CPU and the DMA
	 * address, as behind a bus with a window. It is a multiple of the page
	 * size. The device cannot reach memory below it. 0 with EDU.
	 */
	__u64 offset;
};

/* The device snoops the CPU caches. */
#define DMABUF_IMPORTER_SNOOPS		(1 << 0)
/*
 * The device has no DMA mask, like a device that does no DMA. MAP returns
 * EINVAL for a buffer of an exporter other than dmabuf_coherency, because the
 * DMA API would warn about the mapping.
 */
#define DMABUF_IMPORTER_NO_MASK		(1 << 1)
/*
 * The device is QEMU's edu (-device edu), which really does DMA. The firmware
 * decides whether it snoops, and its limits are those of a PCI device. So SETUP
 * returns EINVAL with another flag or a limit. mask_bits is what the driver
 * sets. How far the device really reaches depends on QEMU's property dma_mask.
 */
#define DMABUF_IMPORTER_EDU		(1 << 2)

/*
 * MASK changes the DMA mask of a device that has one. EBUSY while a buffer is
 * mapped, because a driver must not change the mask then.
 */
struct dmabuf_importer_mask {
	__u32 flags;
	__u32 mask_bits;
};

/* ATTACH attaches the device to a buffer. It may do so several times. */
struct dmabuf_importer_attach {
	__s32 fd;
	__u32 flags;
	/* Returned. */
	__u32 attachment;
	__u32 reserved;
};

/*
 * Use dma_buf_dynamic_attach(). The buffer is pinned while it is mapped. At
 * other times the exporter may move it.
 */
#define DMABUF_IMPORTER_DYNAMIC		(1 << 0)

/*
 * MAP maps an attachment for DMA. Several mappings may exist at the same time.
 */
struct dmabuf_importer_map {
	__u32 attachment;
	__u32 direction;
	__u32 flags;
	/* Returned: a handle. */
	__u32 mapping;
	/* Returned: the number of DMA segments. */
	__u32 segments;
	/* Returned: how many segments cross the device's segment boundary. */
	__u32 crossing;
	/* Returned: the size of all segments together, in bytes. */
	__u64 length;
	/* Returned: the size of the largest segment, in bytes. */
	__u64 largest;
};

/*
 * Do not look at the segments: all that is returned of them is 0. Looking takes
 * about as long as mapping, and would falsify a measurement of the mapping.
 */
#define DMABUF_IMPORTER_UNCOUNTED	(1 << 0)

/*
 * UNMAP, DETACH and VUNMAP undo MAP, ATTACH and VMAP. DETACH fails with EBUSY
 * while the attachment is mapped.
 */
struct dmabuf_importer_handle {
	__u32 handle;
	/* None are defined. */
	__u32 flags;
};

/*
 * READ makes the device read memory at the DMA addresses of a mapping, and
 * passes the data to user space. WRITE makes the device write data of user
 * space there. EACCES unless the direction of the mapping permits it.
 *
 * Edu does the access itself, and takes a tenth of a second for each KiB. For a
 * synthetic device the CPU does the access, through its caches and the direct
 * mapping. It accesses the memory that the DMA addresses name, which may be a
 * bounce buffer.
 *
 * KREAD and KWRITE access the buffer through a mapping of VMAP instead.
 */
struct dmabuf_importer_access {
	__u32 handle;
	/* None are defined. */
	__u32 flags;
	__u64 offset;
	__u64 length;
	/* The address in user space. */
	__u64 data;
};

/*
 * VMAP maps a buffer into the kernel. Several mappings may exist at the same
 * time.
 */
struct dmabuf_importer_vmap {
	__s32 fd;
	/* None are defined. */
	__u32 flags;
	/* Returned. */
	__u32 vmap;
	__u32 place;
};

/*
 * Where the kernel mapping is: in the vmalloc area, in I/O memory, or in the
 * direct mapping (0).
 */
#define DMABUF_IMPORTER_VMALLOC		(1 << 0)
#define DMABUF_IMPORTER_IOMEM		(1 << 1)

/*
 * BEGIN_CPU_ACCESS and END_CPU_ACCESS call dma_buf_begin_cpu_access() and
 * dma_buf_end_cpu_access(). As with DMA_BUF_IOCTL_SYNC, nobody checks that
 * these come in pairs.
 */
struct dmabuf_importer_cpu_access {
	__s32 fd;
	__u32 direction;
};

/* QUERY calls dmabuf_is_dma_coherent(), once from Rust and once from C. */
struct dmabuf_importer_query {
	__s32 fd;
	/* None are defined. */
	__u32 flags;
	/* Returned: the results, 0 or 1. */
	__u32 seen_from_rust;
	__u32 seen_from_c;
};

#define DMABUF_IMPORTER_IOC_SETUP	_IOWR(0xf7, 0, struct dmabuf_importer_setup)
#define DMABUF_IMPORTER_IOC_MASK	_IOW(0xf7, 1, struct dmabuf_importer_mask)
#define DMABUF_IMPORTER_IOC_ATTACH	_IOWR(0xf7, 2, struct dmabuf_importer_attach)
#define DMABUF_IMPORTER_IOC_DETACH	_IOW(0xf7, 3, struct dmabuf_importer_handle)
#define DMABUF_IMPORTER_IOC_MAP		_IOWR(0xf7, 4, struct dmabuf_importer_map)
#define DMABUF_IMPORTER_IOC_UNMAP	_IOW(0xf7, 5, struct dmabuf_importer_handle)
#define DMABUF_IMPORTER_IOC_READ	_IOW(0xf7, 6, struct dmabuf_importer_access)
#define DMABUF_IMPORTER_IOC_WRITE	_IOW(0xf7, 7, struct dmabuf_importer_access)
#define DMABUF_IMPORTER_IOC_VMAP	_IOWR(0xf7, 8, struct dmabuf_importer_vmap)
#define DMABUF_IMPORTER_IOC_VUNMAP	_IOW(0xf7, 9, struct dmabuf_importer_handle)
#define DMABUF_IMPORTER_IOC_KREAD	_IOW(0xf7, 10, struct dmabuf_importer_access)
#define DMABUF_IMPORTER_IOC_KWRITE	_IOW(0xf7, 11, struct dmabuf_importer_access)
#define DMABUF_IMPORTER_IOC_BEGIN_CPU_ACCESS \
	_IOW(0xf7, 12, struct dmabuf_importer_cpu_access)
#define DMABUF_IMPORTER_IOC_END_CPU_ACCESS \
	_IOW(0xf7, 13, struct dmabuf_importer_cpu_access)
#define DMABUF_IMPORTER_IOC_QUERY	_IOWR(0xf7, 14, struct dmabuf_importer_query)

#endif /* _DMABUF_IMPORTER_H */
