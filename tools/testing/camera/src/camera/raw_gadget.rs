// SPDX-License-Identifier: GPL-2.0

//! The kernel's raw gadget: a USB device whose answers all come from here.
//!
//! Numbers and layouts are those of `linux/usb/raw_gadget.h`.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags},
    io::Errno,
    ioctl::{
        Direction, IntegerSetter, Ioctl, IoctlOutput, NoArg, Opcode,
        opcode::{from_components, none},
    },
};
use std::{ffi::c_void, fs, path::Path};

const NODE: &str = "/dev/raw-gadget";

const INIT: Opcode = from_components(Direction::Write, b'U', 0, 257);
const RUN: Opcode = none(b'U', 1);
const EVENT_FETCH: Opcode = from_components(Direction::Read, b'U', 2, 8);
const EP0_WRITE: Opcode = from_components(Direction::Write, b'U', 3, 8);
const EP0_READ: Opcode = from_components(Direction::ReadWrite, b'U', 4, 8);
const EP_ENABLE: Opcode = from_components(Direction::Write, b'U', 5, 9);
const EP_DISABLE: Opcode = from_components(Direction::Write, b'U', 6, 4);
const EP_WRITE: Opcode = from_components(Direction::Write, b'U', 7, 8);
const CONFIGURE: Opcode = none(b'U', 9);
const VBUS_DRAW: Opcode = from_components(Direction::Write, b'U', 10, 4);
const EPS_INFO: Opcode = from_components(Direction::Read, b'U', 11, 960);
const EP0_STALL: Opcode = none(b'U', 12);
const EP_CLEAR_HALT: Opcode = from_components(Direction::Write, b'U', 14, 4);

/// How long a name may be in INIT, its final 0 included.
const NAME: usize = 128;
const HIGH_SPEED: u8 = 3;
/// `struct usb_raw_ep_io` without its data.
const IO: usize = 8;
/// End a transfer with an empty packet if its last packet is full.
const ZERO: u16 = 1;
/// `struct usb_raw_ep_info`
const INFO: usize = 32;
const CAN_BULK: u32 = 1 << 2;
const CAN_IN: u32 = 1 << 4;
const ANY_ADDRESS: u32 = 0xff;
/// The size of packets at high speed.
pub const PACKET: usize = 512;

/// The first eight bytes of a control transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub kind: u8,
    pub request: u8,
    pub value: u16,
    pub index: u16,
    pub length: u16,
}

impl Setup {
    const BYTES: usize = 8;

    fn read(bytes: [u8; Self::BYTES]) -> Self {
        let [kind, request, v0, v1, i0, i1, l0, l1] = bytes;
        Self {
            kind,
            request,
            value: u16::from_le_bytes([v0, v1]),
            index: u16::from_le_bytes([i0, i1]),
            length: u16::from_le_bytes([l0, l1]),
        }
    }

    /// Whether the host waits for data, not only for an acknowledgement.
    pub fn is_in(self) -> bool {
        self.kind & 0x80 != 0 && self.length != 0
    }
}

/// What the device is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// It has a controller now.
    Connect,
    /// The host asks; the answer is one of the `ep0` functions.
    Control(Setup),
    /// The host resets it, or has gone.
    Reset,
    /// Nothing that matters to a device without a battery.
    Other,
}

/// An endpoint in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint(u16);

/// A USB device, plugged in until it is dropped.
pub struct RawGadget {
    fd: OwnedFd,
}

impl RawGadget {
    /// Plugs a device into a controller: `driver` and `device` are the names
    /// of its driver and of its own, for example `dummy_udc` and `dummy_udc.0`.
    pub fn plug(driver: &str, device: &str) -> Result<Self> {
        let mut init = [0; 2 * NAME + 1];
        for (place, name) in [(0, driver), (NAME, device)] {
            ensure!(name.len() < NAME, "{name}: too long for a controller");
            init[place..place + name.len()].copy_from_slice(name.as_bytes());
        }
        init[2 * NAME] = HIGH_SPEED;

        let spare = Self::hold_stale_names()?;
        let gadget = Self::open()?;
        gadget.bytes(INIT, &mut init).context("raw gadget, INIT")?;
        drop(spare);
        // SAFETY: RUN takes no argument.
        match unsafe { rustix::ioctl::ioctl(&gadget.fd, NoArg::<RUN>::new()) } {
            Err(Errno::BUSY) if !Path::new("/sys/class/udc").join(device).exists() => bail!(
                "there is no USB device controller {device}: load the module dummy_hcd, of a \
                 kernel with CONFIG_USB_DUMMY_HCD ('modprobe dummy_hcd', or \
                 'modprobe dummy_hcd num=2' for dummy_udc.1 as well)"
            ),
            Err(Errno::BUSY) => bail!(
                "the USB device controller {device} is taken by another device, or its driver \
                 is not {driver}"
            ),
            result => result.with_context(|| format!("cannot plug into {device}"))?,
        }
        Ok(gadget)
    }

