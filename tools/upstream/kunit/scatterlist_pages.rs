// SPDX-License-Identifier: GPL-2.0

#[kunit_tests(rust_scatterlist_pages)]
mod tests {
    use super::*;
    use crate::{
        device::{
            Bound,
            Device, //
        },
        faux,
        mm::page::{
            Caching,
            Effort,
            Zone, //
        }, //
    };

    const BOTH: DataDirection = DataDirection::Bidirectional;

    fn pages(blocks: &[usize]) -> Result<Arc<Pages>> {
        let mut pages = Pages::new(Caching::WriteBack, None)?;

        for nr_pages in blocks {
            pages.push(
                PageBlock::alloc_zeroed(*nr_pages, Zone::All, Effort::Reclaim, false)?,
                1,
            )?;
        }
        Ok(pages.into())
    }

    fn bound(registration: &faux::Registration) -> &Device<Bound> {
        registration.as_ref().as_ref()
    }

    /// A device that is able to do DMA.
    fn device(name: &CStr) -> Result<faux::Registration> {
        let registration = faux::Registration::new(name, None)?;
        let dev = bound(&registration).as_raw();

        // SAFETY: The device is ours, and nothing has been mapped for it yet.
        to_result(unsafe {
            (*dev).dma_mask = &raw mut (*dev).coherent_dma_mask;
            bindings::dma_set_mask_and_coherent(dev, u64::MAX)
        })?;
        Ok(registration)
    }

    fn map(dev: &faux::Registration, pages: Arc<Pages>) -> Result<Pin<KBox<MappedTable>>> {
        // SAFETY: The device outlives the table in these tests.
        let table = unsafe { MappedTable::new(bound(dev).into(), pages, BOTH, Attrs::NONE) }?;

        KBox::pin_init(table, GFP_KERNEL)
    }

    #[test]
    fn a_device_without_a_mask_is_refused() -> Result {
        let dev = faux::Registration::new(c"kunit_no_mask", None)?;

        assert!(map(&dev, pages(&[1])?).is_err_and(|err| err == EOPNOTSUPP));
        Ok(())
    }

    #[test]
    fn an_empty_table_is_refused() -> Result {
        let dev = device(c"kunit_empty")?;

        assert!(map(&dev, pages(&[])?).is_err_and(|err| err == EINVAL));
        Ok(())
    }

    #[test]
    fn all_blocks_are_mapped() -> Result {
        let dev = device(c"kunit_all")?;
        let table = map(&dev, pages(&[1, 3, 2])?)?;

        assert_eq!(table.size(), 6 * PAGE_SIZE);
        let mut size = 0;
        table.pieces(&(0..table.size()), |_, len| {
            assert!(len > 0);
        });
        // SAFETY: The table is mapped.
        unsafe {
            let raw = table.table.table.get();
            let mut entry = (*raw).sgl;
            for _ in 0..(*raw).nents {
                size += bindings::sg_dma_len(entry) as usize;
                entry = bindings::sg_next(entry);
            }
        }
        assert_eq!(size, table.size());
        table.sync_for_cpu(&(0..table.size()));
        table.sync_for_device(&(PAGE_SIZE / 2..PAGE_SIZE + 1));
        Ok(())
    }

    #[test]
    fn a_single_entry_takes_no_memory() -> Result {
        let dev = device(c"kunit_single")?;
        let is_own = |table: &RawTable| {
            // SAFETY: The table is mapped.
            core::ptr::eq(unsafe { (*table.table.get()).sgl }, table.own.get())
        };

        assert!(is_own(&map(&dev, pages(&[4])?)?.table));
        assert!(!is_own(&map(&dev, pages(&[4, 1])?)?.table));
        Ok(())
    }

    #[test]
    fn segments_are_as_short_as_the_device_wants() -> Result {
        let dev = device(c"kunit_short")?;
        let mut parameters: bindings::device_dma_parameters = pin_init::zeroed();
        parameters.max_segment_size = 2 * PAGE_SIZE as u32;
        let raw = bound(&dev).as_raw();
        // SAFETY: The device is ours. It is gone before the parameters.
        unsafe { (*raw).dma_parms = &mut parameters };

        let table = map(&dev, pages(&[4, 1])?)?;
        // SAFETY: The table is mapped.
        let entries = unsafe { (*table.table.table.get()).orig_nents };
        drop(table);
        // SAFETY: As above.
        unsafe { (*raw).dma_parms = core::ptr::null_mut() };
        assert_eq!(entries, 3);
        Ok(())
    }

    #[test]
    fn the_pieces_of_a_part_are_that_part() -> Result {
        let dev = device(c"kunit_part")?;
        let table = map(&dev, pages(&[1, 2, 1])?)?;

        for part in [0..1, 100..PAGE_SIZE, PAGE_SIZE - 1..3 * PAGE_SIZE + 1, 0..4 * PAGE_SIZE] {
            let size = core::cell::Cell::new(0);
            table.pieces(&part, |_, len| size.set(size.get() + len));
            assert_eq!(size.get(), part.len());
        }
        Ok(())
    }

    #[test]
    fn memory_is_the_same_only_if_it_is_the_same() -> Result {
        let dev = device(c"kunit_same")?;
        let memory = pages(&[1])?;
        let (one, two) = (map(&dev, memory.clone())?, map(&dev, memory)?);
        let other = map(&dev, pages(&[1])?)?;

        assert!(one.shares_memory(&two));
        assert!(!one.shares_memory(&other));
        assert!(one.is_written());
        Ok(())
    }
}
