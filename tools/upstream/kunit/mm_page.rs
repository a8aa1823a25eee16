// SPDX-License-Identifier: GPL-2.0

#[kunit_tests(rust_mm_page)]
mod tests {
    use super::*;
    use crate::{
        new_mutex,
        sync::Mutex, //
    };

    fn block(nr_pages: usize) -> Result<PageBlock> {
        PageBlock::alloc_zeroed(nr_pages, Zone::All, Effort::Reclaim, false)
    }

    /// The bytes of a block, which nobody else has.
    fn bytes(block: &PageBlock) -> &[u8] {
        // SAFETY: The block is in the direct mapping, and nobody writes to it.
        unsafe { core::slice::from_raw_parts(block.address().as_ptr().cast(), block.size()) }
    }

    #[test]
    fn blocks_of_any_size_are_zeroed() -> Result {
        for nr_pages in [1, 2, 3, 7, 64] {
            let block = block(nr_pages)?;

            assert_eq!(block.nr_pages(), nr_pages);
            assert_eq!(block.size(), nr_pages * PAGE_SIZE);
            assert!(bytes(&block).iter().all(|byte| *byte == 0));
        }
        Ok(())
    }

    #[test]
    fn a_block_of_nothing_is_refused() {
        assert!(block(0).is_err_and(|err| err == EINVAL));
    }

    #[test]
    fn a_block_that_is_too_large_is_refused() {
        for nr_pages in [1 << 40, (1 << 40) + 1, usize::MAX] {
            assert!(block(nr_pages).is_err_and(|err| err == ENOMEM));
        }
    }

    #[test]
    fn zeroing_stays_within_the_block() -> Result {
        let mut block = block(2)?;

        // SAFETY: The block is in the direct mapping, and nobody else has it.
        unsafe { block.address().as_ptr().cast::<u8>().write_bytes(1, block.size()) };
        block.zero(1..100)?;
        block.zero(5..7)?;
        assert!(bytes(&block)[..PAGE_SIZE].iter().all(|byte| *byte == 1));
        assert!(bytes(&block)[PAGE_SIZE..].iter().all(|byte| *byte == 0));
        Ok(())
    }

    #[test]
    fn a_page_is_found_by_its_index() -> Result {
        let mut pages = Pages::new(Caching::WriteBack, None)?;
        for nr_pages in [2, 1, 3] {
            pages.push(block(nr_pages)?, 1)?;
        }
        let found = |index| {
            let (blocks, skip) = pages.blocks_from(index);
            (blocks.len(), skip)
        };

        assert_eq!(pages.size(), 6 * PAGE_SIZE);
        assert_eq!(pages.largest_block(), 3 * PAGE_SIZE);
        assert_eq!(found(0), (3, 0));
        assert_eq!(found(1), (3, 1));
        assert_eq!(found(2), (2, 0));
        assert_eq!(found(5), (1, 2));
        assert_eq!(found(6), (0, 0));
        assert_eq!(found(usize::MAX), (0, 0));
        Ok(())
    }

    #[test]
    fn what_is_not_prepared_is_refused() -> Result {
        let mut pages = Pages::new(Caching::WriteCombining, None)?;
        assert!(pages.push(block(1)?, 1).is_err_and(|err| err == EINVAL));

        let mut pages = Pages::new(Caching::WriteBack, None)?;
        let mut spoilt = block(1)?;
        spoilt.spoil();
        assert!(pages.push(spoilt, 1).is_err_and(|err| err == EINVAL));
        assert!(pages.blocks().is_empty());
        Ok(())
    }

    /// Takes the first of the blocks.
    #[pin_data]
    struct First {
        #[pin]
        kept: Mutex<Blocks>,
        #[pin]
        homes: Mutex<usize>,
    }

    impl Keeper for First {
        fn keep(&self, blocks: &mut Blocks) {
            while let Some(block) = blocks.pop() {
                *self.kept.lock() = Blocks::One(block);
            }
        }

        fn left(&self) {
            *self.homes.lock() += 1;
        }
    }

    #[test]
    fn a_keeper_gets_the_blocks_of_a_buffer() -> Result {
        let first = Arc::pin_init(
            pin_init!(First {
                kept <- new_mutex!(Blocks::None),
                homes <- new_mutex!(0),
            }),
            GFP_KERNEL,
        )?;
        let mut pages = Pages::new(Caching::WriteBack, Some(Home::new(first.clone())))?;
        pages.push(block(2)?, 2)?;
        pages.push(block(1)?, 1)?;
        let pfn = pages.blocks()[0].pfn();

        assert!(first.kept.lock().is_empty());
        drop(pages);
        assert_eq!(first.kept.lock()[0].pfn(), pfn);
        assert_eq!(*first.homes.lock(), 1);
        Ok(())
    }
}
