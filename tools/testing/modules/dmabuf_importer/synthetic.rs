// SPDX-License-Identifier: GPL-2.0

//! Devices that exist only in this module.
//!
//! C headers: [`include/linux/device.h`](srctree/include/linux/device.h),
//! [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use crate::{
    bindings,
    device,
    kernel::{
        compat::faux_device,
        device::DeviceExt, //
    }, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DmaMask,
    error::to_result,
    faux,
    prelude::*,
    str::CString,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque, //
};

/// What a driver says of its device.
pub(crate) struct Config {
    /// Whether the device's DMA sees the CPU caches.
    pub(crate) snoops: bool,
    /// Which addresses it can reach, if it does DMA at all.
    pub(crate) mask: Option<DmaMask>,
    /// The largest segment that it takes; 0 if the driver does not say.
    pub(crate) max_segment_size: u32,
    /// The boundary that its segments must not cross, less one; 0 if the driver does not say.
    pub(crate) segment_boundary: usize,
    /// By how much its addresses are less than those of the CPU.
    pub(crate) offset: u64,
}

/// A synthetic device, bound to a driver as long as this lives.
///
/// It is on the faux bus, where no IOMMU is ever put in front of a device.
///
/// # Invariants
///
/// The device's `dma_parms` is `parameters`, or NULL without any; its `dma_mask` is its own
/// `coherent_dma_mask`, or NULL.
pub(crate) struct SyntheticDevice {
    // The drop order matters: `drop()` takes the parameters from the device, which may outlive its
    // registration.
    registration: faux::Registration,
    parameters: Option<KBox<Opaque<bindings::device_dma_parameters>>>,
    number: u32,
}

impl SyntheticDevice {
    /// Makes a device, called `dmabuf_importer.<number>`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EIO`] if the DMA API does not support such a mask.
    /// - [`ENOMEM`] if there is no memory for it.
    /// - [`ENODEV`] if the driver core does not take it.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        static NEXT: Atomic<u32> = Atomic::new(0);

        let number = NEXT.fetch_add(1, Relaxed);
        let name = CString::try_from_fmt(fmt!("dmabuf_importer.{number}"))?;

        let parameters = if (config.max_segment_size, config.segment_boundary) == (0, 0) {
            None
        } else {
            let parameters = Opaque::new(bindings::device_dma_parameters {
                max_segment_size: config.max_segment_size,
                segment_boundary_mask: config.segment_boundary,
                ..Default::default()
            });
            Some(KBox::new(parameters, GFP_KERNEL)?)
        };

        // INVARIANT: A new device of this bus has neither mask nor parameters. Both are set below,
        // as the invariants ask.
        let this = Self {
            registration: faux::Registration::new(&name, None)?,
            parameters,
            number,
        };
        let dev = this.as_raw();

        // SAFETY: The device is valid.
        unsafe { bindings::importer_assign_dma_coherent(dev, config.snoops) };
        if let Some(parameters) = &this.parameters {
            // SAFETY: The device is valid, and does no DMA yet.
            unsafe { (*dev).dma_parms = parameters.get() };
        }
        if config.offset != 0 {
            // SAFETY: As above. The driver core frees the map when the device is unbound.
            to_result(unsafe { bindings::importer_set_offset(dev, config.offset) })?;
        }
        if let Some(mask) = config.mask {
            // SAFETY: As above.
            unsafe { (*dev).dma_mask = &raw mut (*dev).coherent_dma_mask };
            device::set_mask(this.bound(), mask)?;
        }

        Ok(this)
    }

    /// The number in the device's name.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The device that the driver core knows, able to do DMA as long as `self` lives.
    pub(crate) fn bound(&self) -> &Device<Bound> {
        faux_device(&self.registration)
    }

    fn as_raw(&self) -> *mut bindings::device {
        self.bound().as_raw()
    }
}

impl Drop for SyntheticDevice {
    fn drop(&mut self) {
        // SAFETY: The device is valid, and nobody uses it for DMA any more: its users
        // have a reference to `self`.
        unsafe { (*self.as_raw()).dma_parms = core::ptr::null_mut() };
    }
}

// SAFETY: The parameters are only written before the device is used. What else is shared is the C
// side's, which expects that.
unsafe impl Sync for SyntheticDevice {}
