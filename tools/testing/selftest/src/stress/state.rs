// SPDX-License-Identifier: GPL-2.0

//! The model: which buffers must exist, who holds them, and their content.

use super::action::SLOTS;
use super::child::Child;
use super::content::Content;
use super::prime::Node;
use super::video::Stream;
use crate::heap::{Buffer, Heap};
use crate::mapping::{Mapping, page_size};
use crate::options::is_ours;
use crate::query;
use crate::test_importer::{Attachment, Direction, Importer, KernelMapping, Mapped, Setup};
use anyhow::{Context as _, Result};
use drm::buffer::Handle;
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::collections::{BTreeMap, VecDeque};
use std::fs;

/// The slot of the buffer that all workers share.
pub const SHARED: usize = SLOTS;

/// How many pages all buffers of a worker have at most.
pub const MAX_PAGES: usize = 3072;

/// How many devices a worker has.
pub const DEVICES: usize = 4;

/// How many DRM nodes a worker has open.
pub const CARDS: usize = 3;

/// A mapping of this process, and the page of the buffer that it starts with.
pub struct View {
    pub page: usize,
    pub mapping: Mapping,
}

pub struct Attached {
    /// Which of the worker's devices.
    pub device: usize,
    pub attachment: Attachment,
    pub mapped: Vec<(Mapped, Direction)>,
}

/// A buffer that exists.
pub struct Live {
    /// The index of its heap.
    pub heap: usize,
    pub content: Content,
    /// The inode number, which identifies it.
    pub inode: u64,
    pub descriptors: Vec<Buffer>,
    pub views: Vec<View>,
    pub attached: Vec<Attached>,
    pub vmaps: Vec<(usize, KernelMapping)>,
    /// The worker's DRM nodes that have imported it, and their handles. Each node has one handle.
    pub imported: Vec<(usize, Handle)>,
    /// How often it is queued for video.
    pub queued: usize,
    /// How many descriptors are on their way through the socket.
    pub in_flight: usize,
    /// How many children hold it.
    pub children: usize,
}

impl Live {
    pub fn new(heap: usize, content: Content, buffer: Buffer) -> Self {
        Self {
            heap,
            content,
            inode: buffer.inode(),
            descriptors: vec![buffer],
            views: Vec::new(),
            attached: Vec::new(),
            vmaps: Vec::new(),
            imported: Vec::new(),
            queued: 0,
            in_flight: 0,
            children: 0,
        }
    }

    /// Whether this process has a descriptor of it.
    pub fn is_open(&self) -> bool {
        !self.descriptors.is_empty()
    }

    /// Whether anybody still holds it.
    fn is_held(&self) -> bool {
        self.is_open()
            || !self.views.is_empty()
            || !self.attached.is_empty()
            || !self.vmaps.is_empty()
            || !self.imported.is_empty()
            || self.queued + self.in_flight + self.children > 0
    }

    /// Changes a range of pages so that it is inside the buffer.
    pub fn range(&self, page: usize, pages: usize) -> (usize, usize) {
        let page = page % self.content.pages();
        (page, pages.min(self.content.pages() - page))
    }
}

/// A device that belongs to this worker.
pub struct Device {
    pub importer: Importer,
    pub setup: Setup,
}

/// How many buffers of each of the module's heaps exist, and how many bytes they have.
pub type Usage = BTreeMap<String, (usize, usize)>;

/// The state of a worker.
pub struct State {
    pub heaps: Vec<(String, Heap)>,
    pub lives: Vec<Option<Live>>,
    pub devices: Vec<Option<Device>>,
    pub cards: Vec<Option<Node>>,
    pub streams: Vec<Stream>,
    pub children: Vec<Child>,
    /// A pair of connected sockets.
    pub socket: (OwnedFd, OwnedFd),
    /// The slots whose descriptors are on their way through the sockets.
    pub in_flight: VecDeque<usize>,
    pub query: OwnedFd,
}

/// The names of all heaps, each once.
pub fn heap_names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/dev/dma_heap").context("/dev/dma_heap")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // This is another name of the default region.
        if name != "reserved" {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

impl State {
    pub fn new() -> Result<Self> {
        let open = |name: String| -> Result<_> {
            let heap = Heap::open(&name).with_context(|| format!("opening the heap {name}"))?;
            Ok((name, heap))
        };
        let names = heap_names()?.into_iter();
        Ok(Self {
            heaps: names.map(open).collect::<Result<_>>()?,
            lives: (0..=SLOTS).map(|_| None).collect(),
            devices: (0..DEVICES).map(|_| None).collect(),
            cards: (0..CARDS).map(|_| None).collect(),
            streams: Vec::new(),
            children: Vec::new(),
            socket: rustix::net::socketpair(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )?,
            in_flight: VecDeque::new(),
            query: query::open()?,
        })
    }

    /// The first slot from `from` on with a buffer that fits.
    pub fn find(&self, from: usize, fits: impl Fn(&Live) -> bool) -> Option<usize> {
        self.slots(from)
            .find(|slot| self.lives[*slot].as_ref().is_some_and(&fits))
    }

    /// The same, without the shared buffer.
    pub fn find_own(&self, from: usize, fits: impl Fn(&Live) -> bool) -> Option<usize> {
        self.slots(from)
            .filter(|slot| *slot != SHARED)
            .find(|slot| self.lives[*slot].as_ref().is_some_and(&fits))
    }

    /// Runs `lose` on all buffers, and forgets those that nobody holds any more.
    pub fn take_away(&mut self, lose: impl Fn(&mut Live)) {
        for slot in self.slots(0) {
            if let Some(live) = &mut self.lives[slot] {
                lose(live);
            }
            self.bury(slot);
        }
    }

    /// All slots, starting at `from`.
    pub fn slots(&self, from: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.lives.len();
        (0..count).map(move |number| (from + number) % count)
    }

    /// The buffer in a slot that [`find()`](Self::find) has returned.
    pub fn live(&mut self, slot: usize) -> &mut Live {
        self.lives[slot]
            .as_mut()
            .expect("only slots with buffers are looked for")
    }

    /// Forgets a buffer if nobody holds it any more.
    pub fn bury(&mut self, slot: usize) {
        if self.lives[slot]
            .as_ref()
            .is_some_and(|live| !live.is_held())
        {
            self.lives[slot] = None;
        }
    }

    /// How many pages the worker's own buffers have.
    pub fn pages(&self) -> usize {
        let own = self.lives[..SHARED].iter().flatten();
        own.map(|live| live.content.pages()).sum()
    }

    /// What the module's heaps must count for this worker's buffers.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::new();
        for live in self.lives[..SHARED].iter().flatten() {
            let heap = &self.heaps[live.heap].0;
            if is_ours(heap) {
                let (buffers, bytes) = usage.entry(heap.clone()).or_default();
                *buffers += 1;
                *bytes += live.content.pages() * page_size();
            }
        }
        usage
    }
}
