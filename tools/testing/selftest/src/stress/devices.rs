// SPDX-License-Identifier: GPL-2.0

//! Actions of devices and of the kernel on buffers.

use super::action::{Action, Kind, RUN};
use super::content::bytes;
use super::state::{Attached, DEVICES, Device, Live, SHARED, State};
use super::tally::Outcome;
use crate::expect::Skip;
use crate::links::is_strict;
use crate::mapping::page_size;
use crate::options::is_ours;
use crate::reach::{Answer, Reach, answer, memory_is_beyond, reach};
use crate::test_importer::{Direction, Importer, Kind as Way, Setup};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;

/// The kinds of devices. Those with limits use only the module's heaps, as the in-tree heaps ignore
/// limits.
const SETUPS: [Setup; 6] = [
    Setup::SNOOPING,
    Setup::NOT_SNOOPING,
    Setup::with_mask(32),
    Setup::NO_MASK,
    Setup {
        max_segment_size: 64 << 10,
        ..Setup::SNOOPING
    },
    Setup {
        segment_boundary: (1 << 20) - 1,
        ..Setup::NOT_SNOOPING
    },
];

fn is_limited(setup: &Setup) -> bool {
    setup.max_segment_size != u32::MAX || setup.segment_boundary != 0
}

/// Whether a heap must refuse a device. A device without DMA reaches no memory.
fn is_refused(heap: &str, setup: &Setup) -> Result<bool> {
    if setup.mask_bits.is_none() {
        return Ok(is_strict(heap) || answer(heap, Reach::Snooping) == Answer::Refused);
    }
    Ok(answer(heap, reach(setup)?) == Answer::Refused)
}

/// Fails unless a call ended as it had to. Returns its value, if it succeeded.
pub fn expect<T>(what: &str, seen: Result<T, Errno>, expected: Option<Errno>) -> Result<Option<T>> {
    match (seen, expected) {
        (Ok(value), None) => Ok(Some(value)),
        (Err(errno), Some(expected)) if errno == expected => Ok(None),
        (seen, expected) => bail!(
            "{what}: expected {}, got {}",
            expected.map_or("success".into(), crate::expect::name),
            crate::expect::outcome(&seen)
        ),
    }
}

/// The errno of an error, if it has one.
pub fn errno_of(error: &anyhow::Error) -> Option<Errno> {
    let by_io = || Errno::from_io_error(error.downcast_ref::<std::io::Error>()?);
    error.downcast_ref::<Errno>().copied().or_else(by_io)
}

/// A result about a device that may be going away. It is nothing if the device is gone, or if it is
/// not known how the device reaches memory.
pub fn there<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is::<Skip>() => Ok(None),
        Err(error) => match errno_of(&error) {
            Some(Errno::NODEV | Errno::NOENT | Errno::NXIO) => Ok(None),
            _ => Err(error),
        },
    }
}

pub fn outcome(refused: Option<Errno>) -> Outcome {
    refused.map_or(Outcome::Done, Outcome::Refused)
}

impl State {
    pub fn use_devices(&mut self, action: &Action) -> Result<Outcome> {
        match action.kind {
            Kind::Device => self.device(action),
            Kind::Attach => self.attach(action),
            Kind::Detach => self.detach(action),
            Kind::DeviceMap => self.device_map(action),
            Kind::DeviceUnmap => self.device_unmap(action),
            Kind::DeviceWrite | Kind::DeviceRead => self.device_access(action),
            Kind::Vmap => self.vmap(action),
            Kind::Vunmap => self.vunmap(action),
            _ => self.kernel_access(action),
        }
    }

    /// Removes one device, whatever it is doing, and makes another one.
    fn device(&mut self, action: &Action) -> Result<Outcome> {
        let which = action.pick % DEVICES;
        self.devices[which] = None;
        self.take_away(|live| {
            live.attached.retain(|one| one.device != which);
            live.vmaps.retain(|(device, _)| *device != which);
        });
        let mut setup = SETUPS[action.tag as usize % SETUPS.len()];
        // If the device did not reach all memory, the answer would depend on each buffer.
        if setup.mask_bits.is_some_and(|bits| bits < 64) && memory_is_beyond(32)? {
            setup = Setup::SNOOPING;
        }
        let importer = Importer::new(&setup)?;
        self.devices[which] = Some(Device { importer, setup });
        Ok(Outcome::Done)
    }

    fn some_device(&self, pick: usize) -> Option<(usize, &Device)> {
        let numbers = (0..DEVICES).map(|number| (pick + number) % DEVICES);
        numbers
            .filter_map(|number| Some((number, self.devices[number].as_ref()?)))
            .next()
    }