    /// Makes a gadget without a name.
    fn open() -> Result<Self> {
        // Non-blocking access is refused.
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(NODE, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd }),
            Err(Errno::NOENT) => bail!(
                "there is no {NODE}: load the module raw_gadget, of a kernel with \
                 CONFIG_USB_RAW_GADGET ('modprobe raw_gadget')"
            ),
            Err(Errno::ACCESS) => bail!("no permission to open {NODE}: run this as root"),
            Err(errno) => Err(errno).with_context(|| format!("cannot open {NODE}")),
        }
    }

    /// Makes gadgets that do nothing but keep names from being used again.
    ///
    /// A gadget is a driver with a name, raw-gadget.0 and so on: INIT takes the
    /// lowest that is free. With CONFIG_DEBUG_KOBJECT_RELEASE, the name of one
    /// that is gone stays in sysfs for seconds, and the kernel reports a program
    /// that uses it again. So take all up to the highest of these.
    fn hold_stale_names() -> Result<Vec<Self>> {
        let mut spare = Vec::new();
        let Some(highest) = highest_stale_name() else {
            return Ok(spare);
        };
        for _ in 0..=highest {
            let gadget = Self::open()?;
            let mut init = [0; 2 * NAME + 1];
            gadget.bytes(INIT, &mut init).context("raw gadget, INIT")?;
            spare.push(gadget);
        }
        Ok(spare)
    }

    /// Waits for an event.
    pub fn event(&self) -> Result<Event, Errno> {
        let mut bytes = [0; IO + Setup::BYTES];
        bytes[4..8].copy_from_slice(&(Setup::BYTES as u32).to_ne_bytes());
        self.bytes(EVENT_FETCH, &mut bytes)?;
        let [t0, t1, t2, t3, _, _, _, _, setup @ ..] = bytes;
        Ok(match u32::from_ne_bytes([t0, t1, t2, t3]) {
            1 => Event::Connect,
            2 => Event::Control(Setup::read(setup)),
            5 | 6 => Event::Reset,
            _ => Event::Other,
        })
    }

    /// Finds an endpoint that can send in bulk, and returns its address.
    pub fn find_bulk_in(&self) -> Result<u8> {
        let mut bytes = [0; 30 * INFO];
        let count = self
            .bytes(EPS_INFO, &mut bytes)
            .context("raw gadget, EPS_INFO")?;
        for info in bytes.chunks_exact(INFO).take(count) {
            let field = |at: usize| {
                u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]])
            };
            let (address, caps) = (field(16), field(20));
            let packet = u16::from_ne_bytes([info[24], info[25]]);
            if caps & CAN_BULK == 0 || caps & CAN_IN == 0 || usize::from(packet) < PACKET {
                continue;
            }
            let number = if address == ANY_ADDRESS { 1 } else { address };
            return Ok(0x80 | number as u8);
        }
        bail!("this USB device controller has no endpoint that sends in bulk at high speed")
    }

    /// Starts an endpoint, by its descriptor (as in a configuration).
    pub fn enable(&self, descriptor: [u8; 7]) -> Result<Endpoint, Errno> {
        // The structure has two more bytes, for audio.
        let mut bytes = [0; 9];
        bytes[..7].copy_from_slice(&descriptor);
        Ok(Endpoint(self.bytes(EP_ENABLE, &mut bytes)? as u16))
    }

    /// Stops an endpoint that nobody writes to.
    pub fn disable(&self, endpoint: Endpoint) -> Result<(), Errno> {
        self.integer::<EP_DISABLE>(endpoint.0.into())
    }

    /// Forgets that an endpoint was halted.
    pub fn clear_halt(&self, endpoint: Endpoint) -> Result<(), Errno> {
        self.integer::<EP_CLEAR_HALT>(endpoint.0.into())
    }

    /// Tells the controller that the host has configured the device, which
    /// draws so much (in units of 2 mA).
    pub fn configured(&self, power: u8) -> Result<(), Errno> {
        self.integer::<VBUS_DRAW>(power.into())?;
        // SAFETY: CONFIGURE takes no argument.
        unsafe { rustix::ioctl::ioctl(&self.fd, NoArg::<CONFIGURE>::new()) }
    }

    /// Sends, and waits until the host has taken all of it. With `end`, a
    /// last packet that is full is followed by an empty one.
    pub fn send(&self, endpoint: Endpoint, data: &[u8], end: bool) -> Result<(), Errno> {
        self.transfer(EP_WRITE, endpoint.0, if end { ZERO } else { 0 }, data)
            .map(drop)
    }

    /// Answers with data.
    pub fn ep0_send(&self, setup: Setup, data: &[u8]) -> Result<(), Errno> {
        let length = data.len().min(setup.length.into());
        let flags = if length < setup.length.into() {
            ZERO
        } else {
            0
        };
        self.transfer(EP0_WRITE, 0, flags, &data[..length])
            .map(drop)
    }

    /// Accepts a request, and takes the data that come with it.
    pub fn ep0_receive(&self, setup: Setup) -> Result<Vec<u8>, Errno> {
        let mut message = self.transfer(EP0_READ, 0, 0, &vec![0; setup.length.into()])?;
        Ok(message.split_off(IO))
    }

    /// Refuses a request.
    pub fn ep0_stall(&self) -> Result<(), Errno> {
        // SAFETY: EP0_STALL takes no argument.
        unsafe { rustix::ioctl::ioctl(&self.fd, NoArg::<EP0_STALL>::new()) }
    }

    /// Hands over a `struct usb_raw_ep_io` with data, and returns it cut to
    /// what was transferred.
    fn transfer(
        &self,
        opcode: Opcode,
        endpoint: u16,
        flags: u16,
        data: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        let mut message = Vec::with_capacity(IO + data.len());
        message.extend(endpoint.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend((data.len() as u32).to_ne_bytes());
        message.extend(data);
        let done = self.bytes(opcode, &mut message)?;
        message.truncate(IO + done);
        Ok(message)
    }

    fn bytes(&self, opcode: Opcode, bytes: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: The callers above pass as many bytes as the opcode says, and
        // where data follow that structure, those that its length names.
        unsafe { rustix::ioctl::ioctl(&self.fd, Bytes { opcode, bytes }) }
    }

    fn integer<const OPCODE: Opcode>(&self, value: u32) -> Result<(), Errno> {
        // SAFETY: Only used with the opcodes above that take an integer.
        unsafe {
            let call = IntegerSetter::<OPCODE>::new_usize(value as usize);
            rustix::ioctl::ioctl(&self.fd, call)
        }
    }
}

/// The highest number of a driver that sysfs has but that no device is bound to.
fn highest_stale_name() -> Option<u32> {
    let drivers = fs::read_dir("/sys/bus/gadget/drivers").ok()?;
    let is_bound = |driver: &Path| {
        let entries = fs::read_dir(driver).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with("gadget."))
    };
    drivers
        .flatten()
        .filter(|driver| !is_bound(&driver.path()))
        .filter_map(|driver| {
            let name = driver.file_name();
            name.to_str()?.strip_prefix("raw-gadget.")?.parse().ok()
        })
        .max()
}

/// An ioctl with a structure of variable length that says itself how long it
/// is, and with a result.
struct Bytes<'a> {
    opcode: Opcode,
    bytes: &'a mut [u8],
}

// SAFETY: The ioctl is said to mutate, and nothing is read through the pointer.
// The code that makes a `Bytes` sees to it that there are enough of them.
unsafe impl Ioctl for Bytes<'_> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.bytes.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<usize, Errno> {
        Ok(output as usize)
    }
}
