// SPDX-License-Identifier: GPL-2.0

//! The links and files of one device.

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

/// The link for the first choice, and the directory for all.
const FIRST: &CStr = c"dma_heap";
const ALL: &CStr = c"dma_heaps";

/// The files in the directory, besides the links.
pub(super) static FILES: [TextFile; 5] = [
    TextFile::new(c"order"),
    TextFile::new(c"snoops"),
    TextFile::new(c"address_bits"),
    TextFile::new(c"iommu"),
    TextFile::new(c"pieces"),
];

/// The links of one device.
pub(super) struct DeviceLinks {
    /// The device nodes of this device, and what each asks of a heap.
    pub(super) nodes: KVec<(ARef<Device>, Constraints)>,
    /// The heap that the device's own driver has chosen.
    pub(super) choice: Option<CString>,
    /// In how many pieces the device takes a buffer, if its driver has said so.
    pub(super) pieces: Option<Pieces>,
    /// The directory, as long as there is a reason for it.
    directory: Option<Directory>,
    /// The link for the first choice, if there is one.
    first: Option<Link>,
    /// What has been published.
    published: Published,
    /// Tells user space that a device node has changed.
    node_changed: fn(&Device),
    /// The directory calls functions of the module as long as anybody looks at it.
    forever: Forever,
}

/// What is published about a device.
#[derive(Default)]
pub(super) struct Published {
    /// The heaps that it is linked to, best first.
    pub(super) heaps: KVec<ARef<Device>>,
    /// What it asks of a heap. None before anything has been published.
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
    /// Creates it, without any links yet.
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

    /// Whether there is a reason for links.
    pub(super) fn is_wanted(&self) -> bool {
        !self.nodes.is_empty() || self.choice.is_some()
    }

    /// Replaces what has been published, links included, and tells user space.
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

    /// Removes all links, and tells user space if there were any.
    pub(super) fn tear_down(&mut self, dev: HasDriver<'_>) {
        if self.directory.take().is_some() {
            self.remove_first(dev);
            self.published = Published::default();
            self.tell(dev);
        }
    }

    /// Removes the link for the first choice, if there is one.
    fn remove_first(&mut self, dev: HasDriver<'_>) {
        if let Some(Err(err)) = self.first.take().map(|first| first.remove(dev)) {
            dev_err!(dev, "cannot remove a link to a DMA heap: {:?}\n", err);
        }
    }

    /// Tells user space of a change. The kernel does not do so for links.
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

/// The text of one line, without its end.
fn text(line: fmt::Arguments<'_>) -> Result<KVec<u8>> {
    let mut text = KVec::new();

    text.extend_from_slice(CString::try_from_fmt(line)?.to_bytes(), GFP_KERNEL)?;
    Ok(text)
}
