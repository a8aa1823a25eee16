// SPDX-License-Identifier: GPL-2.0

//! Modules that stay, and modules that come and go.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)

use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque,
    ModuleMetadata, //
};

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

/// The one type that is a module's.
///
/// # Safety
///
/// [`Permanent<Self>`] must be the `type` that `module!` gets, and nobody but that macro may be the
/// first to call its [`kernel::Module::init`]: another caller could fail later, and the module would
/// be freed while it is in use.
pub(crate) unsafe trait Main {}

/// Declares a module that stays loaded. As `module!`, and the `type` is a [`PermanentModule`].
macro_rules! permanent_module {
    (type: $type:ident, $($info:tt)*) => {
        ::kernel::prelude::module! {
            type: crate::kernel::module::Permanent<$type>,
            $($info)*
        }

        // SAFETY: `module!` has got the type, and calls the initialisation before anything else of
        // the module runs.
        unsafe impl crate::kernel::module::Main for $type {}
    };
}
pub(crate) use permanent_module;

/// A module that stays loaded from some point of its initialisation on.
pub(crate) trait PermanentModule: Main + Sized + Send + Sync + 'static {
    /// Prepares everything that can fail. The module is unloaded if this fails.
    fn prepare() -> Result<Self>;

    /// Registers what the kernel offers no way to unregister, such as DMA heaps.
    ///
    /// The module is unloaded if `registrar` has not been told to have it [stay](Registrar::stay) by
    /// then. Loading it fails with the last error that `registrar` has been told.
    fn register<'a>(&'a self, registrar: &mut Registrar<'a>);

    /// Does what else there is to do in a module that stays.
    fn start(&'static self, forever: Forever);
}

/// Registers what the kernel offers no way to unregister, at a time when nothing else can make the
/// module fail to load or be unloaded.
///
/// The lifetime is that of the data of a [`PermanentModule`]: for ever if the module stays, else until
/// [`PermanentModule::register`] returns. It is invariant, so that no reference to the data can be
/// kept anywhere but in what has been registered.
pub(crate) struct Registrar<'a> {
    stays: bool,
    error: Option<Error>,
    _invariant: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl Registrar<'_> {
    /// Has the module and its data stay, whatever happens next.
    pub(crate) fn stay(&mut self) -> Forever {
        self.stays = true;
        // SAFETY: `Permanent` has taken a reference to the module, which it does not give back now,
        // and its initialisation succeeds.
        unsafe { Forever::new() }
    }

    /// Says that something could not be registered.
    pub(crate) fn failed(&mut self, error: Error) {
        self.error = Some(error);
    }
}

/// Makes a [`kernel::Module`] of a [`PermanentModule`]: see [`permanent_module!`].
///
/// Once the module stays, loading it succeeds and `delete_module()` fails with `EWOULDBLOCK`.
pub(crate) struct Permanent<M: PermanentModule>(PhantomData<M>);

impl<M: PermanentModule> kernel::Module for Permanent<M>
where
    Self: ModuleMetadata,
{
    fn init(module: &'static ThisModule) -> Result<Self> {
        static IS_STARTED: Atomic<bool> = Atomic::new(false);

        // A second call, from within the first one, could fail after the module has been told to
        // stay.
        if IS_STARTED.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        let data = KBox::into_raw(KBox::new(M::prepare()?, GFP_KERNEL)?);
        let mut registrar = Registrar {
            stays: false,
            error: None,
            _invariant: PhantomData,
        };

        // From here on callbacks of what is registered may run, so the module has to stay.
        //
        // SAFETY: The module is being initialised, so it is valid.
        unsafe { bindings::__module_get(module.as_ptr()) };
        // SAFETY: `data` is valid, and only taken back below, when nothing has been registered that
        // holds a reference to it.
        M::register(unsafe { &*data }, &mut registrar);

        if registrar.stays {
            // SAFETY: The reference taken above is never given back. This returns success, and so
            // does its caller, as `M` promises. So `data` is never freed either.
            let (data, forever) = unsafe { (&*data, Forever::new()) };

            // For kmemleak: from now on there may be pointers to parts of it only.
            //
            // SAFETY: `data` is the start of an allocation.
            unsafe { bindings::dmacoh_kmemleak_not_leak(core::ptr::from_ref(data).cast()) };
            data.start(forever);
            return Ok(Self(PhantomData));
        }

        // SAFETY: This gives back the reference taken above: nothing has been registered.
        unsafe { bindings::module_put(module.as_ptr()) };
        // SAFETY: `data` came from a `KBox`. Nothing has been registered, and nobody else can have
        // kept a reference, by the lifetime of `Registrar`.
        drop(unsafe { KBox::from_raw(data) });
        Err(registrar.error.unwrap_or(ENODEV))
    }
}

/// A module whose code and data are about to be freed.
pub(crate) struct Going<'a>(&'a Opaque<bindings::module>);

impl Going<'_> {
    /// Returns whether an object at this address is part of the module.
    pub(crate) fn contains(&self, addr: usize) -> bool {
        // SAFETY: The module is valid.
        unsafe { bindings::dmacoh_within_module(addr, self.0.get()) }
    }
}

/// Is told of other modules.
pub(crate) trait Observer: 'static {
    /// A module has been loaded, and stays loaded during the call. May sleep.
    fn live();

    /// A module is being unloaded, or has failed to load. It has undone what it did. May sleep.
    fn going(module: Going<'_>);
}

/// Calls `T` for modules from now on, for ever.
pub(crate) fn observe<T: Observer>(_: Forever) -> Result {
    let block = KBox::new(
        Opaque::new(bindings::notifier_block {
            notifier_call: Some(callback::<T>),
            ..pin_init::zeroed()
        }),
        GFP_KERNEL,
    )?;

    // SAFETY: The block is initialised, and neither it nor the callback ever goes away.
    to_result(unsafe { bindings::register_module_notifier(block.get()) })?;
    KBox::leak(block);
    Ok(())
}

/// # Safety
///
/// Only called by the module loader, with a module as `data`.
unsafe extern "C" fn callback<T: Observer>(
    _block: *mut bindings::notifier_block,
    action: c_ulong,
    data: *mut c_void,
) -> c_int {
    match action as bindings::module_state {
        bindings::module_state_MODULE_STATE_LIVE => T::live(),
        // SAFETY: The module is freed only after all have been told.
        bindings::module_state_MODULE_STATE_GOING => T::going(Going(unsafe { &*data.cast() })),
        _ => (),
    }
    bindings::NOTIFY_OK as c_int
}

/// Keeps the module that exports a symbol loaded, if it is a module.
///
/// # Invariants
///
/// Holds a reference to the module that exports `symbol`, which is at `addr`.
pub(crate) struct SymbolRef {
    symbol: &'static CStr,
    addr: *const c_void,
}

impl SymbolRef {
    /// Takes a reference, unless no loaded module exports `symbol` for modules under the GPL.
    pub(crate) fn get(symbol: &'static CStr) -> Option<Self> {
        // SAFETY: `symbol` is a C string.
        let addr = unsafe { bindings::__symbol_get(symbol.as_char_ptr()) };

        // INVARIANT: The call has taken the reference.
        (!addr.is_null()).then(|| Self { symbol, addr })
    }

    /// The address of the symbol.
    pub(crate) fn as_ptr(&self) -> *const c_void {
        self.addr
    }
}

impl Drop for SymbolRef {
    fn drop(&mut self) {
        // SAFETY: This gives back the reference that `get()` has taken.
        unsafe { bindings::__symbol_put(self.symbol.as_char_ptr()) };
    }
}
