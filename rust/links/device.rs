// SPDX-License-Identifier: GPL-2.0

//! The links and files of one device in sysfs.

use crate::{
    kernel::{
        device::{
            per_device::Data,
            HasDriver, //
        },
        module::Forever,
        sysfs::{
            Directory,
            Link,
            TextFile, //
        }, //
    },
    policy::{
        Constraints,
        Pieces, //
    }, //
};
use kernel::{
    device::Device,
    fmt,
    prelude::*,
    str::CString,
    sync::aref::ARef, //
};

/// The name of the link to the best heap, and of the directory with links to all suitable heaps.
const FIRST: &CStr = c"dma_heap";
const ALL: &CStr = c"dma_heaps";

/// The files in the directory, in addition to the links.
pub(super) static FILES: [TextFile; 5] = [
    TextFile::new(c"order"),
    TextFile::new(c"snoops"),
    TextFile::new(c"address_bits"),
    TextFile::new(c"iommu"),
    TextFile::new(c"pieces"),
];

/// The links of one device.
pub(super) struct DeviceLinks {
    /// The device nodes of this device, and what each node requires of a heap.
    pub(super) nodes: KVec<(ARef<Device>, Constraints)>,
    /// The heap that the driver of the device has chosen.
    pub(super) choice: Option<CString>,
    /// In how many pieces the device accepts a buffer, if its driver has said so.
    pub(super) pieces: Option<Pieces>,
    /// The directory, as long as [`Self::is_wanted`] is true.
    directory: Option<Directory>,
    /// The link to the best heap, if any heap suits the device.
    first: Option<Link>,
    /// What sysfs shows at present.
    published: Published,
    /// Sends user space a uevent for a device node that has changed.
    node_changed: fn(&Device),
    /// Proof that the module stays. A task that has a file of the directory open can call functions
    /// of the module even after the directory has been removed.
    forever: Forever,
}

/// What sysfs shows about a device.
#[derive(Default)]
pub(super) struct Published {
    /// The heaps that the device is linked to, best first.
    pub(super) heaps: KVec<ARef<Device>>,
    /// What the device requires of a heap. `None` before anything has been published.
    pub(super) constraints: Option<Constraints>,
}

impl PartialEq for Published {
    fn eq(&self, other: &Self) -> bool {
        self.constraints == other.constraints
            && self.heaps.len() == other.heaps.len()
            && core::iter::zip(&self.heaps, &other.heaps).all(|(a, b)| is_same(a, b))
    }
}

impl DeviceLinks {
    /// Creates the state of a device without links.
    pub(super) fn new(node_changed: fn(&Device), forever: Forever) -> Self {
        Self {
            nodes: KVec::new(),
            choice: None,
            pieces: None,
            directory: None,
            first: None,
            published: Published::default(),
            node_changed,
            forever,
        }
    }

    /// Returns whether there is a reason for links: a device node, or a choice of the driver.
    pub(super) fn is_wanted(&self) -> bool {
        !self.nodes.is_empty() || self.choice.is_some()
    }

    /// Makes sysfs show `wanted`, and sends uevents. Does nothing if sysfs already shows it.
    ///
    /// After an error, sysfs may show parts of it. The caller then has to call [`Self::tear_down`].
    pub(super) fn publish(&mut self, dev: HasDriver<'_>, wanted: Published) -> Result {
        let (Some(constraints), true) = (wanted.constraints, wanted != self.published) else {
            return Ok(());
        };
        let former = &self.published.heaps;

        let mut order = KVec::new();
        for (i, heap) in wanted.heaps.iter().enumerate() {
            if i > 0 {
                order.push(b' ', GFP_KERNEL)?;
            }
            order.extend_from_slice(heap.name().to_bytes(), GFP_KERNEL)?;
        }
        let mut texts = KVec::with_capacity(FILES.len(), GFP_KERNEL)?;
        for mut text in [
            order,
            text(fmt!("{}", u8::from(constraints.snoops)))?,
            text(fmt!("{}", constraints.address_bits))?,
            text(fmt!("{}", u8::from(constraints.iommu)))?,
            text(fmt!("{}", constraints.pieces.name()))?,
        ] {
            text.push(b'\n', GFP_KERNEL)?;
            texts.push(text, GFP_KERNEL)?;
        }
        let directory = match &self.directory {
            Some(directory) => {
                directory.set_texts(texts)?;
                directory
            }
            None => {
                self.directory
                    .insert(Directory::create(dev, ALL, &FILES, texts, self.forever)?)
            }
        };

        for heap in former {
            if !wanted.heaps.iter().any(|other| is_same(heap, other)) {
                directory.remove_link(heap.name());
            }
        }
        for heap in &wanted.heaps {
            if !former.iter().any(|other| is_same(heap, other)) {
                directory.create_link(heap, heap.name())?;
            }
        }
        let (old, new) = (former.first(), wanted.heaps.first());
        if !old.zip(new).is_some_and(|(old, new)| is_same(old, new)) {
            self.remove_first(dev);
            if let Some(first) = new {
                self.first = Some(Link::create(dev, first, FIRST)?);
            }
        }

        self.published = wanted;
        self.tell(dev);
        Ok(())
    }

    /// Removes the directory and all links. Sends uevents if there was a directory.
    pub(super) fn tear_down(&mut self, dev: HasDriver<'_>) {
        if self.directory.take().is_some() {
            self.remove_first(dev);
            self.published = Published::default();
            self.tell(dev);
        }
    }

    /// Removes the link to the best heap, if there is one.
    fn remove_first(&mut self, dev: HasDriver<'_>) {
        if let Some(Err(err)) = self.first.take().map(|first| first.remove(dev)) {
            dev_err!(dev, "cannot remove a link to a DMA heap: {:?}\n", err);
        }
    }

    /// Sends uevents for the device and its nodes. The kernel sends none when links change.
    fn tell(&self, dev: HasDriver<'_>) {
        dev.changed();
        for (node, _) in &self.nodes {
            (self.node_changed)(node);
        }
    }
}

impl Data for DeviceLinks {
    fn unbound(&mut self, dev: HasDriver<'_>) {
        self.tear_down(dev);
    }
}

pub(super) fn is_same(a: &Device, b: &Device) -> bool {
    core::ptr::eq(a, b)
}

/// Formats one line, without the newline.
fn text(line: fmt::Arguments<'_>) -> Result<KVec<u8>> {
    let mut text = KVec::new();

    text.extend_from_slice(CString::try_from_fmt(line)?.to_bytes(), GFP_KERNEL)?;
    Ok(text)
}
