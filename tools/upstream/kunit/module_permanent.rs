// SPDX-License-Identifier: GPL-2.0

#[kunit_tests(rust_module_permanent)]
mod tests {
    use super::*;
    use crate::{
        module::this_module,
        sync::atomic::{
            Atomic,
            Relaxed, //
        }, //
    };

    fn run<M: PermanentModule>() -> Result {
        // SAFETY: What is built in is initialised once for all.
        unsafe { init::<M>(this_module::<crate::LocalModule>()) }
    }

    struct Unprepared;

    impl PermanentModule for Unprepared {
        fn prepare() -> Result<Self> {
            Err(EXDEV)
        }

        fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
            registrar.stay();
        }

        fn start(&'static self, _: Forever) {}
    }

    #[test]
    fn what_cannot_be_prepared_does_not_stay() {
        assert_eq!(run::<Unprepared>(), Err(EXDEV));
    }

    struct Idle;

    static DROPPED: Atomic<bool> = Atomic::new(false);

    impl PermanentModule for Idle {
        fn prepare() -> Result<Self> {
            Ok(Self)
        }

        fn register<'a>(&'a self, _: &mut Registrar<'a>) {}

        fn start(&'static self, _: Forever) {}
    }

    impl Drop for Idle {
        fn drop(&mut self) {
            DROPPED.store(true, Relaxed);
        }
    }

    #[test]
    fn what_registers_nothing_does_not_stay() {
        assert_eq!(run::<Idle>(), Err(ENODEV));
        assert!(DROPPED.load(Relaxed));
    }

    struct Stays;

    static STARTED: Atomic<bool> = Atomic::new(false);

    impl PermanentModule for Stays {
        fn prepare() -> Result<Self> {
            Ok(Self)
        }

        fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
            registrar.stay();
            // It stays all the same.
            registrar.failed(EBUSY);
        }

        fn start(&'static self, _: Forever) {
            STARTED.store(true, Relaxed);
        }
    }

    #[test]
    fn what_registers_something_stays() {
        assert_eq!(run::<Stays>(), Ok(()));
        assert!(STARTED.load(Relaxed));
    }
}
