// SPDX-License-Identifier: GPL-2.0
/*
 * C helpers for the Rust code: wrappers of inline functions and macros, code
 * that uses such macros, and a call of dmabuf_is_dma_coherent() from C.
 */

#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dmabuf_coherency.h>
#include <linux/iosys-map.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/sprintf.h>

#include "cachecheck.h"
#include "helpers.h"

void importer_assign_dma_coherent(struct device *dev, bool snoops)
{
	dev_assign_dma_coherent(dev, snoops);
}

/*
 * Returns whether the DMA addresses of @dev are those of dma-direct. They are
 * for a synthetic device: it is on the faux bus, where no device is behind an
 * IOMMU.
 */
static bool is_direct(struct device *dev)
{
	return !get_dma_ops(dev) && !dev_dma_iommu(dev);
}

/*
 * Returns the kernel address of the memory at the DMA address @addr of @dev,
 * NULL if there is none. The result is valid up to the end of the page.
 */
static void *dma_to_virt(struct device *dev, dma_addr_t addr)
{
	phys_addr_t phys;

	if (!is_direct(dev))
		return NULL;

	phys = dma_to_phys(dev, addr);
	return pfn_valid(PHYS_PFN(phys)) ? phys_to_virt(phys) : NULL;
}

/*
 * Copies data as DMA of @dev would, from or to the address @memory. Reports the
 * access to tools/testing/cachecheck, which may be checking it.
 */
static void copy(struct device *dev, void *to, const void *from, size_t len,
		 void *memory, unsigned int flags)
{
	if (dev_is_dma_coherent(dev))
		flags |= CACHECHECK_SNOOPS;

	preempt_disable();
	cachecheck_dma(virt_to_phys(memory), len, flags);
	memcpy(to, from, len);
	cachecheck_dma_end();
	preempt_enable();
}

int importer_dma_read(struct device *dev, dma_addr_t addr, void *to, size_t len)
{
	void *from = dma_to_virt(dev, addr);

	if (!from)
		return -ENXIO;
	copy(dev, to, from, len, from, 0);
	return 0;
}

int importer_dma_write(struct device *dev, dma_addr_t addr, const void *from,
		       size_t len)
{
	void *to = dma_to_virt(dev, addr);

	if (!to)
		return -ENXIO;
	copy(dev, to, from, len, to, CACHECHECK_WRITES);
	return 0;
}

/* Tells cachecheck which buffer is at the DMA addresses in @table. */
void importer_tell(struct device *dev, const struct dma_buf *buf,
		   struct sg_table *table)
{
	struct scatterlist *sg;
	u64 offset = 0;
	char name[48];
	int i;

	if (!is_direct(dev))
		return;
	snprintf(name, sizeof(name), "%s %llu", buf->exp_name,
		 (u64)file_inode(buf->file)->i_ino);
	for_each_sgtable_dma_sg(table, sg, i) {
		cachecheck_buffer(dma_to_phys(dev, sg_dma_address(sg)),
				  sg_dma_len(sg), name, offset);
		offset += sg_dma_len(sg);
	}
}

/*
 * Makes the DMA addresses of @dev smaller than physical addresses, by @offset.
 * The driver core frees the map when @dev is unbound.
 */
int importer_set_offset(struct device *dev, u64 offset)
{
	struct bus_dma_region *map = kzalloc(2 * sizeof(*map), GFP_KERNEL);

	if (!map)
		return -ENOMEM;
	map->cpu_start = offset;
	map->size = BIT_ULL(62);
	dev->dma_range_map = map;
	return 0;
}

void importer_measure(struct device *dev, struct sg_table *table, u32 *segments,
		      u32 *crossing, u64 *length, u64 *largest)
{
	u64 boundary = dma_get_seg_boundary(dev);
	struct scatterlist *sg;
	int i;

	*segments = table->nents;
	*crossing = 0;
	*length = 0;
	*largest = 0;
	for_each_sgtable_dma_sg(table, sg, i) {
		u64 first = sg_dma_address(sg);

		*crossing += !!((first ^ (first + sg_dma_len(sg) - 1)) & ~boundary);
		*length += sg_dma_len(sg);
		*largest = max_t(u64, *largest, sg_dma_len(sg));
	}
}

void importer_iosys_map_memcpy_from(void *to, const struct iosys_map *from,
				    size_t offset, size_t len)
{
	iosys_map_memcpy_from(to, from, offset, len);
}

void importer_iosys_map_memcpy_to(struct iosys_map *to, size_t offset,
				  const void *from, size_t len)
{
	iosys_map_memcpy_to(to, offset, from, len);
}

bool importer_is_dma_coherent_from_c(const struct dma_buf *buf)
{
	return dmabuf_is_dma_coherent(buf);
}
