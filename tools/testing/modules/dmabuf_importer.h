/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabuf_importer.ko: importing devices that user space controls.
 *
 * Each open file of /dev/dmabuf_importer is one device, made up or QEMU's edu,
 * which does with dma-bufs what it is told. Closing the file undoes everything, whatever is left.
 *
 * Handles are never used again while the file is open. The calls on one file
 * run one after the other; several devices work at the same time.
 *
 * Errors, besides those that an ioctl has of its own:
 *
 *   EBADF   the descriptor is closed
 *   EINVAL  it is no dma-buf; an unknown flag, direction or value; a range
 *           beyond the end
 *   ENODEV  the device is not set up
 *   ENOENT  there is nothing with this handle
 *
 * Those of the exporter, of the dma-buf core and of the DMA API are passed on
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
 * SETUP makes the device, once: EBUSY after that. Without it, only VMAP and
 * its relatives, the CPU access brackets and QUERY can be used.
 *
 * The errno of dma_set_mask() is passed on: EIO if the platform has no memory
 * that such a device can reach. With EDU, ENODEV if there is no such device,
 * and EBUSY also if another file has it.
 */
struct dmabuf_importer_setup {
	__u32 flags;
	/* How many address bits the device has, 1 to 64. 0 with NO_MASK. */
	__u32 mask_bits;
	/* Limits of its DMA segments, if the driver is to state any. */
	__u32 max_segment_size;
	/*
	 * Returned: the device is called "dmabuf_importer.<number>". Not with
	 * EDU.
	 */
	__u32 number;
	/* A power of two less one; 0 if the driver is to state none. */
	__u64 segment_boundary;
	/*
	 * By how much the device's addresses are less than the CPU's, as behind a
	 * bus with a window: a multiple of the page size. What lies below it is
	 * out of reach. 0 with EDU.
	 */
	__u64 offset;
};

/* The device snoops the CPU caches. */
#define DMABUF_IMPORTER_SNOOPS		(1 << 0)
/*
 * It has no DMA mask, like a device that does no DMA. It can MAP no buffer of
 * other exporters than dmabuf_coherency: EINVAL, as the DMA API would warn.
 */
#define DMABUF_IMPORTER_NO_MASK		(1 << 1)
/*
 * It is not made up, but QEMU's edu (-device edu), which really does DMA. It
 * snoops as the firmware says, and its limits are those of a PCI device: EINVAL
 * with another flag or a limit. mask_bits is what its driver says; how far the
 * device really reaches is QEMU's property dma_mask.
 */
#define DMABUF_IMPORTER_EDU		(1 << 2)

/*
 * MASK changes the mask of a device that has one. EBUSY while a buffer is
 * mapped, when no driver may do that.
 */
struct dmabuf_importer_mask {
	__u32 flags;
	__u32 mask_bits;
};

/* ATTACH attaches the device to a buffer, any number of times. */
struct dmabuf_importer_attach {
	__s32 fd;
	__u32 flags;
	/* Returned. */
	__u32 attachment;
	__u32 reserved;
};

/*
 * By dma_buf_dynamic_attach(). The buffer is pinned while it is mapped, so that
 * the exporter may move it at other times only.
 */
#define DMABUF_IMPORTER_DYNAMIC		(1 << 0)

/*
 * MAP maps an attachment for DMA, any number of times at once.
 */
struct dmabuf_importer_map {
	__u32 attachment;
	__u32 direction;
	__u32 flags;
	/* Returned: a handle; how many segments the device sees, the bytes of
	 * all together, and those of the largest.
	 */
	__u32 mapping;
	__u32 segments;
	/* Returned: how many of these cross the device's segment boundary. */
	__u32 crossing;
	__u64 length;
	__u64 largest;
};

/*
 * The device does not look at its segments: 0 is returned of them. Looking takes
 * about as long as mapping, which would be measured along.
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
 * READ and WRITE let the device read and write the memory behind a mapping's
 * DMA addresses, and tell or ask user space what: EACCES unless the direction
 * of the mapping permits it. Edu does it by itself, and takes a tenth of a second
 * for each KiB. For a device that is made up, the CPU makes the access through
 * its caches, by the kernel's own mapping of whatever memory the DMA addresses
 * name: a bounce buffer, where there is one.
 *
 * KREAD and KWRITE do the same through a kernel mapping.
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

/* VMAP maps a buffer into the kernel, any number of times at once. */
struct dmabuf_importer_vmap {
	__s32 fd;
	/* None are defined. */
	__u32 flags;
	/* Returned. */
	__u32 vmap;
	__u32 place;
};

/* Where the kernel mapping is: in the vmalloc area, or in I/O memory. */
#define DMABUF_IMPORTER_VMALLOC		(1 << 0)
#define DMABUF_IMPORTER_IOMEM		(1 << 1)

/*
 * BEGIN_CPU_ACCESS and END_CPU_ACCESS call the functions of those names. As
 * with DMA_BUF_IOCTL_SYNC, nobody checks that they come in pairs.
 */
struct dmabuf_importer_cpu_access {
	__s32 fd;
	__u32 direction;
};

/* QUERY asks dmabuf_is_dma_coherent(), called from Rust and from C. */
struct dmabuf_importer_query {
	__s32 fd;
	/* None are defined. */
	__u32 flags;
	/* Returned: 0 or 1. */
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
