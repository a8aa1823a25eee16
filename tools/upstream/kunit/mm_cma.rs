// SPDX-License-Identifier: GPL-2.0

#[kunit_tests(rust_mm_cma)]
mod tests {
    use super::*;
    use crate::page::PAGE_SIZE;

    #[test]
    fn blocks_of_an_area_are_zeroed() -> Result {
        let Some(area) = Cma::all().next() else {
            return Ok(());
        };
        let block = area.alloc_zeroed(5)?;

        assert_eq!(block.size(), 5 * PAGE_SIZE);
        // SAFETY: The block is in the direct mapping, and nobody else has it.
        let bytes: &[u8] =
            unsafe { core::slice::from_raw_parts(block.address().as_ptr().cast(), block.size()) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        Ok(())
    }

    #[test]
    fn what_an_area_cannot_have_is_refused() {
        for area in Cma::all() {
            assert!(!area.name().to_bytes().is_empty());
            assert!(area.alloc_zeroed(0).is_err_and(|err| err == EINVAL));
            for nr_pages in [1 << 30, usize::MAX] {
                assert!(area.alloc_zeroed(nr_pages).is_err_and(|err| err == ENOMEM));
            }
        }
    }
}
