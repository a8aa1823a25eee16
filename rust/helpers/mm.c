// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>
#include <linux/pgtable.h>

#include "helpers.h"

pgprot_t dmacoh_pgprot_writecombine(pgprot_t prot)
{
	return pgprot_writecombine(prot);
}

/*
 * Returns whether @vma is a private mapping, in which writes go to a copy. This
 * tests VM_MAYSHARE, because a shared mapping of a read-only file lacks
 * VM_SHARED.
 */
bool dmacoh_vma_is_private(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & VM_MAYSHARE);
}

/*
 * Turns @vma into a mapping of page frames. It must still be in the process of
 * being set up.
 */
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
 * Maps @pfn at @addr by a PMD entry. The entry must be in the same table as
 * that of the faulting address.
 *
 * If the process has just forbidden huge entries, another task may have put a
 * page table in the place of the entry. vmf_insert_pfn_pmd() warns about that
 * only if it is asked to make the entry writable. So ask for it only if the
 * faulting address already has an entry, which must then be read-only. A new
 * entry gets the permissions of the mapping in any case.
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
