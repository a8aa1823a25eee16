// SPDX-License-Identifier: GPL-2.0

#[kunit_tests(rust_dma_buf)]
mod tests {
    use super::*;
    use crate::{
        faux,
        mm::page::{
            Caching,
            Effort,
            PageBlock,
            Zone, //
        },
        page::PAGE_SIZE,
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
        uaccess::{
            UserPtr,
            UserSlice, //
        }, //
    };

    /// An exporter of as many pages as it is told, which may be the wrong number.
    struct Buffer {
        pages: Arc<Pages>,
        refuses: bool,
        dropped: Option<&'static Atomic<usize>>,
    }

    #[vtable]
    impl Exporter for Buffer {
        fn ops() -> &'static Ops<Self> {
            static OPS: Ops<Buffer> = Ops::new();
            &OPS
        }

        fn attach(buf: &DmaBuf<Self>, _: DmaDevice<'_>) -> Result {
            if buf.refuses {
                Err(EOPNOTSUPP)
            } else {
                Ok(())
            }
        }

        fn map(buf: Reserved<'_, Self>, _: DmaDevice<'_>) -> Result<Mapping> {
            Ok(Mapping {
                pages: buf.pages.clone(),
                attrs: Attrs::NONE,
                maintained: true,
            })
        }

        fn begin_cpu_access(buf: &DmaBuf<Self>, dir: DataDirection) -> Result {
            buf.sync_for_cpu(dir, 0..buf.size())
        }

        fn mmap<'a>(buf: &'a DmaBuf<Self>, vma: BufferVma<'a>) -> Result<MappedVma<'a>> {
            vma.map_pages(&buf.pages)
        }

