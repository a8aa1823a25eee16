// SPDX-License-Identifier: GPL-2.0

//! The importing devices of the test module `dmabuf_importer`.
//!
//! Numbers and structures are those of `tools/testing/modules/dmabuf_importer.h`.

use crate::expect::{outcome, skip};
use crate::heap::Buffer;
use crate::ioctl;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};
use std::fs;
use std::path::{Path, PathBuf};

const NODE: &str = "/dev/dmabuf_importer";

/// A size of buffers that are one block only in heaps of contiguous memory.
pub const SCATTERED: usize = (9 << 20) + 4096;

const MAGIC: u8 = 0xf7;
pub const SETUP: Opcode = opcode::read_write::<RawSetup>(MAGIC, 0);
const MASK: Opcode = opcode::write::<RawMask>(MAGIC, 1);
const ATTACH: Opcode = opcode::read_write::<RawAttach>(MAGIC, 2);
const DETACH: Opcode = opcode::write::<RawHandle>(MAGIC, 3);
const MAP: Opcode = opcode::read_write::<RawMap>(MAGIC, 4);
const UNMAP: Opcode = opcode::write::<RawHandle>(MAGIC, 5);
const READ: Opcode = opcode::write::<RawAccess>(MAGIC, 6);
const WRITE: Opcode = opcode::write::<RawAccess>(MAGIC, 7);
const VMAP: Opcode = opcode::read_write::<RawVmap>(MAGIC, 8);
const VUNMAP: Opcode = opcode::write::<RawHandle>(MAGIC, 9);
const KREAD: Opcode = opcode::write::<RawAccess>(MAGIC, 10);
const KWRITE: Opcode = opcode::write::<RawAccess>(MAGIC, 11);
const BEGIN_CPU_ACCESS: Opcode = opcode::write::<RawCpuAccess>(MAGIC, 12);
const END_CPU_ACCESS: Opcode = opcode::write::<RawCpuAccess>(MAGIC, 13);
const QUERY: Opcode = opcode::read_write::<RawQuery>(MAGIC, 14);

const SNOOPS: u32 = 1;
const NO_MASK: u32 = 2;
const EDU: u32 = 4;
const DYNAMIC: u32 = 1;
const UNCOUNTED: u32 = 1;
const VMALLOC: u32 = 1;

/// `struct dmabuf_importer_setup`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct RawSetup {
    pub flags: u32,
    pub mask_bits: u32,
    pub max_segment_size: u32,
    pub number: u32,
    pub segment_boundary: u64,
    pub offset: u64,
}

/// `struct dmabuf_importer_mask`.
#[repr(C)]
struct RawMask {
    flags: u32,
    mask_bits: u32,
}

/// `struct dmabuf_importer_attach`.
#[repr(C)]
struct RawAttach {
    fd: i32,
    flags: u32,
    attachment: u32,
    reserved: u32,
}

/// `struct dmabuf_importer_map`.
#[repr(C)]
#[derive(Default)]
struct RawMap {
    attachment: u32,
    direction: u32,
    flags: u32,
    mapping: u32,
    segments: u32,
    crossing: u32,
    length: u64,
    largest: u64,
}

/// `struct dmabuf_importer_handle`.
#[repr(C)]
struct RawHandle {
    handle: u32,
    flags: u32,
}

/// `struct dmabuf_importer_access`.
#[repr(C)]
struct RawAccess {
    handle: u32,
    flags: u32,
    offset: u64,
    length: u64,
    data: u64,
}

/// `struct dmabuf_importer_vmap`.
#[repr(C)]
struct RawVmap {
    fd: i32,
    flags: u32,
    vmap: u32,
    place: u32,
}

/// `struct dmabuf_importer_cpu_access`.
#[repr(C)]
struct RawCpuAccess {
    fd: i32,
    direction: u32,
}

/// `struct dmabuf_importer_query`.
#[repr(C)]
struct RawQuery {
    fd: i32,
    flags: u32,
    seen_from_rust: u32,
    seen_from_c: u32,
}

