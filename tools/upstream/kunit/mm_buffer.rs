// SPDX-License-Identifier: GPL-2.0

#[kunit_tests(rust_mm_buffer)]
mod tests {
    use super::*;
    use crate::{
        mm::page::{
            Effort,
            Zone, //
        },
        page::PAGE_SIZE, //
    };

    #[test]
    fn a_run_is_what_block_and_mapping_have_in_common() -> Result {
        let block = PageBlock::alloc_zeroed(4, Zone::All, Effort::Reclaim, false)?;
        let at = |page| 0x10 * PAGE_SIZE + page * PAGE_SIZE;

        // The second page of the block belongs at the third one of the mapping.
        let run = Run::new(&block, 1, at(2), at(0)..at(4));
        assert_eq!(run.addr, at(1)..at(4));
        assert_eq!(run.pfn, block.pfn());

        // The mapping begins within the block.
        let run = Run::new(&block, 3, at(0), at(0)..at(9));
        assert_eq!(run.addr, at(0)..at(1));
        assert_eq!(run.pfn, block.pfn() + 3);
        Ok(())
    }

    #[test]
    fn a_part_begins_at_its_own_page() {
        let run = Run {
            addr: PAGE_SIZE..5 * PAGE_SIZE,
            pfn: 100,
        };
        let part = run.part(3 * PAGE_SIZE..4 * PAGE_SIZE);

        assert_eq!((part.pfn, part.nr_pages()), (102, 1));
    }

    #[test]
    fn huge_entries_need_alignment_of_both() {
        let addr = PMD_SIZE / 2..3 * PMD_SIZE;
        let run = |pfn| Run {
            addr: addr.clone(),
            pfn,
        };
        let aligned = (5 * PMD_SIZE + PMD_SIZE / 2) >> PAGE_SHIFT;

        assert!(run(aligned + 1).huge_part().is_empty());
        if HAS_HUGE_ENTRIES {
            assert_eq!(run(aligned).huge_part(), PMD_SIZE..3 * PMD_SIZE);
            assert_eq!(run(aligned).huge_entries().count(), 2);
        } else {
            assert!(run(aligned).huge_part().is_empty());
        }
    }

    #[test]
    fn the_first_error_of_a_fault_is_its_result() {
        let nopage = bindings::vm_fault_reason_VM_FAULT_NOPAGE;
        let oom = bindings::vm_fault_reason_VM_FAULT_OOM;
        let bus = bindings::vm_fault_reason_VM_FAULT_SIGBUS;

        assert_eq!(until_error([nopage, nopage].into_iter()), nopage);
        assert_eq!(until_error([nopage, oom, bus].into_iter()), oom);
        assert_eq!(until_error([].into_iter()), nopage);
    }
}
