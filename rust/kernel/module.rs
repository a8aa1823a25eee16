// SPDX-License-Identifier: GPL-2.0

//! Modules that stay.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)

pub(crate) mod others;

use crate::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// Proof that this module is never unloaded. Functions ask for it that do what the kernel offers
/// no safe way to undo.
#[derive(Clone, Copy)]
pub(crate) struct Forever(());

impl Forever {
    /// # Safety
    ///
    /// Somebody must hold a reference to this module that is never given back, and the module's
    /// initialisation must succeed.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

/// Declares a module that stays loaded. As `module!`, and the `type` is a [`PermanentModule`].
macro_rules! permanent_module {
    (type: $type:ident, $($info:tt)*) => {
        ::kernel::prelude::module! {
            type: Permanent,
            $($info)*
        }

        /// The module as `module!` wants it.
        struct Permanent(());

        impl ::kernel::Module for Permanent {
            fn init(module: &'static ::kernel::ThisModule) -> ::kernel::error::Result<Self> {
                use ::kernel::sync::atomic::{
                    Atomic,
                    Relaxed, //
                };

                static IS_STARTED: Atomic<bool> = Atomic::new(false);

                // A second call, from within the first one, could fail after the module has been
                // told to stay.
                if IS_STARTED.xchg(true, Relaxed) {
                    return Err(::kernel::error::code::EBUSY);
                }
                // SAFETY: This is the first call. It is by the code that `module!` has made, before
                // anything else of the module runs, and that succeeds if this does.
                unsafe { crate::kernel::module::init::<$type>(module) }?;
                Ok(Self(()))
            }
        }
    };
}
pub(crate) use permanent_module;

/// A module that stays loaded from some point of its initialisation on.
///
/// # Examples
///
/// ```
/// use kernel::{
///     module::permanent::{
///         Forever,
///         PermanentModule,
///         Registrar, //
///     },
///     sync::SetOnce, //
/// };
///
/// static FOREVER: SetOnce<Forever> = SetOnce::new();
///
/// struct Stays {
///     numbers: KVec<u32>,
/// }
///
/// impl PermanentModule for Stays {
///     fn prepare() -> Result<Self> {
///         Ok(Self {
///             numbers: KVec::from_elem(1, 3, GFP_KERNEL)?,
///         })
///     }
///
///     fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
///         if self.numbers.is_empty() {
///             registrar.failed(ENODEV);
///         } else {
///             registrar.stay();
///         }
///     }
///
///     fn start(&'static self, forever: Forever) {
///         FOREVER.populate(forever);
///     }
/// }
///
/// let module = Stays::prepare()?;
/// assert_eq!(module.numbers.len(), 3);
/// # Ok::<(), Error>(())
/// ```
pub(crate) trait PermanentModule: Sized + Send + Sync + 'static {
    /// Prepares everything that can fail. The module is unloaded if this fails.
    fn prepare() -> Result<Self>;

    /// Registers what the kernel offers no way to unregister, such as DMA heaps.
    ///
    /// The module is unloaded if `registrar` has not been told to have it [stay](Registrar::stay)
    /// by then. Loading it fails with the last error that `registrar` has been told.
    fn register<'a>(&'a self, registrar: &mut Registrar<'a>);

    /// Does what else there is to do in a module that stays.
    fn start(&'static self, forever: Forever);
}

/// Registers what the kernel offers no way to unregister, at a time when nothing else can make the
/// module fail to load or be unloaded.
///
/// The lifetime is that of the data of a [`PermanentModule`]: for ever if the module stays, else
/// until [`PermanentModule::register`] returns. It is invariant, so that no reference to the data
/// can be kept anywhere but in what has been registered.
pub(crate) struct Registrar<'a> {
    stays: bool,
    error: Option<Error>,
    _invariant: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl Registrar<'_> {
    /// Makes the module and its data stay, whatever happens next.
    pub(crate) fn stay(&mut self) -> Forever {
        self.stays = true;
        // SAFETY: `init()` has taken a reference to the module, which it does not give back now,
        // and the module's initialisation succeeds.
        unsafe { Forever::new() }
    }

    /// Records that something could not be registered.
    pub(crate) fn failed(&mut self, error: Error) {
        self.error = Some(error);
    }
}

/// Starts a [`PermanentModule`]: see [`permanent_module!`].
///
/// Once the module stays, this succeeds, and `delete_module()` fails with `EWOULDBLOCK`.
///
/// # Errors
///
/// - [`ENOMEM`] if there is no memory for the data of the module.
/// - [`ENODEV`] if nothing has been registered.
/// - Those of [`PermanentModule::prepare`], and the last one that a [`Registrar`] has been told.
///
/// # Safety
///
/// Only called once, by the initialisation of `module`, of which `M` is part. If this succeeds, so
/// must the initialisation.
///
/// # Examples
///
/// ```
/// use kernel::module::permanent::{
///     init,
///     Forever,
///     PermanentModule,
///     Registrar, //
/// };
///
/// struct Stays;
///
/// impl PermanentModule for Stays {
///     fn prepare() -> Result<Self> {
///         Ok(Self)
///     }
///
///     fn register<'a>(&'a self, registrar: &mut Registrar<'a>) {
///         registrar.stay();
///     }
///
///     fn start(&'static self, _: Forever) {}
/// }
///
/// /// The type that `module!` is given.
/// struct Loaded;
///
/// impl kernel::Module for Loaded {
///     fn init(module: &'static ThisModule) -> Result<Self> {
///         // SAFETY: `module!` calls this once. It succeeds if `init()` does.
///         unsafe { init::<Stays>(module) }?;
///         Ok(Self)
///     }
/// }
/// ```
pub(crate) unsafe fn init<M: PermanentModule>(module: &'static ThisModule) -> Result {
    let data = KBox::into_raw(KBox::new(M::prepare()?, GFP_KERNEL)?);
    let mut registrar = Registrar {
        stays: false,
        error: None,
        _invariant: PhantomData,
    };

    // From here on callbacks of what is registered may run, so the module has to stay.
    //
    // SAFETY: The module is being initialised, so it is valid.
    unsafe { bindings::dmacoh___module_get(module.as_ptr()) };
    // SAFETY: `data` is valid, and only taken back below, when nothing has been registered that
    // holds a reference to it.
    M::register(unsafe { &*data }, &mut registrar);

    if registrar.stays {
        // SAFETY: The reference taken above is never given back. This returns success, and so
        // does its caller, as that promises. So `data` is never freed either.
        let (data, forever) = unsafe { (&*data, Forever::new()) };

        // For kmemleak: from now on there may be pointers to parts of it only.
        //
        // SAFETY: `data` is the start of an allocation.
        unsafe { bindings::dmacoh_kmemleak_not_leak(core::ptr::from_ref(data).cast()) };
        data.start(forever);
        return Ok(());
    }

    // SAFETY: This gives back the reference taken above: nothing has been registered.
    unsafe { bindings::dmacoh_module_put(module.as_ptr()) };
    // SAFETY: `data` came from a `KBox`. Nothing has been registered, and nobody else can have
    // kept a reference, by the lifetime of `Registrar`.
    drop(unsafe { KBox::from_raw(data) });
    Err(registrar.error.unwrap_or(ENODEV))
}
