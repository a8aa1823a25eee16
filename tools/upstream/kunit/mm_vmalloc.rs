// SPDX-License-Identifier: GPL-2.0

#[kunit_tests(rust_mm_vmalloc)]
mod tests {
    use super::*;
    use crate::{
        mm::page::{
            Effort,
            PageBlock,
            Zone, //
        },
        page::PAGE_SIZE, //
    };

    fn pages(count: usize) -> Result<Arc<Pages>> {
        let mut pages = Pages::new(Caching::WriteBack, None)?;

        for _ in 0..count {
            pages.push(
                PageBlock::alloc_zeroed(1, Zone::All, Effort::Reclaim, false)?,
                1,
            )?;
        }
        Ok(pages.into())
    }

    #[test]
    fn nothing_cannot_be_mapped() -> Result {
        assert!(VMap::new(pages(0)?).is_err_and(|err| err == EINVAL));
        Ok(())
    }

    #[test]
    fn one_block_is_used_where_it_is() -> Result {
        let pages = pages(1)?;
        let vmap = VMap::new(pages.clone())?;

        assert_eq!(vmap.as_ptr(), pages.blocks()[0].address().as_ptr());
        Ok(())
    }

    #[test]
    fn blocks_are_mapped_one_behind_the_other() -> Result {
        let pages = pages(3)?;
        let vmap = VMap::new(pages.clone())?;

        assert_eq!(vmap.size(), 3 * PAGE_SIZE);
        for (index, block) in pages.blocks().iter().enumerate() {
            // SAFETY: Both are mappings of the same page, which nobody else has.
            let seen = unsafe {
                let there = block.address().as_ptr().cast::<usize>();
                let here = vmap.as_ptr().byte_add(index * PAGE_SIZE).cast::<usize>();
                there.write_volatile(index + 1);
                here.read_volatile()
            };
            assert_eq!(seen, index + 1);
        }
        Ok(())
    }
}
