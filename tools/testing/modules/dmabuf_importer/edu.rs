// SPDX-License-Identifier: GPL-2.0

//! QEMU's `edu`: a PCI device with a DMA engine that copies between memory and the device's buffer.
//!
//! QEMU's `docs/specs/edu.txt` describes its registers. The CPU cannot access the device's buffer.
//! So each access takes two transfers: from memory to the device's buffer, and from there to
//! memory. One side is the memory that is accessed, the other a copy that this driver allocates.

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

/// The driver sets this bit to start a transfer. The device clears it at the end.
const RUN: u64 = 1 << 0;
/// The transfer goes from the device's buffer to memory.
const TO_MEMORY: u64 = 1 << 1;

/// The address of the device's buffer, as its DMA engine sees it.
const BUFFER: u64 = 0x40000;
/// The size of the largest transfer, in bytes: half of that buffer. Some versions of QEMU exit if a
/// transfer is as large as the buffer.
const MAX_TRANSFER: usize = 2048;

const VENDOR_AND_DEVICE: (u16, u16) = (0x1234, 0x11e8);

/// The device, bound to this driver.
struct Edu {
    // The driver core revokes this when the device is unbound. Before that, `unbind()` waits until
    // the owner of the `Edu` has returned it.
    bar: pci::DevresBar<{ reg::END }>,
    pdev: ARef<pci::Device>,
}

/// Holds the device while nobody uses it.
#[pin_data]
struct Slot {
    #[pin]
    edu: Mutex<Option<Edu>>,
    #[pin]
    returned: CondVar,
}

kernel::sync::global_lock! {
    // SAFETY: The module calls `init()` before it uses anything else in this file.
    unsafe(uninit) static SLOT: Mutex<Option<Arc<Slot>>> = None;
}

/// The registration of the driver.
pub(crate) type Registration = driver::Registration<pci::Adapter<Driver>>;

/// Registers the driver. [`init`] must have been called before.
pub(crate) fn register(module: &'static ThisModule) -> impl PinInit<Registration, Error> {
    Registration::new(
        <crate::DmabufImporter as kernel::ModuleMetadata>::NAME,
        module,
    )
}

/// Initialises this file, so that the driver can be registered.
///
/// # Safety
///
/// Must be called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: By this function's safety requirements.
    unsafe { SLOT.init() };
}

/// The right to use the device. Only one exists at a time.
///
/// # Invariants
///
/// - The device stays bound until `edu` is back in `slot`.
/// - `pdev` is the device of `edu`.
/// - `edu` is `Some` until the drop.
pub(crate) struct Claim {
    edu: Option<Edu>,
    pdev: ARef<pci::Device>,
    slot: Arc<Slot>,
}

impl Claim {
    /// Takes the device out of its slot. The drop returns it.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`] if there is no such device.
    /// - [`EBUSY`] if somebody else uses the device.
    pub(crate) fn new() -> Result<Self> {
        let slot = SLOT.lock().clone().ok_or(ENODEV)?;
        let edu = slot.edu.lock().take().ok_or(EBUSY)?;

        // INVARIANT: `unbind()` waits until `edu` is back in the slot.
        Ok(Self {
            pdev: edu.pdev.clone(),
            edu: Some(edu),
            slot,
        })
    }

    /// Returns the device. It stays able to do DMA as long as `self` lives.
    pub(crate) fn device(&self) -> &Device<Bound> {
        let dev: &Device = (*self.pdev).as_ref();

        // SAFETY: By the type invariants it stays bound as long as `self` lives.
        unsafe { dev.as_bound() }
    }

    /// Makes the DMA engine copy `len` bytes, at most [`MAX_TRANSFER`], and waits until it has
    /// finished. May sleep.
    fn transfer(&self, from: u64, to: u64, len: usize, direction: u64) -> Result {
        let bar = self.edu.as_ref().ok_or(ENODEV)?.bar.access(self.device())?;

        bar.try_write64(from, reg::SOURCE)?;
        bar.try_write64(to, reg::DESTINATION)?;
        bar.try_write64(len as u64, reg::COUNT)?;
        bar.try_write64(RUN | direction, reg::COMMAND)?;

        // A transfer takes a tenth of a second, and longer if the machine is busy.
        read_poll_timeout(
            || bar.try_read64(reg::COMMAND),
            |command| command & RUN == 0,
            Delta::from_millis(5),
            Delta::from_secs(60),
        )
        .map(drop)
    }

    /// Copies `len` bytes from one DMA address to another, through the device's buffer.
    fn copy(&self, from: u64, to: u64, len: usize) -> Result {
        self.transfer(from, BUFFER, len, 0)?;
        self.transfer(BUFFER, to, len, TO_MEMORY)
    }

    /// Makes the device read memory at the DMA address `addr`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] if there is not enough memory.
    /// - [`ETIMEDOUT`] if the device does not answer.
    ///
    /// # Safety
    ///
    /// As many bytes at `addr` as `to` has must be mapped so that the device may read them.
    pub(crate) unsafe fn read(&self, addr: u64, to: &mut [u8]) -> Result {
        for (addr, to) in (addr..)
            .step_by(MAX_TRANSFER)
            .zip(to.chunks_mut(MAX_TRANSFER))
        {
            let copy = Coherent::<u8>::zeroed_slice(self.device(), to.len(), GFP_KERNEL)?;
            let result = self.copy(addr, copy.dma_address(), to.len());
            if result.is_err() {
                // The device may still write to the copy, so never free it.
                core::mem::forget(copy);
                return result;
            }
            (&copy).copy_to_slice(to);
        }
        Ok(())
    }

    /// Makes the device write to memory at the DMA address `addr`. May sleep.
    ///
    /// # Errors
    ///
    /// As [`Claim::read`].
    ///
    /// # Safety
    ///
    /// As many bytes at `addr` as `from` has must be mapped so that the device may write them.
    pub(crate) unsafe fn write(&self, addr: u64, from: &[u8]) -> Result {
        for (addr, from) in (addr..)
            .step_by(MAX_TRANSFER)
            .zip(from.chunks(MAX_TRANSFER))
        {
            let copy = Coherent::from_slice(self.device(), from, GFP_KERNEL)?;
            let result = self.copy(copy.dma_address(), addr, from.len());
            if result.is_err() {
                // The device may still read the copy, so never free it.
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

/// The driver of the device. It binds to at most one device.
pub(crate) struct Driver;

/// The driver's data while the device is bound.
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
    // Match the class of devices that are older than PCI classes: the kernel crate has no constant
    // for QEMU's vendor ID. `Bind::new()` checks the IDs.
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

    /// Prevents new uses of the device, and waits until nobody uses it.
    fn unbind<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Bind>) {
        *SLOT.lock() = None;

        let mut edu = this.slot.edu.lock();
        while edu.is_none() {
            this.slot.returned.wait(&mut edu);
        }
        drop(edu.take());
    }
}
