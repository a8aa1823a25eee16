// SPDX-License-Identifier: GPL-2.0

//! Handles an open file of `/dev/dmabuf_importer`.

use crate::{
    device::Device,
    edu,
    importer::{
        Attachment,
        Direction,
        DmaBuf,
        Kind,
        Mapping,
        Memory,
        Place,
        VMap, //
    },
    synthetic::{
        Config,
        SyntheticDevice, //
    },
    uapi::{
        self,
        ioctl,
        Argument, //
    },
};
use kernel::{
    dma::DmaMask,
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    rbtree::RBTree,
    sizes::SZ_64K,
    sync::{
        Arc,
        Mutex, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// The private data of an open file: a device, and its attachments and mappings.
#[pin_data]
pub(crate) struct Session {
    /// Each ioctl holds this lock from begin to end. So it is outside of every lock of a dma-buf.
    #[pin]
    state: Mutex<State>,
}

/// Values by their handles.
type Table<T> = RBTree<u32, T>;

struct State {
    device: Option<Arc<Device>>,
    attachments: Table<Arc<Attachment>>,
    mappings: Table<Mapping>,
    vmaps: Table<VMap>,
    /// The last handle that was given out. All tables share the numbers.
    last: u32,
}

#[vtable]
impl MiscDevice for Session {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _node: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                state <- new_mutex!(State {
                    device: None,
                    attachments: RBTree::new(),
                    mappings: RBTree::new(),
                    vmaps: RBTree::new(),
                    last: 0,
                }),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(session: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let arg = UserPtr::from_addr(arg);
        let mut state = session.state.lock();

        match cmd {
            ioctl::SETUP => update(arg, |arg| state.setup(arg)),
            ioctl::MASK => take(arg, |arg| state.set_mask(arg)),
            ioctl::ATTACH => update(arg, |arg| state.attach(arg)),
            ioctl::DETACH => take(arg, |arg| state.detach(arg)),
            ioctl::MAP => update(arg, |arg| state.map(arg)),
            ioctl::UNMAP => take(arg, |arg| remove(&mut state.mappings, arg)),
            ioctl::READ => take(arg, |arg| read(&state.mappings, arg)),
            ioctl::WRITE => take(arg, |arg| write(&state.mappings, arg)),
            ioctl::VMAP => update(arg, |arg| state.vmap(arg)),
            ioctl::VUNMAP => take(arg, |arg| remove(&mut state.vmaps, arg)),
            ioctl::KREAD => take(arg, |arg| read(&state.vmaps, arg)),
            ioctl::KWRITE => take(arg, |arg| write(&state.vmaps, arg)),
            ioctl::BEGIN_CPU_ACCESS => take(arg, |arg: &uapi::CpuAccess| {
                DmaBuf::get(arg.fd)?.begin_cpu_access(direction(arg.direction)?)
            }),
            ioctl::END_CPU_ACCESS => take(arg, |arg: &uapi::CpuAccess| {
                DmaBuf::get(arg.fd)?.end_cpu_access(direction(arg.direction)?)
            }),
            ioctl::QUERY => update(arg, query),
            _ => Err(ENOTTY),
        }?;
        Ok(0)
    }
}

/// Handles an ioctl that only reads its argument.
fn take<T: Argument>(arg: UserPtr, handle: impl FnOnce(&T) -> Result) -> Result {
    handle(&UserSlice::new(arg, size_of::<T>()).reader().read()?)
}

/// Handles an ioctl that reads its argument, and writes it back after a success.
///
/// If it cannot write the argument, user space does not learn the handle. Closing the file then
/// undoes the operation.
fn update<T: Argument>(arg: UserPtr, handle: impl FnOnce(&mut T) -> Result) -> Result {
    let (mut reader, mut writer) = UserSlice::new(arg, size_of::<T>()).reader_writer();
    let mut value = reader.read()?;

    handle(&mut value)?;
    writer.write(&value)
}

/// Returns [`EINVAL`] if there is a flag that is not among those in `known`.
fn check_flags(flags: u32, known: u32) -> Result {
    if flags & !known != 0 {
        return Err(EINVAL);
    }
    Ok(())
}

fn direction(value: u32) -> Result<Direction> {
    match value {
        uapi::BIDIRECTIONAL => Ok(Direction::Bidirectional),
        uapi::TO_DEVICE => Ok(Direction::ToDevice),
        uapi::FROM_DEVICE => Ok(Direction::FromDevice),
        _ => Err(EINVAL),
    }
}

fn mask(bits: u32) -> Result<DmaMask> {
    if bits == 0 {
        return Err(EINVAL);
    }
    DmaMask::try_new(bits)
}

impl State {
    fn setup(&mut self, arg: &mut uapi::Setup) -> Result {
        check_flags(arg.flags, uapi::SNOOPS | uapi::NO_MASK | uapi::EDU)?;
        let device = if arg.flags & uapi::EDU != 0 {
            self.edu(arg)?
        } else {
            self.synthetic(arg)?
        };
        self.device = Some(Arc::new(device, GFP_KERNEL)?);
        Ok(())
    }

    fn synthetic(&self, arg: &mut uapi::Setup) -> Result<Device> {
        let boundary = usize::try_from(arg.segment_boundary)?;
        if boundary & boundary.wrapping_add(1) != 0 || arg.offset % PAGE_SIZE as u64 != 0 {
            return Err(EINVAL);
        }
        let mask = match (arg.flags & uapi::NO_MASK, arg.mask_bits) {
            (0, bits) => Some(mask(bits)?),
            (_, 0) => None,
            _ => return Err(EINVAL),
        };
        if self.device.is_some() {
            return Err(EBUSY);
        }

        let device = SyntheticDevice::new(&Config {
            snoops: arg.flags & uapi::SNOOPS != 0,
            mask,
            max_segment_size: arg.max_segment_size,
            segment_boundary: boundary,
            offset: arg.offset,
        })?;
        arg.number = device.number();
        Ok(Device::Synthetic(device))
    }

    fn edu(&self, arg: &uapi::Setup) -> Result<Device> {
        // The firmware decides whether the device snoops, and the PCI bus sets its limits.
        let limits = (arg.max_segment_size, arg.segment_boundary, arg.offset);
        if (arg.flags, limits) != (uapi::EDU, (0, 0, 0)) {
            return Err(EINVAL);
        }
        let mask = mask(arg.mask_bits)?;
        if self.device.is_some() {
            return Err(EBUSY);
        }

        let device = Device::Edu(edu::Claim::new()?);
        device.set_mask(mask)?;
        Ok(device)
    }

    fn set_mask(&mut self, arg: &uapi::Mask) -> Result {
        check_flags(arg.flags, 0)?;
        let mask = mask(arg.mask_bits)?;
        if !self.mappings.is_empty() {
            return Err(EBUSY);
        }

        self.device()?.set_mask(mask)
    }

    fn device(&self) -> Result<Arc<Device>> {
        self.device.clone().ok_or(ENODEV)
    }

    fn attach(&mut self, arg: &mut uapi::Attach) -> Result {
        check_flags(arg.flags, uapi::DYNAMIC)?;
        let kind = match arg.flags & uapi::DYNAMIC {
            0 => Kind::Static,
            _ => Kind::Dynamic,
        };

        let attachment = Attachment::new(self.device()?, DmaBuf::get(arg.fd)?, kind)?;
        let attachment = Arc::new(attachment, GFP_KERNEL)?;
        arg.attachment = add(&mut self.attachments, &mut self.last, attachment)?;
        Ok(())
    }

    fn detach(&mut self, arg: &uapi::Handle) -> Result {
        let attachment = self.attachments.get(&arg.handle).ok_or(ENOENT)?;
        if self.mappings.values().any(|map| map.is_of(attachment)) {
            return Err(EBUSY);
        }

        remove(&mut self.attachments, arg)
    }

    fn map(&mut self, arg: &mut uapi::Map) -> Result {
        check_flags(arg.flags, uapi::UNCOUNTED)?;
        let direction = direction(arg.direction)?;
        let attachment = self.attachments.get(&arg.attachment).ok_or(ENOENT)?;

        let mapping = Mapping::new(attachment.clone(), direction)?;
        if arg.flags & uapi::UNCOUNTED == 0 {
            (arg.segments, arg.crossing, arg.length, arg.largest) = mapping.measure();
        }
        arg.mapping = add(&mut self.mappings, &mut self.last, mapping)?;
        Ok(())
    }

    fn vmap(&mut self, arg: &mut uapi::VMap) -> Result {
        check_flags(arg.flags, 0)?;

        let vmap = VMap::new(DmaBuf::get(arg.fd)?)?;
        arg.place = match vmap.place() {
            Place::DirectMapping => 0,
            Place::Vmalloc => uapi::VMALLOC,
            Place::Io => uapi::IOMEM,
        };
        arg.vmap = add(&mut self.vmaps, &mut self.last, vmap)?;
        Ok(())
    }
}

fn query(arg: &mut uapi::Query) -> Result {
    check_flags(arg.flags, 0)?;

    let buf = DmaBuf::get(arg.fd)?;
    arg.seen_from_rust = buf.is_dma_coherent().into();
    arg.seen_from_c = buf.is_dma_coherent_from_c().into();
    Ok(())
}

/// Adds `thing` to a table, and returns its handle.
fn add<T>(table: &mut Table<T>, last: &mut u32, thing: T) -> Result<u32> {
    let handle = last.checked_add(1).ok_or(ENOSPC)?;

    table.try_create_and_insert(handle, thing, GFP_KERNEL)?;
    *last = handle;
    Ok(handle)
}

/// Removes the value with this handle from a table. Its drop undoes the operation.
fn remove<T>(table: &mut Table<T>, arg: &uapi::Handle) -> Result {
    check_flags(arg.flags, 0)?;

    table.remove(&arg.handle).map(drop).ok_or(ENOENT)
}

/// Returns the memory that an access refers to. Returns [`EINVAL`] if the range exceeds it.
fn accessed<'a, T: Memory>(table: &'a Table<T>, arg: &uapi::Access) -> Result<&'a T> {
    check_flags(arg.flags, 0)?;

    let memory = table.get(&arg.handle).ok_or(ENOENT)?;
    memory.check(arg.offset, arg.length)?;
    Ok(memory)
}