        fn vmap(buf: Reserved<'_, Self>) -> Result<VMap> {
            VMap::new(buf.pages.clone())
        }
    }

    impl Drop for Buffer {
        fn drop(&mut self) {
            if let Some(dropped) = self.dropped {
                dropped.store(dropped.load(Relaxed) + 1, Relaxed);
            }
        }
    }

    /// An exporter that can do no more than it must.
    struct Least;

    #[vtable]
    impl Exporter for Least {
        fn ops() -> &'static Ops<Self> {
            static OPS: Ops<Least> = Ops::new();
            &OPS
        }

        fn attach(_: &DmaBuf<Self>, _: DmaDevice<'_>) -> Result {
            Ok(())
        }

        fn map(_: Reserved<'_, Self>, _: DmaDevice<'_>) -> Result<Mapping> {
            Err(EBUSY)
        }
    }

    fn forever() -> Forever {
        // SAFETY: What is built in stays.
        unsafe { Forever::new() }
    }

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

    fn export(buffer: Buffer, size: usize) -> Result<ARef<DmaBuf<Buffer>>> {
        DmaBuf::export(c"kunit", size, bindings::O_RDWR, Ok(buffer), forever())
    }

    fn buffer(count: usize, size: usize) -> Result<ARef<DmaBuf<Buffer>>> {
        let buffer = Buffer {
            pages: pages(count)?,
            refuses: false,
            dropped: None,
        };
        export(buffer, size)
    }

    /// A device that is able to do DMA.
    fn device(name: &CStr) -> Result<faux::Registration> {
        let registration = faux::Registration::new(name, None)?;
        let dev: &crate::device::Device<crate::device::Bound> = registration.as_ref().as_ref();
        let dev = dev.as_raw();

        // SAFETY: The device is ours, and nothing has been mapped for it yet.
        to_result(unsafe {
            (*dev).dma_mask = &raw mut (*dev).coherent_dma_mask;
            bindings::dma_set_mask_and_coherent(dev, u64::MAX)
        })?;
        Ok(registration)
    }

    /// An attachment as importers in C have it.
    struct Attachment<T: Exporter> {
        buf: ARef<DmaBuf<T>>,
        raw: *mut bindings::dma_buf_attachment,
        _dev: faux::Registration,
    }

    impl<T: Exporter> Attachment<T> {
        fn new(buf: &ARef<DmaBuf<T>>, name: &CStr) -> Result<Self> {
            let dev = device(name)?;
            let raw: &crate::device::Device<crate::device::Bound> = dev.as_ref().as_ref();
            // SAFETY: The buffer is valid, and the device stays bound until it is detached.
            let raw =
                from_err_ptr(unsafe { bindings::dma_buf_attach(buf.0.get(), raw.as_raw()) })?;

            Ok(Self {
                buf: buf.clone(),
                raw,
                _dev: dev,
            })
        }

        fn map(&self, dir: bindings::dma_data_direction) -> Result<*mut bindings::sg_table> {
            // SAFETY: The attachment is valid.
            from_err_ptr(unsafe { bindings::dma_buf_map_attachment_unlocked(self.raw, dir) })
        }

        fn unmap(&self, table: *mut bindings::sg_table, dir: bindings::dma_data_direction) {
            // SAFETY: The table is from `map()`.
            unsafe { bindings::dma_buf_unmap_attachment_unlocked(self.raw, table, dir) };
        }
    }

    impl<T: Exporter> Drop for Attachment<T> {
        fn drop(&mut self) {
            // SAFETY: The attachment is valid, and nothing is mapped.
            unsafe { bindings::dma_buf_detach(self.buf.0.get(), self.raw) };
        }
    }

    const BOTH: bindings::dma_data_direction = bindings::dma_data_direction::DMA_BIDIRECTIONAL;

    #[test]
    fn an_exporter_is_dropped_once() -> Result {
        static DROPPED: Atomic<usize> = Atomic::new(0);

        let exporter = Buffer {
            pages: pages(1)?,
            refuses: false,
            dropped: Some(&DROPPED),
        };
        let buf = export(exporter, PAGE_SIZE)?;
        assert_eq!(buf.size(), PAGE_SIZE);
        let other = buf.clone();
        drop(buf);
        // SAFETY: Callable in process context.
        unsafe { bindings::flush_delayed_fput() };
        assert_eq!(DROPPED.load(Relaxed), 0);
        drop(other);
        // SAFETY: As above.
        unsafe { bindings::flush_delayed_fput() };
        assert_eq!(DROPPED.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn the_error_of_an_initialiser_is_returned() {
        let fails = DmaBuf::<Least>::export(c"kunit", PAGE_SIZE, 0, Err(EXDEV), forever());
        assert!(fails.is_err_and(|err| err == EXDEV));
    }

    #[test]
    fn a_buffer_of_no_size_is_exported() {
        // The core does not refuse it, and nothing can be mapped of it.
        let buf = DmaBuf::<Least>::export(c"kunit", 0, 0, Ok(Least), forever());
        assert!(buf.is_ok_and(|buf| buf.size() == 0));
    }

    #[test]
    fn bad_descriptors_are_refused() {
        assert!(DmaBuf::<Buffer>::get(-1).is_err_and(|err| err == EBADF));
    }

    #[test]
    fn exporters_are_told_apart() -> Result {
        let buf = buffer(1, PAGE_SIZE)?;

        // SAFETY: There is a reference.
        let (same, other) = unsafe {
            (
                DmaBuf::<Buffer>::try_from_raw(buf.0.get()).is_some(),
                DmaBuf::<Least>::try_from_raw(buf.0.get()).is_some(),
            )
        };
        assert!(same);
        assert!(!other);
        Ok(())
    }

    #[test]
    fn a_device_is_refused() -> Result {
        let refusing = Buffer {
            pages: pages(1)?,
            refuses: true,
            dropped: None,
        };
        let buf = export(refusing, PAGE_SIZE)?;

        assert!(Attachment::new(&buf, c"kunit_refused").is_err_and(|err| err == EOPNOTSUPP));
        Ok(())
    }

    #[test]
    fn a_buffer_is_mapped_as_a_whole() -> Result {
        let buf = buffer(3, 3 * PAGE_SIZE)?;
        let attachment = Attachment::new(&buf, c"kunit_mapped")?;
        let table = attachment.map(BOTH)?;

        // SAFETY: The table is mapped.
        let (mut entry, entries) = unsafe { ((*table).sgl, (*table).nents) };
        let mut size = 0;
        for _ in 0..entries {
            // SAFETY: There is one more entry.
            unsafe {
                size += bindings::sg_dma_len(entry) as usize;
                entry = bindings::sg_next(entry);
            }
        }
        attachment.unmap(table, BOTH);
        assert_eq!(size, 3 * PAGE_SIZE);
        Ok(())
    }

    #[test]
    fn a_mapping_of_another_size_is_refused() -> Result {
        let buf = buffer(1, 2 * PAGE_SIZE)?;
        let attachment = Attachment::new(&buf, c"kunit_size")?;

        assert!(attachment.map(BOTH).is_err_and(|err| err == EINVAL));
        Ok(())
    }

    #[test]
    fn a_mapping_in_no_direction_is_refused() -> Result {
        let buf = buffer(1, PAGE_SIZE)?;
        let attachment = Attachment::new(&buf, c"kunit_none")?;
        let none = bindings::dma_data_direction::DMA_NONE;

        assert!(attachment.map(none).is_err_and(|err| err == EINVAL));
        Ok(())
    }

    #[test]
    fn the_error_of_an_exporter_is_returned() -> Result {
        let buf = DmaBuf::<Least>::export(c"kunit", PAGE_SIZE, 0, Ok(Least), forever())?;
        let attachment = Attachment::new(&buf, c"kunit_error")?;

        assert!(attachment.map(BOTH).is_err_and(|err| err == EBUSY));
        Ok(())
    }

    #[test]
    fn brackets_find_no_mapping() -> Result {
        let buf = buffer(1, PAGE_SIZE)?;

        // SAFETY: The buffer is valid.
        to_result(unsafe { bindings::dma_buf_begin_cpu_access(buf.0.get(), BOTH) })?;
        assert!(buf.private().maintained.is_empty());
        buf.sync_for_device(0..PAGE_SIZE);
        Ok(())
    }

    #[test]
    fn a_kernel_mapping_goes_when_it_is_given_back() -> Result {
        let buf = buffer(2, 2 * PAGE_SIZE)?;
        let mut map: bindings::iosys_map = pin_init::zeroed();

        // SAFETY: The buffer is valid, and the map may be written.
        to_result(unsafe { bindings::dma_buf_vmap_unlocked(buf.0.get(), &mut map) })?;
        // SAFETY: The mapping is one of memory, which is zeroed.
        let all = unsafe {
            core::slice::from_raw_parts(map.__bindgen_anon_1.vaddr.cast::<u8>(), 2 * PAGE_SIZE)
        };
        let zeroed = all.iter().all(|byte| *byte == 0);
        // SAFETY: It has been mapped, and is not used any more.
        unsafe { bindings::dma_buf_vunmap_unlocked(buf.0.get(), &mut map) };
        // SAFETY: Nobody maps it now.
        let is_mapped = unsafe { (*buf.private().vmap.get()).is_some() };
        assert!(zeroed);
        assert!(!is_mapped);
        Ok(())
    }

    const SHARED: usize = 1;
    const PRIVATE: usize = 2;

    /// Maps a buffer into a process that the test has.
    fn map_for_process(buf: &DmaBuf<Buffer>, len: usize, flags: usize) -> Result<usize> {
        const READ_WRITE: usize = 3;

        // SAFETY: This is the thread of a test, and the buffer has a file.
        let addr = unsafe {
            let test = bindings::kunit_get_current_test();
            bindings::kunit_vm_mmap(test, (*buf.0.get()).file, 0, len, READ_WRITE, flags, 0)
        };
        // CAST: An error is a small negative number.
        to_result((addr as isize).clamp(-4096, 0) as c_int)?;
        Ok(addr)
    }

    #[test]
    fn a_process_sees_the_pages() -> Result {
        let buf = buffer(2, 2 * PAGE_SIZE)?;
        let second = buf.pages.blocks()[1].address();
        // SAFETY: The page is in the direct mapping, and nobody else has it.
        unsafe { second.as_ptr().cast::<u8>().write(42) };
        let addr = map_for_process(&buf, 2 * PAGE_SIZE, SHARED)?;

        let mut seen = [0; 1];
        UserSlice::new(UserPtr::from_addr(addr + PAGE_SIZE), 1)
            .reader()
            .read_slice(&mut seen)?;
        assert_eq!(seen[0], 42);
        Ok(())
    }

    #[test]
    fn a_private_mapping_is_refused() -> Result {
        let buf = buffer(1, PAGE_SIZE)?;

        assert_eq!(map_for_process(&buf, PAGE_SIZE, PRIVATE), Err(EINVAL));
        Ok(())
    }

    #[test]
    fn a_mapping_beyond_the_pages_is_refused() -> Result {
        // The core knows only the size that has been exported.
        let buf = buffer(1, 2 * PAGE_SIZE)?;

        assert_eq!(map_for_process(&buf, 2 * PAGE_SIZE, SHARED), Err(EINVAL));
        map_for_process(&buf, PAGE_SIZE, SHARED)?;
        Ok(())
    }

    #[test]
    fn what_an_exporter_lacks_is_no_callback() {
        // SAFETY: The callbacks are never written.
        let (least, most) = unsafe { (&*Least::ops().0.get(), &*Buffer::ops().0.get()) };

        assert!(least.mmap.is_none() && most.mmap.is_some());
        assert!(least.vmap.is_none() && most.vmap.is_some());
        assert!(least.begin_cpu_access.is_none() && most.begin_cpu_access.is_some());
        assert!(least.release.is_some() && most.release.is_some());
        assert!(!core::ptr::eq(least, most));
    }
}
