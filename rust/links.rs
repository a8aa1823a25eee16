// SPDX-License-Identifier: GPL-2.0

//! Links in sysfs from devices to the heaps that suit them.
//!
//! The parent of every device node of the classes `drm`, `accel` and `video4linux` gets:
//!
//! ```text
//! .../<device>/dma_heap            link to the best heap
//! .../<device>/dma_heaps/<heap>    link to each heap that suits the device
//! .../<device>/dma_heaps/order     names of these heaps, best first
//! .../<device>/dma_heaps/snoops    one of several files: what the device requires of a heap
//! ```
//!
//! The requirements of a device are determined when a node of the device appears. They are stored
//! as plain data.
//!
//! # Locks
//!
//! The order of the locks, outermost first:
//!
//! 1. the lock of the module's parameters, of a module notifier, or of a device, held by our
//!    callers
//! 2. `Buses::listeners`
//! 3. `Watch::registered`
//! 4. the lock of a class
//! 5. [`Links::devices`]
//! 6. [`Links::heaps`]
//! 7. [`Links::rules`]
//! 8. the locks of sysfs

mod device;
mod rules;

use crate::{
    coherency,
    kernel::{
        device::{
            bus::{
                self,
                Buses, //
            },
            class::{
                self,
                Added,
                Watch, //
            },
            node::{
                self,
                Helper,
                Node, //
            },
            per_device::{
                Locked,
                PerDevice, //
            },
            HasDriver, //
        },
        dma_heap,
        dma_mapping::DmaDevice,
        module::{
            others::{
                self,
                Going, //
            },
            Forever, //
        }, //
    },
    links::{
        device::{
            is_same,
            DeviceLinks,
            Published,
            FILES, //
        },
        rules::RuleText, //
    },
    policy::{
        self,
        Constraints,
        Import,
        Pieces, //
    },
    region::Catalogue, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    str::CString,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex,
        SetOnce, //
    },
    workqueue, //
};