/// Returns the user space memory of an access.
fn user_slice(arg: &uapi::Access) -> Result<UserSlice> {
    Ok(UserSlice::new(
        UserPtr::from_addr(arg.data.try_into()?),
        arg.length.try_into()?,
    ))
}

/// Splits an access into parts of at most 64 KiB, and calls `copy` for each part. Passes the offset
/// of the part in the memory, and a buffer for its data.
fn in_chunks(arg: &uapi::Access, mut copy: impl FnMut(u64, &mut [u8]) -> Result) -> Result {
    let length = usize::try_from(arg.length)?;
    let mut chunk = KVVec::from_elem(0, length.min(SZ_64K), GFP_KERNEL)?;
    let mut done = 0;

    while done < length {
        let part = chunk.len().min(length - done);

        copy(arg.offset + done as u64, &mut chunk[..part])?;
        done += part;
    }
    Ok(())
}

fn read<T: Memory>(table: &Table<T>, arg: &uapi::Access) -> Result {
    let memory = accessed(table, arg)?;
    let mut to = user_slice(arg)?.writer();

    in_chunks(arg, |offset, chunk| {
        memory.read(offset, chunk)?;
        to.write_slice(chunk)
    })
}

fn write<T: Memory>(table: &Table<T>, arg: &uapi::Access) -> Result {
    let memory = accessed(table, arg)?;
    let mut from = user_slice(arg)?.reader();

    in_chunks(arg, |offset, chunk| {
        from.read_slice(chunk)?;
        memory.write(offset, chunk)
    })
}
