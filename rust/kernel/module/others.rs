// SPDX-License-Identifier: GPL-2.0

//! Other modules, which come and go.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)

use crate::{
    bindings,
    kernel::module::Forever, //
};
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// A module whose code and data are about to be freed.
pub(crate) struct Going<'a>(&'a Opaque<bindings::module>);

impl Going<'_> {
    /// Returns whether an object at this address is part of the module.
    pub(crate) fn contains(&self, addr: usize) -> bool {
        // SAFETY: The module is valid.
        unsafe { bindings::dmacoh_within_module(addr, self.0.get()) }
    }
}

/// An observer of other modules.
pub(crate) trait Observer: 'static {
    /// Called when a module has been loaded. The module stays loaded during the call. May sleep.
    fn live();

    /// Called when a module is being unloaded, or has failed to load. The module has run its own
    /// clean-up. May sleep.
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
