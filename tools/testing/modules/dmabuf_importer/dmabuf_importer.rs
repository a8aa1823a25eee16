// SPDX-License-Identifier: GPL-2.0

//! Devices that import dma-bufs as user space tells them, for tests of exporters.
//!
//! `dmabuf_importer.h` describes the interface.
//!
//! # Source files
//!
//! - [`session`] handles an open file, without `unsafe`.
//! - [`device`] is the device that imports: either [`synthetic`] or [`edu`]. Linux 7.2 lacks the
//!   abstractions for the latter.
//! - Safe abstractions over C: [`importer`] for the importer's side of a dma-buf, [`synthetic`] for
//!   devices without hardware, [`uapi`] for the arguments of ioctls, and those of `rust/kernel`.
//! - The interface to C: [`bindings`], `helpers.c`.

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

/// The data of the module.
#[pin_data]
struct DmabufImporter {
    #[pin]
    _edu: edu::Registration,
    #[pin]
    _node: MiscDeviceRegistration<Session>,
}

impl ::kernel::InPlaceModule for DmabufImporter {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // Only root can open the node, because devtmpfs creates it with mode 0600.
        let options = MiscDeviceOptions {
            name: c"dmabuf_importer",
        };

        // SAFETY: The kernel initialises the module once, and nothing of `edu` is used before.
        unsafe { edu::init() };

        try_pin_init!(Self {
            _edu <- edu::register(module),
            _node <- MiscDeviceRegistration::register(options),
        })
    }
}
