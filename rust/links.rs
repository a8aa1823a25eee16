// SPDX-License-Identifier: GPL-2.0

//! Links in sysfs from devices to the heaps that suit them.
//!
//! For the parent of every device node of the classes `drm`, `accel` and `video4linux`:
//!
//! ```text
//! .../<device>/dma_heap            the first choice
//! .../<device>/dma_heaps/<heap>    every heap that suits it
//! .../<device>/dma_heaps/order     their names, best first
//! ```
//!
//! # Locks
//!
//! From the outside in: the lock of the module's parameters, of a module notifier or of a device
//! (held by whoever calls us), `Buses::listeners`, `Watch::registered`, the lock of a class,
//! [`Links::devices`], `heaps`, `rules`, then those of sysfs.

use crate::{
    bus::{
        self,
        Buses, //
    },
    class::{
        self,
        Watch, //
    },
    coherency,
    device::{
        driver_name,
        DeviceExt, //
    },
    exports,
    module::{
        self,
        Forever,
        Going, //
    },
    per_device::{
        Data,
        Locked,
        PerDevice, //
    },
    policy::{
        self,
        Rules, //
    },
    sysfs::{
        self,
        Directory, //
    }, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    new_mutex,
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

/// The one instance, from the time that it can be of use.
static LINKS: SetOnce<(&'static Links, Forever)> = SetOnce::new();

/// The link for the first choice, and the directory for all.
const FIRST: &CStr = c"dma_heap";
const ALL: &CStr = c"dma_heaps";

/// The class of the heaps, in `drivers/dma-buf/dma-heap.c`, which is never a module.
const HEAP_CLASS: &CStr = c"dma_heap";

/// The classes whose devices stand for something that imports buffers, each with a symbol of the
/// module that it is part of.
const NODE_CLASSES: [(&CStr, &CStr); 3] = [
    (c"drm", c"drm_class_device_register"),
    (c"accel", c"drm_class_device_register"),
    (c"video4linux", c"v4l2_device_register"),
];

/// All that is known of devices, heaps and rules.
#[pin_data]
pub(crate) struct Links {
    #[pin]
    devices: PerDevice<DeviceLinks>,
    /// The heaps that there are.
    #[pin]
    heaps: Mutex<KVec<ARef<Device>>>,
    /// The text of the rules, which is known to be correct.
    #[pin]
    rules: Mutex<KVec<u8>>,
    #[pin]
    buses: Buses<Self>,
    watches: KVec<Pin<KBox<Watch<Self>>>>,
    /// Whether a search for buses and classes is about to be made.
    search: Atomic<bool>,
}

/// The links of one device.
#[derive(Default)]
struct DeviceLinks {
    /// The device nodes of this device.
    nodes: KVec<ARef<Device>>,
    /// The heap that the device's own driver has chosen.
    choice: Option<CString>,
    /// The directory, while there are links.
    directory: Option<Directory>,
    /// Whether there is a link for the first choice.
    has_first: bool,
    /// The heaps that are linked, best first.
    heaps: KVec<ARef<Device>>,
}

impl Links {
    /// Prepares everything, without knowing anything yet.
    pub(crate) fn new() -> Result<impl PinInit<Self>> {
        let mut watches = KVec::with_capacity(1 + NODE_CLASSES.len(), GFP_KERNEL)?;

        // Heaps first, so that devices find them.
        watches.push(
            KBox::pin_init(Watch::new(HEAP_CLASS, None), GFP_KERNEL)?,
            GFP_KERNEL,
        )?;
        for (class, symbol) in NODE_CLASSES {
            watches.push(
                KBox::pin_init(Watch::new(class, Some(symbol)), GFP_KERNEL)?,
                GFP_KERNEL,
            )?;
        }

        Ok(pin_init!(Self {
            devices <- PerDevice::new(),
            heaps <- new_mutex!(KVec::new()),
            rules <- new_mutex!(KVec::new()),
            buses <- Buses::new(),
            watches,
            search: Atomic::new(false),
        }))
    }

    /// Begins to create links. What goes wrong is logged, and leaves devices without links.
    pub(crate) fn start(&'static self, forever: Forever) {
        LINKS.populate((self, forever));

        if let Err(err) = module::observe::<Self>(forever) {
            pr_err!("cannot see modules being loaded: {:?}\n", err);
        }
        self.search(forever);
        exports::apply_links();
    }

    /// Looks for buses and classes that were not there before.
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

    /// A heap has appeared.
    fn heap_added(&'static self, heap: &Device) -> Result {
        {
            let mut heaps = self.heaps.lock();
            if heaps.iter().any(|known| core::ptr::eq(&**known, heap)) {
                return Ok(());
            }
            heaps.push(heap.into(), GFP_KERNEL)?;
        }
        self.update_all(&mut self.devices.lock());
        Ok(())
    }

    /// A device node has appeared.
    fn node_added(&'static self, node: &Device, dev: &Device<Bound>, forever: Forever) -> Result {
        let mut devices = self.devices.lock();
        let links = devices.get_or_insert(dev, DeviceLinks::default(), forever)?;

        if !links
            .nodes
            .iter()
            .any(|known| core::ptr::eq(&**known, node))
        {
            links.nodes.push(node.into(), GFP_KERNEL)?;
        }
        self.update(dev, links);
        Ok(())
    }

    /// A device node is about to go.
    fn node_removed(&'static self, node: &Device, dev: &Device) {
        let mut devices = self.devices.lock();

        if let Some((_, links)) = devices.get_mut(dev) {
            links.nodes.retain(|known| !core::ptr::eq(&**known, node));
            Self::remove_unwanted(&mut devices, dev);
        }
    }

    /// A driver chooses a heap for its device.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if there is no such heap.
    /// - [`EEXIST`] if the driver has chosen already.
    /// - [`EOPNOTSUPP`] if the heap would refuse the device.
    /// - [`ENOMEM`] if there is no memory for it.
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
        coherency::accepts(policy::mode(heap.to_str()?), dev.into())?;

        let choice = CString::try_from_fmt(fmt!("{}", heap))?;
        let links = devices.get_or_insert(dev, DeviceLinks::default(), forever)?;
        links.choice = Some(choice);
        let result = self.try_update(dev, links);
        if result.is_err() {
            links.choice = None;
            self.update(dev, links);
            Self::remove_unwanted(&mut devices, dev);
        }
        result
    }

    /// A driver takes its choice back.
    fn unchoose(&'static self, dev: &Device) {
        let mut devices = self.devices.lock();

        if let Some((dev, links)) = devices.get_mut(dev) {
            links.choice = None;
            if !links.nodes.is_empty() {
                self.update(dev, links);
            }
        }
        Self::remove_unwanted(&mut devices, dev);
    }

    /// Removes the links of `dev`, unless there is still a reason for them.
    fn remove_unwanted(devices: &mut Locked<DeviceLinks>, dev: &Device) {
        let unwanted = devices.get_mut(dev).is_some_and(|(dev, links)| {
            let unwanted = links.nodes.is_empty() && links.choice.is_none();
            if unwanted {
                links.tear_down(dev);
            }
            unwanted
        });

        if unwanted {
            devices.remove(dev);
        }
    }

    /// Replaces the rules, if the new ones are correct and can be followed.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] for bad grammar, a heap that does not exist, or one that would refuse a device
    ///   of the driver. The log says which.
    /// - [`ENOMEM`] if there is no memory for it.
    fn set_rules(&'static self, text: &str) -> Result {
        let rules = parse_rules(text)?;
        let mut devices = self.devices.lock();

        for rule in rules.iter() {
            for name in rule.heaps() {
                if !self.heaps.lock().iter().any(|known| is_named(known, name)) {
                    pr_err!("links: there is no heap {}\n", name);
                    return Err(EINVAL);
                }
                for (dev, _) in devices.iter_mut() {
                    if driver_name(dev).to_bytes() != rule.driver.as_bytes() {
                        continue;
                    }
                    if let Err(refusal) = coherency::accepts(policy::mode(name), dev.into()) {
                        dev_err!(dev, "links: heap {} would refuse it: {}\n", name, refusal);
                        return Err(EINVAL);
                    }
                }
            }
        }

        let mut copy = KVec::new();
        copy.extend_from_slice(rules.text().as_bytes(), GFP_KERNEL)?;
        *self.rules.lock() = copy;
        self.update_all(&mut devices);
        Ok(())
    }

    /// Brings the links of all devices up to date.
    fn update_all(&self, devices: &mut Locked<DeviceLinks>) {
        for (dev, links) in devices.iter_mut() {
            self.update(dev, links);
        }
    }

    /// Brings the links of one device up to date, or removes them.
    fn update(&self, dev: &Device<Bound>, links: &mut DeviceLinks) {
        if let Err(err) = self.try_update(dev, links) {
            dev_err!(dev, "cannot link to DMA heaps: {:?}\n", err);
        }
    }

    /// As [`Self::update`].
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] if there is something else of the name of a link.
    /// - [`ENOMEM`] if there is no memory for it.
    fn try_update(&self, dev: &Device<Bound>, links: &mut DeviceLinks) -> Result {
        self.wanted(dev, links.choice.as_deref())
            .and_then(|wanted| links.set(dev, wanted))
            .inspect_err(|_| links.tear_down(dev))
    }

    /// The heaps that `dev` is to be linked to, best first.
    fn wanted(&self, dev: &Device<Bound>, choice: Option<&CStr>) -> Result<KVec<ARef<Device>>> {
        let heaps = self.heaps.lock();
        let mut wanted: KVec<ARef<Device>> = KVec::new();

        // A heap that nobody has asked for may refuse the device without a word.
        let mut offer = |name: &str, is_asked_for: bool| -> Result {
            let Some(heap) = heaps.iter().find(|heap| is_named(heap, name)) else {
                return Ok(());
            };
            if wanted.iter().any(|known| core::ptr::eq(&**known, &**heap)) {
                return Ok(());
            }
            if let Err(refusal) = coherency::accepts(policy::mode(name), dev.into()) {
                if is_asked_for {
                    dev_warn!(dev, "links: heap {} would refuse it: {}\n", name, refusal);
                }
                return Ok(());
            }
            Ok(wanted.push(heap.clone(), GFP_KERNEL)?)
        };

        if let Some(choice) = choice {
            offer(choice.to_str()?, true)?;
        }
        let text = self.rules.lock();
        let rule = core::str::from_utf8(&text)
            .ok()
            .map(Rules::checked)
            .and_then(|rules| rules.for_driver(driver_name(dev).to_str().ok()?));
        match rule {
            Some(rule) => rule.heaps().try_for_each(|name| offer(name, true))?,
            None => {
                let strict = coherency::accepts(policy::Mode::Strict, dev.into()).is_ok();
                policy::default_order(strict).try_for_each(|name| offer(name, false))?;
            }
        }
        Ok(wanted)
    }
}