/// The only instance of [`Links`], once it has been started.
static LINKS: SetOnce<(&'static Links, Forever)> = SetOnce::new();

/// The state of the links: the devices, heaps and rules that are known.
#[pin_data]
pub(crate) struct Links {
    catalogue: Catalogue,
    #[pin]
    devices: PerDevice<DeviceLinks>,
    /// The heaps that exist, of all drivers.
    #[pin]
    heaps: Mutex<KVec<ARef<Device>>>,
    #[pin]
    rules: Mutex<RuleText>,
    #[pin]
    buses: Buses<Self>,
    watches: KVec<Pin<KBox<Watch<Self>>>>,
    /// Whether a search for buses and classes has been queued and has not started.
    search: Atomic<bool>,
}

impl Links {
    /// Creates the state. No device and no heap is known yet.
    pub(crate) fn new(catalogue: Catalogue) -> Result<impl PinInit<Self>> {
        let mut watches = KVec::with_capacity(1 + node::CLASSES.len(), GFP_KERNEL)?;

        // The class of heaps is watched first, so that the heaps are known when devices appear.
        let heaps = core::slice::from_ref(&dma_heap::device::CLASS);
        for class in [heaps, &node::CLASSES].into_iter().flatten() {
            watches.push(KBox::pin_init(Watch::new(class), GFP_KERNEL)?, GFP_KERNEL)?;
        }

        Ok(pin_init!(Self {
            catalogue,
            devices <- PerDevice::new(),
            heaps <- new_mutex!(KVec::new()),
            rules <- new_mutex!(RuleText::none()),
            buses <- Buses::new(),
            watches,
            search: Atomic::new(false),
        }))
    }

    /// Returns the table of regions and heaps.
    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Begins to create links. An error is logged; it means that devices have no links.
    pub(crate) fn start(&'static self, forever: Forever) {
        LINKS.populate((self, forever));

        if let Err(err) = others::observe::<Self>(forever) {
            pr_err!("cannot see modules being loaded: {:?}\n", err);
        }
        self.search(forever);
    }

    /// Looks for new buses and classes, and starts to observe them.
    fn search(&'static self, forever: Forever) {
        if let Err(err) = self.buses.listen(forever) {
            pr_err!("cannot see devices being bound: {:?}\n", err);
        }
        for watch in &self.watches {
            if let Err(err) = watch.as_ref().get_ref().start(forever) {
                pr_err!("cannot see new devices: {:?}\n", err);
            }
        }
    }

    /// Sends user space a uevent for a changed device node, if the class of the node is watched.
    fn node_changed(node: &Device) {
        for watch in <Self as class::Observer>::watches() {
            watch.changed(node);
        }
    }

    /// Handles a new heap.
    fn heap_added(&'static self, heap: &Device) -> Result {
        {
            let mut heaps = self.heaps.lock();
            if heaps.iter().any(|known| is_same(known, heap)) {
                return Ok(());
            }
            heaps.push(heap.into(), GFP_KERNEL)?;
        }
        self.update_all(&mut self.devices.lock());
        Ok(())
    }

    /// Handles a new device node.
    fn node_added(
        &'static self,
        node: &Device,
        dev: &Device<Bound>,
        constraints: Constraints,
        forever: Forever,
    ) -> Result {
        let mut devices = self.devices.lock();
        let links =
            devices.get_or_insert(dev, DeviceLinks::new(Self::node_changed, forever), forever)?;

        if !links.nodes.iter().any(|(known, _)| is_same(known, node)) {
            links.nodes.push((node.into(), constraints), GFP_KERNEL)?;
        }
        self.update(dev.into(), links);
        Ok(())
    }

    /// Handles the removal of a device node. The node may have been moved to another parent since
    /// it appeared.
    fn node_removed(&'static self, node: &Device) {
        let mut devices = self.devices.lock();
        let mut owner: Option<ARef<Device>> = None;

        for (dev, links) in devices.iter_mut() {
            let before = links.nodes.len();

            links.nodes.retain(|(known, _)| !is_same(known, node));
            if links.nodes.len() < before {
                if links.is_wanted() {
                    self.update(dev, links);
                }
                owner = Some((&*dev).into());
            }
        }
        if let Some(dev) = owner {
            Self::remove_unwanted(&mut devices, &dev);
        }
    }

    /// Returns what a device requires of a heap if it imports buffers in this way.
    fn constraints(&self, dev: DmaDevice<'_>, import: Import, pieces: Pieces) -> Constraints {
        Constraints {
            import,
            snoops: dev.is_dma_coherent(),
            address_bits: dev.address_bits(),
            iommu: dev.has_iommu(),
            pieces,
            reached: self.catalogue.reached_by(dev),
            own: self.catalogue.own(dev),
        }
    }

    /// Returns what the device of a node requires of a heap.
    fn constraints_of(&self, node: &Node<'_>) -> Constraints {
        let (import, pieces) = match node.helper {
            Helper::GemDma | Helper::Vb2DmaContig => (Import::ByDma, Pieces::One),
            Helper::GemShmem | Helper::Vb2DmaSg => (Import::ByDma, Pieces::Any),
            Helper::GemShmemNoMap => (Import::AttachOnly, Pieces::Any),
            Helper::Vb2Vmalloc => (Import::ByCpu, Pieces::Any),
            Helper::Other => {
                let driver = node.drm_driver.and_then(|name| name.to_str().ok());
                let pieces = driver.map_or(Pieces::Unknown, policy::pieces_of_drm_driver);
                (Import::ByDma, pieces)
            }
        };

        self.constraints(node.dev, import, pieces)
    }

    /// Makes `heap` the choice of the driver of `dev`.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if there is no such heap.
    /// - [`EEXIST`] if the driver has already made a choice.
    /// - [`EOPNOTSUPP`] if the heap would refuse the device, or if its buffers may have more pieces
    ///   than the device accepts.
    /// - [`ENOMEM`] if there is not enough memory.
    fn choose(&'static self, dev: &Device<Bound>, heap: &CStr, forever: Forever) -> Result {
        if !self.heaps.lock().iter().any(|known| known.name() == heap) {
            return Err(EINVAL);
        }
        let mut devices = self.devices.lock();

        if devices
            .get_mut(dev)
            .is_some_and(|(_, links)| links.choice.is_some())
        {
            return Err(EEXIST);
        }
        let choice = CString::try_from_fmt(fmt!("{}", heap))?;
        let links =
            devices.get_or_insert(dev, DeviceLinks::new(Self::node_changed, forever), forever)?;
        let result = self.try_choose(dev.into(), links, choice);
        if result.is_err() {
            Self::remove_unwanted(&mut devices, dev);
        }
        result
    }

    fn try_choose(&self, dev: HasDriver<'_>, links: &mut DeviceLinks, choice: CString) -> Result {
        if let Some(kind) = self.catalogue.find(choice.to_bytes()) {
            let ruled = self.rules.lock().pieces_for(dev);
            let mut nodes = self.nodes(dev, links, ruled)?.into_iter();
            if nodes.any(|node| node.exclude(kind, coherency::ALIAS).is_err()) {
                return Err(coherency::refused());
            }
        }
        links.choice = Some(choice);
        self.try_update(dev, links).inspect_err(|_| {
            links.choice = None;
            if links.is_wanted() {
                self.update(dev, links);
            }
        })
    }

    /// Undoes the choice of the driver of `dev`.
    fn unchoose(&'static self, dev: &Device) {
        let mut devices = self.devices.lock();

        if let Some((dev, links)) = devices.get_mut(dev) {
            links.choice = None;
            if links.is_wanted() {
                self.update(dev, links);
            }
        }
        Self::remove_unwanted(&mut devices, dev);
    }

    /// Stores in how many pieces `dev` accepts a buffer, as its driver says.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is not enough memory.
    fn set_pieces(&'static self, dev: &Device<Bound>, pieces: Pieces, forever: Forever) -> Result {
        let mut devices = self.devices.lock();
        let links =
            devices.get_or_insert(dev, DeviceLinks::new(Self::node_changed, forever), forever)?;

        links.pieces = Some(pieces);
        if links.is_wanted() {
            self.update(dev.into(), links);
        }
        Ok(())
    }

    /// Removes the links of `dev` if there is no reason for them any more. Forgets the device if
    /// its driver has not stored a number of pieces either.
    fn remove_unwanted(devices: &mut Locked<DeviceLinks>, dev: &Device) {
        let unwanted = devices.get_mut(dev).is_some_and(|(dev, links)| {
            if !links.is_wanted() {
                links.tear_down(dev);
            }
            !links.is_wanted() && links.pieces.is_none()
        });

        if unwanted {
            devices.remove(dev);
        }
    }

    /// Replaces the rules. On an error the old rules stay.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the grammar is wrong, if a heap does not exist, or if a heap is known not to
    ///   work for a device of the driver. The log says which.
    /// - [`ENOMEM`] if there is not enough memory.
    fn set_rules(&'static self, text: &str) -> Result {
        let rules = rules::parse(text)?;
        let mut devices = self.devices.lock();

        for rule in rules.iter() {
            for name in rule.heaps().into_iter().flatten() {
                if !self.heaps.lock().iter().any(|known| is_named(known, name)) {
                    pr_err!("links: there is no heap {}\n", name);
                    return Err(EINVAL);
                }
                let Some(heap) = self.catalogue.find(name.as_bytes()) else {
                    continue;
                };
                for (dev, links) in devices.iter_mut() {
                    if dev.driver_name().to_bytes() != rule.driver.as_bytes() {
                        continue;
                    }
                    for node in self.nodes(dev, links, rule.pieces)? {
                        if let Err(refusal) = node.exclude(heap, coherency::ALIAS) {
                            dev_err!(
                                dev,
                                "links: heap {} does not suit: {}\n",
                                name,
                                refusal.reason()
                            );
                            return Err(EINVAL);
                        }
                    }
                }
            }
        }

        *self.rules.lock() = RuleText::new(&rules)?;
        self.update_all(&mut devices);
        Ok(())
    }

    /// Updates the links of all devices.
    fn update_all(&self, devices: &mut Locked<DeviceLinks>) {
        for (dev, links) in devices.iter_mut() {
            if links.is_wanted() {
                self.update(dev, links);
            }
        }
    }

    /// Updates the links of a device. On an error it removes all of them, and logs the error.
    fn update(&self, dev: HasDriver<'_>, links: &mut DeviceLinks) {
        if let Err(err) = self.try_update(dev, links) {
            dev_err!(dev, "cannot link to DMA heaps: {:?}\n", err);
        }
    }

    /// Updates the links of a device. On an error it removes all of them.
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] if sysfs has another entry with the name of a link.
    /// - [`ENOMEM`] if there is not enough memory.
    fn try_update(&self, dev: HasDriver<'_>, links: &mut DeviceLinks) -> Result {
        self.wanted(dev, links)
            .and_then(|wanted| links.publish(dev, wanted))
            .inspect_err(|_| links.tear_down(dev))
    }

    /// Returns what each node of `dev` requires of a heap. If `dev` has no node, returns what the
    /// device itself requires.
    ///
    /// The number of pieces is that of a rule (`ruled`) if there is one, else that which the driver
    /// has stored, else that which is known of the node.
    fn nodes(
        &self,
        dev: HasDriver<'_>,
        links: &DeviceLinks,
        ruled: Option<Pieces>,
    ) -> Result<KVec<Constraints>> {
        let said = ruled.or(links.pieces);
        let mut nodes = KVec::with_capacity(links.nodes.len().max(1), GFP_KERNEL)?;

        for (_, constraints) in &links.nodes {
            nodes.push(
                Constraints {
                    pieces: said.unwrap_or(constraints.pieces),
                    ..*constraints
                },
                GFP_KERNEL,
            )?;
        }
        if nodes.is_empty() {
            let pieces = said.unwrap_or(Pieces::Unknown);
            nodes.push(
                self.constraints(dev.into(), Import::ByDma, pieces),
                GFP_KERNEL,
            )?;
        }
        Ok(nodes)
    }

    /// Determines what to publish about `dev`.
    fn wanted(&self, dev: HasDriver<'_>, links: &DeviceLinks) -> Result<Published> {
        let heaps = self.heaps.lock();
        let rules = self.rules.lock();
        let rule = rules.rule_for(dev);
        let nodes = self.nodes(dev, links, rule.and_then(|rule| rule.pieces))?;
        let constraints = Constraints::of_all(nodes.iter().copied());

        let mut wanted: KVec<ARef<Device>> = KVec::new();
        // What is left for the names in the file `order`, which must not be longer than a page.
        let mut room = PAGE_SIZE - 1;
        let mut link = |heap: &ARef<Device>| -> Result {
            let name = heap.name();
            let is_file = FILES.iter().any(|file| file.name() == name);

            if !is_file && !wanted.iter().any(|known| is_same(known, heap)) {
                // A blank or a newline follows each name.
                if let Some(left) = room.checked_sub(name.to_bytes().len() + 1) {
                    room = left;
                    wanted.push(heap.clone(), GFP_KERNEL)?;
                }
            }
            Ok(())
        };
        // Links a heap that the driver or the administrator has asked for, unless the heap is known
        // not to work.
        let mut offer = |name: &[u8]| -> Result {
            let Some(heap) = heaps.iter().find(|heap| heap.name().to_bytes() == name) else {
                return Ok(());
            };
            let excluded = self.catalogue.find(name).and_then(|kind| {
                let mut nodes = nodes.iter();
                nodes.find_map(|node| node.exclude(kind, coherency::ALIAS).err())
            });
            match excluded {
                Some(refusal) => {
                    let name = heap.name();
                    dev_warn!(
                        dev,
                        "links: heap {} does not suit: {}\n",
                        name,
                        refusal.reason()
                    );
                    Ok(())
                }
                None => link(heap),
            }
        };

        if let Some(choice) = links.choice.as_deref() {
            offer(choice.to_bytes())?;
        }
        if let Some(names) = rule.and_then(|rule| rule.heaps()) {
            for name in names {
                offer(name.as_bytes())?;
            }
        } else {
            let mut suitable = KVec::with_capacity(heaps.len(), GFP_KERNEL)?;
            for heap in heaps.iter() {
                let Some(kind) = self.catalogue.find(heap.name().to_bytes()) else {
                    continue;
                };
                if nodes
                    .iter()
                    .all(|node| node.suits(kind, coherency::ALIAS).is_ok())
                {
                    let place = constraints.place(kind);
                    let before = suitable.partition_point(|(other, _)| *other < place);
                    suitable
                        .insert_within_capacity(before, (place, heap))
                        .map_err(|_| ENOMEM)?;
                }
            }
            for (_, heap) in &suitable {
                link(heap)?;
            }
        }

        Ok(Published {
            heaps: wanted,
            constraints: Some(constraints),
        })
    }
}

