// SPDX-License-Identifier: GPL-2.0

//! Importing devices that user space makes up, for tests of dma-buf exporters.
//!
//! The interface is described in `dmabuf_importer.h`.
//!
//! # Rooms
//!
//! - [`session`] is what happens on an open file, without `unsafe`.
//! - Safe abstractions over C: [`importer`] for what an importer does with a dma-buf, [`device`]
//!   for the device that it does it for, [`uapi`] for what user space passes.
//! - The C side: [`bindings`], `helpers.c`.

mod bindings;
mod device;
mod importer;
mod session;
mod uapi;

use kernel::{
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
    description: "Importing devices that user space makes up",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
}

/// What lives as long as the module does.
#[pin_data]
struct DmabufImporter {
    #[pin]
    _node: MiscDeviceRegistration<Session>,
}

impl kernel::InPlaceModule for DmabufImporter {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // Devtmpfs leaves the node to root alone.
        let options = MiscDeviceOptions {
            name: c"dmabuf_importer",
        };

        try_pin_init!(Self {
            _node <- MiscDeviceRegistration::register(options),
        })
    }
}