impl DeviceLinks {
    /// Replaces the links by `wanted`, and tells user space.
    fn set(&mut self, dev: &Device<Bound>, wanted: KVec<ARef<Device>>) -> Result {
        let same = |a: &ARef<Device>, b: &ARef<Device>| core::ptr::eq(&**a, &**b);

        if wanted.len() == self.heaps.len()
            && wanted
                .iter()
                .zip(self.heaps.iter())
                .all(|(a, b)| same(a, b))
        {
            return Ok(());
        }
        let Some(first) = wanted.first() else {
            self.tear_down(dev);
            return Ok(());
        };

        let mut order = KVec::new();
        for (i, heap) in wanted.iter().enumerate() {
            if i > 0 {
                order.push(b' ', GFP_KERNEL)?;
            }
            order.extend_from_slice(heap.name().to_bytes(), GFP_KERNEL)?;
        }
        order.push(b'\n', GFP_KERNEL)?;

        let directory = match self.directory.take() {
            Some(directory) => directory,
            None => Directory::create(dev, ALL)?,
        };
        let directory = self.directory.insert(directory);
        directory.set_order(order);

        for heap in &self.heaps {
            if !wanted.iter().any(|other| same(heap, other)) {
                directory.remove_link(heap.name());
            }
        }
        for heap in &wanted {
            if !self.heaps.iter().any(|other| same(heap, other)) {
                directory.create_link(heap, heap.name())?;
            }
        }
        if !self.heaps.first().is_some_and(|former| same(former, first)) {
            self.remove_first(dev);
            sysfs::create_link(dev, first, FIRST)?;
            self.has_first = true;
        }

        self.heaps = wanted;
        self.tell(dev);
        Ok(())
    }

