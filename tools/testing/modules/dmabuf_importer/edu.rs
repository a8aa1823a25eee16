// SPDX-License-Identifier: GPL-2.0

//! QEMU's `edu`: a PCI device whose DMA engine copies between memory and a buffer of its own.
//!
//! Its registers are described in QEMU's `docs/specs/edu.txt`. The CPU cannot reach the device's
//! buffer, so data takes a second transfer, between there and memory of this driver.

use kernel::{
    device::{
        Bound,
        Core,
        Device, //
    },
    dma::Coherent,
    driver,
    io::{
        poll::read_poll_timeout,
        Io, //
    },
    new_condvar,
    new_mutex,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        CondVar,
        Mutex, //
    },
    time::Delta, //
};

/// Offsets of registers.
mod reg {
    pub(super) const SOURCE: usize = 0x80;
    pub(super) const DESTINATION: usize = 0x88;
    pub(super) const COUNT: usize = 0x90;
    pub(super) const COMMAND: usize = 0x98;

    pub(super) const END: usize = 0xa0;
}

/// Set to start a transfer; cleared by the device at its end.
const RUN: u64 = 1 << 0;
/// The transfer goes from the device's buffer to memory.
const TO_MEMORY: u64 = 1 << 1;

/// Where the engine finds the device's own buffer.
const BUFFER: u64 = 0x40000;
/// Half of that buffer: QEMU has versions that end when one transfer is for all of it.
const MAX_TRANSFER: usize = 2048;

const VENDOR_AND_DEVICE: (u16, u16) = (0x1234, 0x11e8);

/// The device, bound to this driver.
struct Edu {
    // Revoked when the device is unbound, before which `unbind()` waits for the owner of this.
    bar: pci::DevresBar<{ reg::END }>,
    pdev: ARef<pci::Device>,
}

/// Where the device is while nobody uses it.
#[pin_data]
struct Slot {
    #[pin]
    edu: Mutex<Option<Edu>>,
    #[pin]
    returned: CondVar,
}

kernel::sync::global_lock! {
    // SAFETY: Initialised by `init()`, before anything else is called.
    unsafe(uninit) static SLOT: Mutex<Option<Arc<Slot>>> = None;
}

/// The driver, registered.
pub(crate) type Registration = driver::Registration<pci::Adapter<Driver>>;

/// Registers the driver, after [`init`].
pub(crate) fn register(module: &'static ThisModule) -> impl PinInit<Registration, Error> {
    Registration::new(
        <crate::DmabufImporter as kernel::ModuleMetadata>::NAME,
        module,
    )
}

/// Makes ready for the driver to be registered.
///
/// # Safety
///
/// Must be called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: By this function's safety requirements.
    unsafe { SLOT.init() };
}

/// The sole use of the device.
///
/// # Invariants
///
/// The device is not unbound before its slot has it back. `pdev` is this device, and `edu` is there
/// until then.
pub(crate) struct Claim {
    edu: Option<Edu>,
    pdev: ARef<pci::Device>,
    slot: Arc<Slot>,
}

impl Claim {
    /// Takes the device until drop.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`] if there is none.
    /// - [`EBUSY`] if somebody else uses it.
    pub(crate) fn new() -> Result<Self> {
        let slot = SLOT.lock().clone().ok_or(ENODEV)?;
        let edu = slot.edu.lock().take().ok_or(EBUSY)?;

        // INVARIANT: `unbind()` waits until the slot has it back.
        Ok(Self {
            pdev: edu.pdev.clone(),
            edu: Some(edu),
            slot,
        })
    }

    /// The device, which is able to do DMA as long as `self` lives.
    pub(crate) fn device(&self) -> &Device<Bound> {
        let dev: &Device = (*self.pdev).as_ref();

        // SAFETY: By the type invariants it stays bound as long as `self` lives.
        unsafe { dev.as_bound() }
    }