impl class::Observer for Links {
    fn watches() -> &'static [Pin<KBox<Watch<Self>>>] {
        LINKS.as_ref().map_or(&[], |(links, _)| &links.watches)
    }

    fn added(added: Added<'_>) {
        let Some(&(links, forever)) = LINKS.as_ref() else {
            return;
        };
        let dev = added.device();

        let result = if core::ptr::eq(added.class(), &dma_heap::device::CLASS) {
            links.heap_added(dev)
        } else if let Some((node, parent)) = Node::of(&added).zip(added.parent()) {
            links.node_added(dev, parent, links.constraints_of(&node), forever)
        } else {
            Ok(())
        };
        if let Err(err) = result {
            dev_err!(dev, "no links to DMA heaps: {:?}\n", err);
        }
    }

    fn removed(dev: &Device) {
        if let Some((links, _)) = LINKS.as_ref() {
            links.node_removed(dev);
        }
    }
}

impl bus::Observer for Links {
    fn bound(_dev: &Device<Bound>) {
        let Some(&(links, forever)) = LINKS.as_ref() else {
            return;
        };

        // Do not search here, but in a worker. The search may register a listener with another bus,
        // and that waits for running listeners of the bus. One of them may be waiting for us.
        if !links.search.xchg(true, Relaxed) {
            let search = move || {
                links.search.store(false, Relaxed);
                links.search(forever);
            };
            if workqueue::system_long()
                .try_spawn(GFP_KERNEL, search)
                .is_err()
            {
                links.search.store(false, Relaxed);
            }
        }
    }
}