    fn attach(&mut self, action: &Action) -> Result<Outcome> {
        let slot = self.find(action.slot, Live::is_open);
        let (Some(slot), Some((number, device))) = (slot, self.some_device(action.pick)) else {
            return Ok(Outcome::Idle);
        };
        let Some(live) = &self.lives[slot] else {
            return Ok(Outcome::Idle);
        };
        let heap = &self.heaps[live.heap].0;
        if is_limited(&device.setup) && !is_ours(heap) {
            return Ok(Outcome::Idle);
        }
        let way = Way::ALL[action.tag as usize % 2];
        let seen = device.importer.attach(live.descriptor(action.pick), way);
        let refused = is_refused(heap, &device.setup)?.then_some(Errno::OPNOTSUPP);
        let what = format!("attaching {:?} to {heap}", device.setup);
        if let Some(attachment) = expect(&what, seen, refused)? {
            self.live(slot).attached.push(Attached {
                device: number,
                attachment,
                mapped: Vec::new(),
            });
        }
        Ok(outcome(refused))
    }

    fn detach(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, |live| !live.attached.is_empty()) else {
            return Ok(Outcome::Idle);
        };
        let (live, devices) = (self.lives[slot].as_mut(), &self.devices);
        let attached = &mut live.context("it was found")?.attached;
        let which = action.pick % attached.len();
        let one = &attached[which];
        let busy = (!one.mapped.is_empty()).then_some(Errno::BUSY);
        let seen = importer(devices, one.device)?.detach(one.attachment);
        if expect("detaching", seen, busy)?.is_some() {
            attached.swap_remove(which);
        }
        self.bury(slot);
        Ok(outcome(busy))
    }

    fn device_map(&mut self, action: &Action) -> Result<Outcome> {
        const MANY: usize = 4;
        // In a bracket, an in-tree heap syncs mappings whatever their direction is, and the DMA API's own
        // checks report that.
        let fits = |live: &Live| {
            is_ours(&self.heaps[live.heap].0)
                && live.attached.iter().any(|one| one.mapped.len() < MANY)
        };
        let Some(slot) = self.find(action.slot, fits) else {
            return Ok(Outcome::Idle);
        };
        let (live, devices) = (self.lives[slot].as_mut(), &self.devices);
        let live = live.context("it was found")?;
        let one = live.attached.iter_mut().find(|one| one.mapped.len() < MANY);
        let one = one.context("it was found")?;
        let device = devices[one.device].as_ref().context("a device")?;
        let direction = Direction::ALL[action.tag as usize % 3];
        let refused = device.setup.mask_bits.is_none().then_some(Errno::OPNOTSUPP);
        let seen = device.importer.map(one.attachment, direction);
        if let Some(mapped) = expect("mapping for a device", seen, refused)? {
            let size = (live.content.pages() * page_size()) as u64;
            ensure!(
                mapped.length == size,
                "a device was given {} bytes of {size}",
                mapped.length
            );
            one.mapped.push((mapped, direction));
        }
        Ok(outcome(refused))
    }

    fn device_unmap(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, Live::is_mapped) else {
            return Ok(Outcome::Idle);
        };
        let (live, devices) = (self.lives[slot].as_mut(), &self.devices);
        let live = live.context("it was found")?;
        let one = live.mapped(action.pick);
        let one = &mut live.attached[one];
        let which = action.page % one.mapped.len();
        let (mapped, _) = one.mapped.swap_remove(which);
        importer(devices, one.device)?.unmap(&mapped)?;
        Ok(Outcome::Done)
    }

    fn device_access(&mut self, action: &Action) -> Result<Outcome> {
        let writes = action.kind == Kind::DeviceWrite;
        let fits = |live: &Live| live.is_mapped();
        let slot = if writes {
            self.find_own(action.slot, fits)
        } else {
            self.find(action.slot, fits)
        };
        let Some(slot) = slot else {
            return Ok(Outcome::Idle);
        };
        let (live, devices) = (self.lives[slot].as_mut(), &self.devices);
        let live = live.context("it was found")?;
        let (page, pages) = live.range(action.page, action.pages);
        let one = &live.attached[live.mapped(action.pick)];
        let (mapped, direction) = &one.mapped[action.tag as usize % one.mapped.len()];
        let importer = importer(devices, one.device)?;
        let at = (page * page_size()) as u64;
        if writes {
            let denied = (!direction.writes()).then_some(Errno::ACCESS);
            let seen = importer.write(mapped, at, &bytes(page, pages, action.tag));
            if expect("a device that writes", seen, denied)?.is_some() {
                live.content.fill(page, pages, action.tag);
            }
            return Ok(outcome(denied));
        }
        let denied = (!direction.reads()).then_some(Errno::ACCESS);
        let seen = importer.read(mapped, at, pages * page_size());
        if let Some(seen) = expect("a device that reads", seen, denied)? {
            live.content.expect("a device", page, &seen)?;
        }
        Ok(outcome(denied))
    }

    fn vmap(&mut self, action: &Action) -> Result<Outcome> {
        let slot = self.find(action.slot, Live::is_open);
        let (Some(slot), Some((number, device))) = (slot, self.some_device(action.pick)) else {
            return Ok(Outcome::Idle);
        };
        let live = self.lives[slot].as_ref().context("it was found")?;
        let vmap = device.importer.vmap(live.descriptor(action.pick))?;
        self.live(slot).vmaps.push((number, vmap));
        Ok(Outcome::Done)
    }

    fn vunmap(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, |live| !live.vmaps.is_empty()) else {
            return Ok(Outcome::Idle);
        };
        let (live, devices) = (self.lives[slot].as_mut(), &self.devices);
        let vmaps = &mut live.context("it was found")?.vmaps;
        let (device, vmap) = vmaps.swap_remove(action.pick % vmaps.len());
        importer(devices, device)?.vunmap(&vmap)?;
        self.bury(slot);
        Ok(Outcome::Done)
    }

    /// Access by the kernel, in a bracket.
    fn kernel_access(&mut self, action: &Action) -> Result<Outcome> {
        let writes = action.kind == Kind::KernelWrite;
        let fits = |live: &Live| !live.vmaps.is_empty() && live.is_open();
        let slot = self.find(action.slot, fits);
        let Some(slot) = slot.filter(|slot| !(writes && *slot == SHARED)) else {
            return Ok(Outcome::Idle);
        };
        let (live, devices) = (self.lives[slot].as_mut(), &self.devices);
        let live = live.context("it was found")?;
        let (page, pages) = live.range(action.page, action.pages);
        let (device, vmap) = &live.vmaps[action.pick % live.vmaps.len()];
        let (importer, buffer) = (importer(devices, *device)?, live.descriptor(action.pick));
        let at = (page * page_size()) as u64;
        let direction = if writes {
            Direction::ToDevice
        } else {
            Direction::FromDevice
        };
        importer.begin_cpu_access(buffer, direction)?;
        let seen = if writes {
            let data = bytes(page, pages, action.tag);
            importer.kwrite(vmap, at, &data).map(|()| data)
        } else {
            importer.kread(vmap, at, pages * page_size())
        };
        importer.end_cpu_access(buffer, direction)?;
        let seen = seen.context("access by the kernel")?;
        if writes {
            live.content.fill(page, pages, action.tag);
        }
        live.content.expect("the kernel", page, &seen)?;
        Ok(Outcome::Done)
    }

    /// Undoes all mappings and attachments of a buffer.
    pub fn let_devices_go(&mut self, slot: usize) -> Result<()> {
        let (Some(live), devices) = (&mut self.lives[slot], &self.devices) else {
            return Ok(());
        };
        for one in live.attached.drain(..) {
            let importer = importer(devices, one.device)?;
            for (mapped, _) in &one.mapped {
                importer.unmap(mapped)?;
            }
            importer.detach(one.attachment)?;
        }
        for (device, vmap) in live.vmaps.drain(..) {
            importer(devices, device)?.vunmap(&vmap)?;
        }
        Ok(())
    }

    /// Lets each device that has a buffer mapped read some of it.
    pub fn verify_by_devices(&mut self, slot: usize) -> Result<()> {
        let (Some(live), devices) = (&self.lives[slot], &self.devices) else {
            return Ok(());
        };
        let pages = RUN.min(live.content.pages());
        for one in &live.attached {
            let readable = one.mapped.iter().find(|(_, way)| way.reads());
            if let Some((mapped, _)) = readable {
                let seen = importer(devices, one.device)?.read(mapped, 0, pages * page_size())?;
                live.content.expect("a device", 0, &seen)?;
            }
        }
        Ok(())
    }
}

/// The device that has attached or mapped a buffer.
fn importer(devices: &[Option<Device>], number: usize) -> Result<&Importer> {
    let device = devices[number].as_ref();
    Ok(&device
        .context("a device that has something is there")?
        .importer)
}

impl Live {
    fn is_mapped(&self) -> bool {
        self.attached.iter().any(|one| !one.mapped.is_empty())
    }

    /// Picks an attachment that is mapped. There must be one.
    fn mapped(&self, pick: usize) -> usize {
        let mapped = self.attached.iter().enumerate();
        let mapped: Vec<_> = mapped
            .filter(|(_, one)| !one.mapped.is_empty())
            .map(|(number, _)| number)
            .collect();
        mapped[pick % mapped.len()]
    }
}