    /// Lets the engine copy `len` bytes, at most [`MAX_TRANSFER`], and waits for it.
    fn transfer(&self, from: u64, to: u64, len: usize, direction: u64) -> Result {
        let bar = self.edu.as_ref().ok_or(ENODEV)?.bar.access(self.device())?;

        bar.try_write64(from, reg::SOURCE)?;
        bar.try_write64(to, reg::DESTINATION)?;
        bar.try_write64(len as u64, reg::COUNT)?;
        bar.try_write64(RUN | direction, reg::COMMAND)?;

        // It takes a tenth of a second, and longer where the machine is busy.
        read_poll_timeout(
            || bar.try_read64(reg::COMMAND),
            |command| command & RUN == 0,
            Delta::from_millis(5),
            Delta::from_secs(60),
        )
        .map(drop)
    }

    /// Copies from one place to another by way of the device's buffer.
    fn copy(&self, from: u64, to: u64, len: usize) -> Result {
        self.transfer(from, BUFFER, len, 0)?;
        self.transfer(BUFFER, to, len, TO_MEMORY)
    }

    /// Lets the device read what is at `addr`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] if there is no memory for it.
    /// - [`ETIMEDOUT`] if the device does not answer.
    ///
    /// # Safety
    ///
    /// The memory at `addr` must be mapped for the device to read, for the length of `to`.
    pub(crate) unsafe fn read(&self, addr: u64, to: &mut [u8]) -> Result {
        for (addr, to) in (addr..)
            .step_by(MAX_TRANSFER)
            .zip(to.chunks_mut(MAX_TRANSFER))
        {
            let copy = Coherent::<u8>::zeroed_slice(self.device(), to.len(), GFP_KERNEL)?;
            let result = self.copy(addr, copy.dma_address(), to.len());
            if result.is_err() {
                // The device may write to it still.
                core::mem::forget(copy);
                return result;
            }
            (&copy).copy_to_slice(to);
        }
        Ok(())
    }

    /// Lets the device write to `addr`. May sleep.
    ///
    /// # Errors
    ///
    /// As [`Claim::read`].
    ///
    /// # Safety
    ///
    /// The memory at `addr` must be mapped for the device to write, for the length of `from`.
    pub(crate) unsafe fn write(&self, addr: u64, from: &[u8]) -> Result {
        for (addr, from) in (addr..)
            .step_by(MAX_TRANSFER)
            .zip(from.chunks(MAX_TRANSFER))
        {
            let copy = Coherent::from_slice(self.device(), from, GFP_KERNEL)?;
            let result = self.copy(copy.dma_address(), addr, from.len());
            if result.is_err() {
                // The device may read it still.
                core::mem::forget(copy);
                return result;
            }
        }
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        *self.slot.edu.lock() = self.edu.take();
        self.slot.returned.notify_all();
    }
}

/// The driver of the device. There is one at most.
pub(crate) struct Driver;

/// What the driver keeps while the device is bound.
pub(crate) struct Bind {
    slot: Arc<Slot>,
}

impl Bind {
    fn new(pdev: &pci::Device<Core<'_>>) -> Result<Self> {
        if (pdev.vendor_id().as_raw(), pdev.device_id()) != VENDOR_AND_DEVICE {
            return Err(ENODEV);
        }
        let mut slot = SLOT.lock();
        if slot.is_some() {
            return Err(EBUSY);
        }

        pdev.enable_device_mem()?;
        pdev.set_master();
        let edu = Edu {
            bar: pdev
                .iomap_region_sized(0, c"dmabuf_importer")?
                .into_devres()?,
            pdev: pdev.into(),
        };
        let new = Arc::pin_init(
            pin_init!(Slot {
                edu <- new_mutex!(Some(edu)),
                returned <- new_condvar!(),
            }),
            GFP_KERNEL,
        )?;
        *slot = Some(new.clone());
        Ok(Self { slot: new })
    }
}

kernel::pci_device_table!(
    PCI_TABLE,
    <Driver as pci::Driver>::IdInfo,
    // By its class, of devices older than classes, as QEMU is not among the vendors.
    [(pci::DeviceId::from_class(0x00_ff00, 0xff_ff00), ())]
);

impl pci::Driver for Driver {
    type IdInfo = ();
    type Data<'bound> = Bind;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Bind, Error> + 'bound {
        Bind::new(pdev)
    }

    /// Waits until nobody uses the device.
    fn unbind<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Bind>) {
        *SLOT.lock() = None;

        let mut edu = this.slot.edu.lock();
        while edu.is_none() {
            this.slot.returned.wait(&mut edu);
        }
        drop(edu.take());
    }
}
