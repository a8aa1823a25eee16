// SPDX-License-Identifier: GPL-2.0

//! Importing devices that user space controls, for tests of dma-buf exporters.
//!
//! The interface is described in `dmabuf_importer.h`.
//!
//! # What is where
//!
//! - [`session`] is what happens on an open file, without `unsafe`.
//! - [`device`] is the device that imports: either [`synthetic`] or [`edu`], for which Linux 7.2
//!   lacks abstractions.
//! - Safe abstractions over C: [`importer`] for what an importer does with a dma-buf, [`synthetic`]
//!   for devices that are made up, [`uapi`] for what user space passes; and those of `rust/kernel`.
//! - The C side: [`bindings`], `helpers.c`.

#[path = "../../../../rust"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "of the abstractions, only what an importer needs is used"
)]
mod ours {
    pub(crate) mod bindings;
    pub(crate) mod kernel;
}
use ours::{
    bindings,
    kernel, //
};

mod device;
#[cfg_attr(not(linux_7_3), path = "no_edu.rs")]
mod edu;
mod importer;
mod session;
mod synthetic;
mod uapi;

use ::kernel::{
    miscdevice::{
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*, //
};
use session::Session;

module! {
    type: DmabufImporter,
    name: "dmabuf_importer",
    authors: ["dmabuf-coherency maintainers"],
    description: "Importing devices that user space controls",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

/// What lives as long as the module does.
#[pin_data]
struct DmabufImporter {
    #[pin]
    _edu: edu::Registration,
    #[pin]
    _node: MiscDeviceRegistration<Session>,
}

impl ::kernel::InPlaceModule for DmabufImporter {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // Devtmpfs leaves the node to root alone.
        let options = MiscDeviceOptions {
            name: c"dmabuf_importer",
        };

        // SAFETY: Called once, before anything else there.
        unsafe { edu::init() };

        try_pin_init!(Self {
            _edu <- edu::register(module),
            _node <- MiscDeviceRegistration::register(options),
        })
    }
}