const _: () = {
    assert!(size_of::<RawSetup>() == 32);
    assert!(size_of::<RawMap>() == 40);
    assert!(size_of::<RawAccess>() == 32);
};

/// The properties of a device.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Whether it is QEMU's edu. The firmware says whether edu snoops, and its bus sets
    /// its limits.
    pub edu: bool,
    pub snoops: bool,
    /// How many address bits it has. There are none if it does no DMA.
    pub mask_bits: Option<u32>,
    /// The largest segment that it takes, or 0 if the driver sets no limit.
    pub max_segment_size: u32,
    /// The boundary that its segments must not cross, minus one, or 0 if there is none.
    pub segment_boundary: u64,
    /// How much smaller its addresses are than the CPU's.
    pub offset: u64,
}

impl Setup {
    /// A device that can use any memory.
    pub const SNOOPING: Self = Self {
        edu: false,
        snoops: true,
        mask_bits: Some(64),
        max_segment_size: u32::MAX,
        segment_boundary: 0,
        offset: 0,
    };

    /// The same, but it does not snoop.
    pub const NOT_SNOOPING: Self = Self {
        snoops: false,
        ..Self::SNOOPING
    };

    /// A device that does no DMA.
    pub const NO_MASK: Self = Self {
        mask_bits: None,
        ..Self::SNOOPING
    };

    /// QEMU's edu, which really does DMA.
    pub const EDU: Self = Self {
        edu: true,
        snoops: false,
        mask_bits: Some(64),
        max_segment_size: 0,
        segment_boundary: 0,
        offset: 0,
    };

    pub const fn with_mask(mask_bits: u32) -> Self {
        Self {
            mask_bits: Some(mask_bits),
            ..Self::SNOOPING
        }
    }
}

/// Whether an importer lets the exporter move the buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Static,
    Dynamic,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Static, Self::Dynamic];
}

/// The direction of a mapping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Direction {
    Bidirectional,
    ToDevice,
    FromDevice,
}

impl Direction {
    pub const ALL: [Self; 3] = [Self::Bidirectional, Self::ToDevice, Self::FromDevice];

    /// Whether the device may read.
    pub fn reads(self) -> bool {
        self != Self::FromDevice
    }

    /// Whether the device may write.
    pub fn writes(self) -> bool {
        self != Self::ToDevice
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attachment(pub u32);

/// A mapping for the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mapped {
    pub handle: u32,
    /// How many segments the mapping has.
    pub segments: u32,
    /// How many of these cross its segment boundary.
    pub crossing: u32,
    /// The size of all segments together, in bytes.
    pub length: u64,
    /// The size of the largest segment, in bytes.
    pub largest: u64,
}

impl Mapped {
    /// Fails unless the mapping covers the whole buffer.
    pub fn expect_whole(&self, buffer: &Buffer) -> Result<()> {
        let good = self.length == buffer.size() as u64
            && self.segments > 0
            && self.largest <= self.length
            && self.largest * u64::from(self.segments) >= self.length;
        ensure!(
            good,
            "expected a mapping of {} bytes, got {self:?}",
            buffer.size()
        );
        Ok(())
    }
}

/// A mapping into the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelMapping {
    pub handle: u32,
    pub in_vmalloc_area: bool,
}

/// An importing device of the test module. Dropping this undoes all that it did.
pub struct Importer {
    fd: OwnedFd,
}