    /// Removes all links, and tells user space if there were any.
    fn tear_down(&mut self, dev: &Device<Bound>) {
        if self.directory.take().is_some() {
            self.remove_first(dev);
            self.heaps.clear();
            self.tell(dev);
        }
    }

    /// Removes the link for the first choice, if it is ours.
    fn remove_first(&mut self, dev: &Device<Bound>) {
        if core::mem::take(&mut self.has_first) {
            sysfs::remove_link(dev, FIRST);
        }
    }

    /// Links raise no events of their own.
    fn tell(&self, dev: &Device<Bound>) {
        dev.changed();
        for node in &self.nodes {
            node.changed();
        }
    }
}

impl Data for DeviceLinks {
    fn unbound(&mut self, dev: &Device<Bound>) {
        self.tear_down(dev);
    }
}

impl class::Observer for Links {
    fn watches() -> &'static [Pin<KBox<Watch<Self>>>] {
        LINKS.as_ref().map_or(&[], |(links, _)| &links.watches)
    }

    fn added(class: &CStr, dev: &Device, parent: Option<&Device<Bound>>) {
        let Some(&(links, forever)) = LINKS.as_ref() else {
            return;
        };

        let result = match parent {
            _ if class == HEAP_CLASS => links.heap_added(dev),
            Some(parent) if dev.has_node() => links.node_added(dev, parent, forever),
            // Connectors have no nodes, and software-only nodes no device.
            _ => Ok(()),
        };
        if let Err(err) = result {
            dev_err!(dev, "no links to DMA heaps: {:?}\n", err);
        }
    }

    fn removed(_class: &CStr, dev: &Device) {
        if let (Some((links, _)), Some(parent)) = (LINKS.as_ref(), dev.parent()) {
            links.node_removed(dev, parent);
        }
    }
}

