// SPDX-License-Identifier: GPL-2.0

//! Attacks on the abstractions of the module, by code without `unsafe`.
//!
//! Built instead of `rust/dmabuf_coherency.rs`, with all else that is there, if `ATTACK` names one of
//! the files beside this one. `guest` has to build, and tries in a guest what the compiler cannot
//! forbid. Each of the others is something that it does forbid: it must say what the `.stderr` beside
//! it says. The group `attacks` of the runner does both.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "of the module, only what an attack is about is used"
)]

#[path = "../../../rust"]
mod ours {
    pub(crate) mod bindings;
    pub(crate) mod coherency;
    pub(crate) mod exports;
    pub(crate) mod heap;
    pub(crate) mod kernel;
    pub(crate) mod links;
    pub(crate) mod policy;
    pub(crate) mod pool;
    pub(crate) mod region;
    pub(crate) mod requests;
    pub(crate) mod trace;
    pub(crate) mod usage;
}
use ours::*;

#[forbid(unsafe_code)]
mod attack {
    include!(env!("DMABUF_COHERENCY_ATTACK"));
}

use ::kernel::prelude::*;
#[cfg(attack = "guest")]
use ours::kernel::module;

module! {
    type: Module,
    name: "dmabuf_coherency",
    authors: ["dmabuf-coherency maintainers"],
    description: "Attacks on the abstractions of the module",
    license: "GPL",
    imports_ns: ["DMA_BUF", "DMA_BUF_HEAP"],
}

struct Module;

impl ::kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: This is the initialisation of the module, which is called once and succeeds then.
        #[cfg(attack = "guest")]
        unsafe { module::init::<attack::Guest>(_module) }?;
        Ok(Self)
    }
}
