// SPDX-License-Identifier: GPL-2.0
/*
 * Tells user space how the memory of a dma-buf is mapped. dmabuf_memtype.h
 * describes the interface.
 *
 * This is in C because it uses inline functions and macros for page tables.
 */

#include <linux/dma-buf.h>
#include <linux/iosys-map.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <linux/uaccess.h>

#include "dmabuf_memtype.h"

#ifdef CONFIG_X86

/*
 * Returns the memory type of a page table entry. In an entry that maps more
 * than a page, one bit of the attributes has another position.
 */
static u32 prot_type(pgprot_t prot, bool is_page)
{
	unsigned long cache;

	if (!is_page)
		prot = pgprot_large_2_4k(prot);
	cache = pgprot_val(prot) & _PAGE_CACHE_MASK;
	if (cache == cachemode2protval(_PAGE_CACHE_MODE_WB))
		return DMABUF_MEMTYPE_WRITE_BACK;
	if (cache == cachemode2protval(_PAGE_CACHE_MODE_WC))
		return DMABUF_MEMTYPE_WRITE_COMBINING;
	return DMABUF_MEMTYPE_OTHER;
}

static int kernel_type(const void *addr, u32 *type)
{
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)addr, &level);

	if (!pte || !pte_present(*pte))
		return -EINVAL;
	*type = prot_type(pte_pgprot(*pte), level == PG_LEVEL_4K);
	return 0;
}

#else /* CONFIG_ARM64 */

static u32 prot_type(pgprot_t prot, bool is_page)
{
	switch (FIELD_GET(PTE_ATTRINDX_MASK, pgprot_val(prot))) {
	case MT_NORMAL:
	case MT_NORMAL_TAGGED:
		return DMABUF_MEMTYPE_WRITE_BACK;
	case MT_NORMAL_NC:
		return DMABUF_MEMTYPE_WRITE_COMBINING;
	default:
		return DMABUF_MEMTYPE_OTHER;
	}
}

/*
 * Makes the MMU translate the address. PAR_EL1 then has the memory attributes.
 */
static int kernel_type(const void *addr, u32 *type)
{
	unsigned long flags;
	u64 par;

	local_irq_save(flags);
	asm volatile("at s1e1r, %0" : : "r" (addr));
	isb();
	par = read_sysreg_par();
	local_irq_restore(flags);

	if (par & SYS_PAR_EL1_F)
		return -EINVAL;
	switch (FIELD_GET(SYS_PAR_EL1_ATTR, par)) {
	case MAIR_ATTR_NORMAL:
	case MAIR_ATTR_NORMAL_TAGGED:
		*type = DMABUF_MEMTYPE_WRITE_BACK;
		return 0;
	case MAIR_ATTR_NORMAL_NC:
		*type = DMABUF_MEMTYPE_WRITE_COMBINING;
		return 0;
	default:
		*type = DMABUF_MEMTYPE_OTHER;
		return 0;
	}
}

#endif

static int look_at_user(struct dmabuf_memtype_query *query)
{
	struct follow_pfnmap_args args = { .address = query->where };
	int ret = -EINVAL;

	mmap_read_lock(current->mm);
	args.vma = find_vma(current->mm, args.address);
	if (args.vma)
		ret = follow_pfnmap_start(&args);
	if (!ret) {
		query->frame = args.pfn;
		query->type = prot_type(args.pgprot, args.addr_mask == PAGE_MASK);
		follow_pfnmap_end(&args);
	}
	mmap_read_unlock(current->mm);
	return ret;
}

static int look_at_frame(struct dmabuf_memtype_query *query)
{
	const void *addr;

	if (!pfn_valid(query->where))
		return -EINVAL;
	addr = pfn_to_kaddr(query->where);
	return virt_addr_valid(addr) ? kernel_type(addr, &query->type) : -EINVAL;
}

static int look_at_vmap(struct dmabuf_memtype_query *query)
{
	struct dma_buf *buf = dma_buf_get(query->fd);
	struct iosys_map map;
	int ret;

	if (IS_ERR(buf))
		return PTR_ERR(buf);
	ret = query->where < buf->size ? dma_buf_vmap_unlocked(buf, &map) : -EINVAL;
	if (!ret) {
		ret = map.is_iomem ? -EOPNOTSUPP :
			kernel_type(map.vaddr + query->where, &query->type);
		dma_buf_vunmap_unlocked(buf, &map);
	}
	dma_buf_put(buf);
	return ret;
}

static long dmabuf_memtype_ioctl(struct file *file, unsigned int cmd,
				 unsigned long arg)
{
	struct dmabuf_memtype_query query;
	void __user *user = (void __user *)arg;
	int ret;

	if (copy_from_user(&query, user, sizeof(query)))
		return -EFAULT;

	switch (cmd) {
	case DMABUF_MEMTYPE_IOC_USER:
		ret = look_at_user(&query);
		break;
	case DMABUF_MEMTYPE_IOC_FRAME:
		ret = look_at_frame(&query);
		break;
	case DMABUF_MEMTYPE_IOC_VMAP:
		ret = look_at_vmap(&query);
		break;
	default:
		return -ENOTTY;
	}
	if (!ret && copy_to_user(user, &query, sizeof(query)))
		ret = -EFAULT;
	return ret;
}

static const struct file_operations dmabuf_memtype_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = dmabuf_memtype_ioctl,
};

static struct miscdevice dmabuf_memtype_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "dmabuf_memtype",
	.fops = &dmabuf_memtype_fops,
};
module_misc_device(dmabuf_memtype_node);

MODULE_AUTHOR("dmabuf-coherency maintainers");
MODULE_DESCRIPTION("How the memory of dma-bufs is mapped");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
