// SPDX-License-Identifier: GPL-2.0

#include <linux/cc_platform.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/mem_encrypt.h>
#include <linux/pci.h>
#include <linux/swiotlb.h>

#include "helpers.h"

bool dmacoh_dev_dma_coherent(const struct device *dev)
{
	return dev_dma_coherent(dev);
}

/*
 * Returns whether @dev is behind an IOMMU that maps scattered memory as one
 * piece. The kernel does not merge the pieces for an untrusted PCI device,
 * because each of them may bounce.
 */
bool dmacoh_dev_has_iommu(const struct device *dev)
{
	return dev_dma_iommu((struct device *)dev) &&
	       !(dev_is_pci(dev) && to_pci_dev(dev)->untrusted);
}

/*
 * Returns whether memory is encrypted in a way that @dev cannot read. The DMA
 * API then bounces all DMA of @dev. force_dma_unencrypted() returns the same,
 * but is not exported.
 */
static bool is_encrypted_for(const struct device *dev)
{
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return true;
#ifdef CONFIG_AMD_MEM_ENCRYPT
	if (cc_platform_has(CC_ATTR_HOST_MEM_ENCRYPT))
		return min_not_zero(dev->coherent_dma_mask,
				    dev->bus_dma_limit) <=
		       DMA_BIT_MASK(__ffs64(sme_me_mask));
#endif
	return false;
}

/*
 * Returns whether the DMA API never bounces memory that @dev can address.
 * Nothing is known of DMA ops of an architecture: for example, those of Xen's
 * dom0 bounce even if the caller forbids it.
 */
static bool is_unbounced(struct device *dev)
{
	if (!dev->dma_mask || get_dma_ops(dev))
		return false;
	/* Behind an IOMMU, whole pages do not bounce. */
	return dev_dma_iommu(dev) ||
	       (!is_swiotlb_force_bounce(dev) && !is_encrypted_for(dev));
}

bool dmacoh_dev_reaches_all(struct device *dev)
{
	return is_unbounced(dev) &&
	       (dev_dma_iommu(dev) || !dma_addressing_limited(dev));
}

/*
 * Returns whether the DMA API can bounce memory that @dev cannot address: there
 * are bounce buffers, and @dev can address them. Only those of the default pool
 * count, because the DMA API tries this pool first, even if @dev cannot address
 * it. DMA ops of a platform have bounce buffers of their own.
 */
bool dmacoh_dev_can_bounce(struct device *dev)
{
	if (get_dma_ops(dev) || dev_dma_iommu(dev))
		return true;
#ifdef CONFIG_SWIOTLB
	const struct io_tlb_mem *mem = dev->dma_io_tlb_mem;

	return mem && mem->nslabs &&
	       phys_to_dma_unencrypted(dev, mem->defpool.end - 1) <=
		       min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);
#else
	return false;
#endif
}

/*
 * Returns whether one window of the bus covers all memory from @first to @last.
 * A device cannot address memory between two windows.
 */
static bool is_in_one_window(const struct device *dev, u64 first, u64 last)
{
	const struct bus_dma_region *map = dev->dma_range_map;

	if (!map)
		return true;
	for (; map->size; map++)
		if (first >= map->cpu_start &&
		    last - map->cpu_start < map->size)
			return true;
	return false;
}

/*
 * Returns whether @dev can do DMA to all memory from the physical address
 * @first to @last without bounce buffers, as far as the DMA API knows.
 */
bool dmacoh_dev_reaches(struct device *dev, u64 first, u64 last)
{
	if (!is_unbounced(dev))
		return false;
	if (dev_dma_iommu(dev))
		return true;
	return is_in_one_window(dev, first, last) &&
	       phys_to_dma(dev, last) <=
		       min_not_zero(*dev->dma_mask, dev->bus_dma_limit);
}

unsigned int dmacoh_address_bits(const struct device *dev)
{
	if (!dev->dma_mask)
		return 0;
	return fls64(min_not_zero(*dev->dma_mask, dev->bus_dma_limit));
}

bool dmacoh_dma_dev_need_sync(const struct device *dev)
{
	return dma_dev_need_sync(dev);
}

/*
 * Returns the length of the longest segment that @dev accepts, for a buffer of
 * @size bytes: the limit that its driver has set, or ULONG_MAX without a limit.
 */
unsigned long dmacoh_longest_segment(struct device *dev, size_t size)
{
	unsigned int stated = dev->dma_parms ?
			      dev->dma_parms->max_segment_size : 0;

	/*
	 * Apply the default limit of the DMA API in two cases. Its debug code
	 * compares segments with the default if the driver has set no limit.
	 * The IOMMU code merges segments up to the default, and counts their
	 * size in 32 bits.
	 */
	if (IS_ENABLED(CONFIG_DMA_API_DEBUG_SG) ||
	    (dev_dma_iommu(dev) && size > U32_MAX))
		return dma_get_max_seg_size(dev);

	/*
	 * The PCI core sets a limit of 64 KiB for every device, whatever the
	 * device can do.
	 */
	if (!stated || (dev_is_pci(dev) && stated == SZ_64K))
		return ULONG_MAX;
	return stated;
}

/*
 * Returns the segment boundary of @dev as a mask that is valid for physical
 * addresses. The boundary of the DMA API is one for DMA addresses. If these
 * have an offset from physical addresses, the result is reduced until every
 * offset is a multiple of it plus one. A segment that respects it in physical
 * addresses then also respects it in DMA addresses.
 */
unsigned long dmacoh_segment_boundary(struct device *dev)
{
	const struct bus_dma_region *map = dev->dma_range_map;
	unsigned long boundary = dma_get_seg_boundary(dev);
	u64 multiple = 0;

	for (; map && map->size; map++)
		multiple |= map->cpu_start - map->dma_start;
	return multiple ? boundary & ((multiple & -multiple) - 1) : boundary;
}

/*
 * Makes @dev a device that does not snoop and can address all memory. @dev must
 * belong to the caller.
 */
int dmacoh_clear_coherent(struct device *dev)
{
	dev_clear_dma_coherent(dev);
	return dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64));
}

/*
 * Cleans the CPU caches of part of @page. The DMA API does this when it maps
 * the memory for @dev, which must belong to the caller and must not snoop.
 */
int dmacoh_clean(struct device *dev, struct page *page, size_t offset,
		 size_t size)
{
	dma_addr_t addr = dma_map_page(dev, page, offset, size,
				       DMA_BIDIRECTIONAL);

	if (dma_mapping_error(dev, addr))
		return -EIO;
	dma_unmap_page(dev, addr, size, DMA_BIDIRECTIONAL);
	return 0;
}