impl AsFd for Importer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Importer {
    /// A device that is not set up yet. Skips the test if the module is not loaded.
    pub fn open() -> Result<Self> {
        match rustix::fs::open(NODE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Self { fd }),
            Err(Errno::NOENT) => skip(format!("no {NODE}: load the module dmabuf_importer")),
            Err(errno) => bail!("opening {NODE}: {}", outcome::<()>(&Err(errno))),
        }
    }

    /// A device with these properties.
    pub fn new(setup: &Setup) -> Result<Self> {
        let importer = Self::open()?;
        importer.setup(setup)?;
        Ok(importer)
    }

    /// Sets the device up, and returns its name.
    pub fn setup(&self, setup: &Setup) -> Result<String, Errno> {
        let flag = |value: bool, flag| if value { flag } else { 0 };
        let number = self.raw_setup(&RawSetup {
            flags: flag(setup.snoops, SNOOPS)
                | flag(setup.mask_bits.is_none(), NO_MASK)
                | flag(setup.edu, EDU),
            mask_bits: setup.mask_bits.unwrap_or_default(),
            max_segment_size: setup.max_segment_size,
            segment_boundary: setup.segment_boundary,
            offset: setup.offset,
            number: 0,
        })?;
        Ok(if setup.edu {
            let path = edu().unwrap_or_default();
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        } else {
            format!("dmabuf_importer.{number}")
        })
    }

    /// Sets the device up by `setup`, which may be wrong.
    pub fn raw_setup(&self, setup: &RawSetup) -> Result<u32, Errno> {
        let mut setup = *setup;
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<SETUP, _>(self, &mut setup)? };
        Ok(setup.number)
    }

    /// Changes the device's DMA mask.
    pub fn set_mask(&self, mask_bits: u32) -> Result<(), Errno> {
        let mut mask = RawMask {
            flags: 0,
            mask_bits,
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<MASK, _>(self, &mut mask) }
    }

    pub fn attach(&self, buffer: impl AsFd, kind: Kind) -> Result<Attachment, Errno> {
        let mut attach = RawAttach {
            fd: buffer.as_fd().as_raw_fd(),
            flags: if kind == Kind::Dynamic { DYNAMIC } else { 0 },
            attachment: 0,
            reserved: 0,
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<ATTACH, _>(self, &mut attach)? };
        Ok(Attachment(attach.attachment))
    }

    pub fn detach(&self, attachment: Attachment) -> Result<(), Errno> {
        self.with_handle::<DETACH>(attachment.0)
    }

    pub fn map(&self, attachment: Attachment, direction: Direction) -> Result<Mapped, Errno> {
        self.raw_map(attachment, direction as u32)
    }

    /// Maps, without counting the segments.
    pub fn map_uncounted(
        &self,
        attachment: Attachment,
        direction: Direction,
    ) -> Result<Mapped, Errno> {
        self.map_with(attachment, direction as u32, UNCOUNTED)
    }

    /// Maps in a direction that may be wrong.
    pub fn raw_map(&self, attachment: Attachment, direction: u32) -> Result<Mapped, Errno> {
        self.map_with(attachment, direction, 0)
    }

    fn map_with(
        &self,
        attachment: Attachment,
        direction: u32,
        flags: u32,
    ) -> Result<Mapped, Errno> {
        let mut map = RawMap {
            attachment: attachment.0,
            direction,
            flags,
            ..RawMap::default()
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<MAP, _>(self, &mut map)? };
        Ok(Mapped {
            handle: map.mapping,
            segments: map.segments,
            crossing: map.crossing,
            length: map.length,
            largest: map.largest,
        })
    }

    pub fn unmap(&self, mapped: &Mapped) -> Result<(), Errno> {
        self.with_handle::<UNMAP>(mapped.handle)
    }

    /// Lets the device read at `offset`.
    pub fn read(&self, mapped: &Mapped, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        self.read_by::<READ>(mapped.handle, offset, len)
    }

    /// Lets the device write at `offset`.
    pub fn write(&self, mapped: &Mapped, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.write_by::<WRITE>(mapped.handle, offset, data)
    }

    pub fn vmap(&self, buffer: impl AsFd) -> Result<KernelMapping, Errno> {
        let mut vmap = RawVmap {
            fd: buffer.as_fd().as_raw_fd(),
            flags: 0,
            vmap: 0,
            place: 0,
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<VMAP, _>(self, &mut vmap)? };
        Ok(KernelMapping {
            handle: vmap.vmap,
            in_vmalloc_area: vmap.place & VMALLOC != 0,
        })
    }

    pub fn vunmap(&self, vmap: &KernelMapping) -> Result<(), Errno> {
        self.with_handle::<VUNMAP>(vmap.handle)
    }

    /// Lets the kernel read at `offset`.
    pub fn kread(&self, vmap: &KernelMapping, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        self.read_by::<KREAD>(vmap.handle, offset, len)
    }

    /// Lets the kernel write at `offset`.
    pub fn kwrite(&self, vmap: &KernelMapping, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.write_by::<KWRITE>(vmap.handle, offset, data)
    }

    pub fn begin_cpu_access(&self, buffer: impl AsFd, direction: Direction) -> Result<(), Errno> {
        self.cpu_access::<BEGIN_CPU_ACCESS>(buffer, direction)
    }

    pub fn end_cpu_access(&self, buffer: impl AsFd, direction: Direction) -> Result<(), Errno> {
        self.cpu_access::<END_CPU_ACCESS>(buffer, direction)
    }

    /// The result of `dmabuf_is_dma_coherent()`, called from Rust and from C.
    pub fn query(&self, buffer: impl AsFd) -> Result<(bool, bool), Errno> {
        let mut query = RawQuery {
            fd: buffer.as_fd().as_raw_fd(),
            flags: 0,
            seen_from_rust: 2,
            seen_from_c: 2,
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<QUERY, _>(self, &mut query)? };
        Ok((query.seen_from_rust == 1, query.seen_from_c == 1))
    }

    fn with_handle<const OPCODE: Opcode>(&self, handle: u32) -> Result<(), Errno> {
        let mut handle = RawHandle { handle, flags: 0 };
        // SAFETY: The argument is of the type that all ioctls of this form are for.
        unsafe { ioctl::update::<OPCODE, _>(self, &mut handle) }
    }

    fn read_by<const OPCODE: Opcode>(
        &self,
        handle: u32,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Errno> {
        let mut data = vec![0; len];
        let mut access = RawAccess {
            handle,
            flags: 0,
            offset,
            length: len as u64,
            data: data.as_mut_ptr().expose_provenance() as u64,
        };
        // SAFETY: The argument is of the type that the ioctl is for; it writes `len` bytes to `data`.
        unsafe { ioctl::update::<OPCODE, _>(self, &mut access)? };
        Ok(data)
    }

    fn write_by<const OPCODE: Opcode>(
        &self,
        handle: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        let mut access = RawAccess {
            handle,
            flags: 0,
            offset,
            length: data.len() as u64,
            data: data.as_ptr().expose_provenance() as u64,
        };
        // SAFETY: The argument is of the type that the ioctl is for; it only reads `data`.
        unsafe { ioctl::update::<OPCODE, _>(self, &mut access) }
    }

    fn cpu_access<const OPCODE: Opcode>(
        &self,
        buffer: impl AsFd,
        direction: Direction,
    ) -> Result<(), Errno> {
        let mut access = RawCpuAccess {
            fd: buffer.as_fd().as_raw_fd(),
            direction: direction as u32,
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<OPCODE, _>(self, &mut access) }
    }
}

/// The directory in sysfs of QEMU's edu. Skips the test if there is none.
pub fn edu() -> Result<PathBuf> {
    let driver = Path::new("/sys/bus/pci/drivers/dmabuf_importer");
    let Ok(entries) = fs::read_dir(driver) else {
        return skip("no driver for edu: load the module dmabuf_importer");
    };
    for entry in entries {
        let path = entry?.path();
        if path.join("vendor").exists() {
            return fs::canonicalize(&path).with_context(|| path.display().to_string());
        }
    }
    skip("no edu: start QEMU with -device edu")
}

/// The directory in sysfs of a made-up device.
pub fn sysfs(name: &str) -> PathBuf {
    PathBuf::from("/sys/devices/faux").join(name)
}