impl others::Observer for Links {
    fn live() {
        if let Some(&(links, forever)) = LINKS.as_ref() {
            links.search(forever);
        }
    }

    fn going(module: Going<'_>) {
        if let Some((links, _)) = LINKS.as_ref() {
            links.buses.module_going(&module);
        }
    }
}

fn is_named(heap: &Device, name: &str) -> bool {
    heap.name().to_bytes() == name.as_bytes()
}

/// Implements `dma_heap_create_device_link()`.
///
/// # Errors
///
/// [`ENODEV`] if the links have not been started, and those of [`Links::choose`].
pub(crate) fn create_device_link(dev: &Device<Bound>, heap: &CStr) -> Result {
    let &(links, forever) = LINKS.as_ref().ok_or(ENODEV)?;

    links.choose(dev, heap, forever)
}

/// Implements `dma_heap_remove_device_link()`. Harmless for a device without such a link.
pub(crate) fn remove_device_link(dev: &Device) {
    if let Some((links, _)) = LINKS.as_ref() {
        links.unchoose(dev);
    }
}

/// Implements `dma_heap_set_device_pieces()`.
///
/// # Errors
///
/// [`ENODEV`] if the links have not been started, and those of [`Links::set_pieces`].
pub(crate) fn set_device_pieces(dev: &Device<Bound>, pieces: Pieces) -> Result {
    let &(links, forever) = LINKS.as_ref().ok_or(ENODEV)?;

    links.set_pieces(dev, pieces, forever)
}

/// Sets the module parameter `links`.
///
/// Before the links have been started, this only checks the grammar. The module applies the rules
/// when it has started the links.
///
/// # Errors
///
/// Those of [`Links::set_rules`].
pub(crate) fn set_rules(text: &str) -> Result {
    match LINKS.as_ref() {
        Some((links, _)) => links.set_rules(text),
        None => rules::parse(text).map(|_| ()),
    }
}