impl bus::Observer for Links {
    fn bound(_dev: &Device<Bound>) {
        let Some(&(links, forever)) = LINKS.as_ref() else {
            return;
        };

        // Listening to further buses from here would wait for their listeners, who may be waiting
        // for us.
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

impl module::Observer for Links {
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

fn parse_rules(text: &str) -> Result<Rules<'_>> {
    Rules::parse(text).map_err(|mistake| {
        pr_err!("links: {}\n", format_args!("{mistake}"));
        EINVAL
    })
}

/// `dma_heap_create_device_link()`; the errors are those of [`Links::choose`].
pub(crate) fn create_device_link(dev: &Device<Bound>, heap: &CStr) -> Result {
    let &(links, forever) = LINKS.as_ref().ok_or(ENODEV)?;

    links.choose(dev, heap, forever)
}

/// `dma_heap_remove_device_link()`; harmless for a device without such a link.
pub(crate) fn remove_device_link(dev: &Device) {
    if let Some((links, _)) = LINKS.as_ref() {
        links.unchoose(dev);
    }
}

/// Sets the module parameter `links`.
///
/// Before the heaps are registered only the grammar can be checked; the module does the rest later.
///
/// # Errors
///
/// Those of [`Links::set_rules`].
pub(crate) fn set_rules(text: &str) -> Result {
    match LINKS.as_ref() {
        Some((links, _)) => links.set_rules(text),
        None => parse_rules(text).map(|_| ()),
    }
}
