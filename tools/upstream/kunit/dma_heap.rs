// SPDX-License-Identifier: GPL-2.0

#[kunit_tests(rust_dma_heap)]
mod tests {
    use super::*;
    use crate::{
        dma::{
            dma_device::DmaDevice,
            Attrs, //
        },
        dma_buf::{
            Mapping,
            Ops,
            Reserved, //
        },
        mm::page::{
            Caching,
            Effort,
            PageBlock,
            Pages,
            Zone, //
        },
        module::{
            permanent::{
                init,
                PermanentModule, //
            },
            this_module, //
        },
        page::PAGE_SHIFT,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        }, //
    };

    struct Buffer {
        pages: Arc<Pages>,
    }

    #[vtable]
    impl Exporter for Buffer {
        fn ops() -> &'static Ops<Self> {
            static OPS: Ops<Buffer> = Ops::new();
            &OPS
        }

        fn attach(_: &DmaBuf<Self>, _: DmaDevice<'_>) -> Result {
            Ok(())
        }

        fn map(buf: Reserved<'_, Self>, _: DmaDevice<'_>) -> Result<Mapping> {
            Ok(Mapping {
                pages: buf.pages.clone(),
                attrs: Attrs::NONE,
                maintained: true,
            })
        }
    }

    struct Single;

    impl Heap for Single {
        type Buffer = Buffer;

        fn allocate(
            &'static self,
            len: usize,
            fd_flags: u32,
            forever: Forever,
        ) -> Result<ARef<DmaBuf<Buffer>>> {
            let mut pages = Pages::new(Caching::WriteBack, None)?;
            pages.push(
                PageBlock::alloc_zeroed(len >> PAGE_SHIFT, Zone::All, Effort::Reclaim, false)?,
                1,
            )?;
            let pages = pages.into();

            DmaBuf::export(c"kunit", len, fd_flags, Ok(Buffer { pages }), forever)
        }
    }

    /// Names that the core would take for something else.
    const BAD_NAMES: [&CStr; 5] = [c"", c".", c"..", c"a/b", c"a%s"];

    /// A module that registers one heap, and no other.
    struct Stays(Single);

    static STARTED: Atomic<bool> = Atomic::new(false);

    impl PermanentModule for Stays {
        fn prepare() -> Result<Self> {
            Ok(Self(Single))
        }

        fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
            assert!(registrar.try_add(c"kunit-single", &self.0).is_ok());
        }

        fn start(&'static self, forever: Forever) {
            let buf = self.0.allocate(4096, bindings::O_RDWR, forever);
            STARTED.store(buf.is_ok_and(|buf| buf.size() == 4096), Relaxed);
        }
    }

    #[test]
    fn a_heap_is_registered_and_the_module_stays() -> Result {
        // SAFETY: What is built in is initialised once for all.
        unsafe { init::<Stays>(this_module::<crate::LocalModule>()) }?;
        assert!(STARTED.load(Relaxed));
        Ok(())
    }

    /// A module whose heaps have names that nobody may have.
    struct Goes(Single);

    static DROPPED: Atomic<bool> = Atomic::new(false);

    impl PermanentModule for Goes {
        fn prepare() -> Result<Self> {
            Ok(Self(Single))
        }

        fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
            for name in BAD_NAMES {
                let result = registrar.try_add(name, &self.0);

                assert!(result.is_err_and(|err| err == EINVAL));
            }
            registrar.failed(EXDEV);
        }

        fn start(&'static self, _: Forever) {}
    }

    impl Drop for Goes {
        fn drop(&mut self) {
            DROPPED.store(true, Relaxed);
        }
    }

    #[test]
    fn a_module_with_bad_names_does_not_stay() {
        // SAFETY: As above.
        let result = unsafe { init::<Goes>(this_module::<crate::LocalModule>()) };

        assert!(result.is_err_and(|err| err == EXDEV));
        assert!(DROPPED.load(Relaxed));
    }
}
