// SPDX-License-Identifier: GPL-2.0

//! Synthetic devices: devices without hardware that this module creates.
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

/// The properties of a synthetic device, as its driver sets them.
pub(crate) struct Config {
    /// Whether the device's DMA snoops the CPU caches.
    pub(crate) snoops: bool,
    /// The DMA mask. `None` if the device does no DMA.
    pub(crate) mask: Option<DmaMask>,
    /// The size of the largest segment that it accepts, in bytes; 0 if the driver sets no limit.
    pub(crate) max_segment_size: u32,
    /// The boundary that its segments must not cross, less one; 0 if the driver sets none.
    pub(crate) segment_boundary: usize,
    /// By how much its DMA addresses are less than physical addresses of the CPU.
    pub(crate) offset: u64,
}

/// A synthetic device. It is bound to a driver as long as this value lives.
///
/// The device is on the faux bus, where no device is behind an IOMMU.
///
/// # Invariants
///
/// - The device's `dma_parms` points to `parameters`, or is NULL if that is `None`.
/// - The device's `dma_mask` points to its own `coherent_dma_mask`, or is NULL.
pub(crate) struct SyntheticDevice {
    // The device may outlive its registration. So `drop()` clears its pointer to `parameters`
    // before the fields are dropped.
    registration: faux::Registration,
    parameters: Option<KBox<Opaque<bindings::device_dma_parameters>>>,
    number: u32,
}

impl SyntheticDevice {
    /// Creates a device with the name `dmabuf_importer.<number>`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EIO`] if the DMA API does not support the mask.
    /// - [`ENOMEM`] if there is not enough memory.
    /// - [`ENODEV`] if the driver core does not accept the device.
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

        // INVARIANT: A new device on this bus has neither a mask nor parameters. The code below
        // sets both as the invariants demand.
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

    /// Returns the number in the device's name.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Returns the device of the driver core. It stays able to do DMA as long as `self` lives.
    pub(crate) fn bound(&self) -> &Device<Bound> {
        faux_device(&self.registration)
    }

    fn as_raw(&self) -> *mut bindings::device {
        self.bound().as_raw()
    }
}

impl Drop for SyntheticDevice {
    fn drop(&mut self) {
        // SAFETY: The device is valid. Nobody uses it for DMA any more, because all its users hold
        // a reference to `self`.
        unsafe { (*self.as_raw()).dma_parms = core::ptr::null_mut() };
    }
}

// SAFETY: The parameters are only written before the device is used. The rest of the shared state
// belongs to the C side, which allows concurrent use.
unsafe impl Sync for SyntheticDevice {}
