// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/pgtable.h>

#include "helpers.h"

pgprot_t dmacoh_pgprot_writecombine(pgprot_t prot)
{
	return pgprot_writecombine(prot);
}

/*
 * Whether writes to @vma would go to a copy. A shared mapping of a read-only file
 * has VM_MAYSHARE only.
 */
bool dmacoh_vma_is_private(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & VM_MAYSHARE);
}

/* Makes @vma, which is being set up, one for page frames. */
void dmacoh_vma_set_pfnmap(struct vm_area_struct *vma,
			   const struct vm_operations_struct *ops,
			   const void *data)
{
	vm_flags_mod(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MIXEDMAP);
	vma->vm_ops = ops;
	vma->vm_private_data = (void *)data;
}

/*
 * Maps at @addr, which has its entry in the same table as the address of the
 * fault.
 *
 * A page table may have taken the place of the entry meanwhile, if the process has
 * just forbidden huge entries. The core warns about that only if it is asked to
 * make the entry writable. So it is asked only where an entry exists that is not
 * writable. A new entry is as writable as the mapping anyway.
 */
vm_fault_t dmacoh_insert_pfn_pmd(const struct vm_fault *vmf, unsigned long addr,
				 unsigned long pfn)
{
#if defined(CONFIG_TRANSPARENT_HUGEPAGE) && defined(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP)
	struct vm_fault at = {
		.vma = vmf->vma,
		.address = addr,
		.pmd = vmf->pmd + pmd_index(addr) - pmd_index(vmf->address),
	};
	bool write = at.pmd == vmf->pmd && (vmf->flags & FAULT_FLAG_WRITE) &&
		     !pmd_none(vmf->orig_pmd);

	return vmf_insert_pfn_pmd(&at, pfn, write);
#else
	return VM_FAULT_FALLBACK;
#endif
}
