// SPDX-License-Identifier: GPL-2.0

//! Actions of processes on buffers: descriptors, mappings, access by the CPU.

use super::action::{Action, Kind, SLOTS};
use super::child::Child;
use super::content::{Content, bytes};
use super::state::{Live, MAX_PAGES, SHARED, State, View};
use super::tally::Outcome;
use crate::heap::{Buffer, WRITE};
use crate::mapping::page_size;
use anyhow::{Context as _, Result, ensure};
use rustix::fd::AsFd as _;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// How many descriptors may be on their way through the socket.
const MAX_IN_FLIGHT: usize = 8;

/// How many children a worker may have.
const MAX_CHILDREN: usize = 3;

impl State {
    pub fn use_memory(&mut self, action: &Action) -> Result<Outcome> {
        match action.kind {
            Kind::Allocate => self.allocate(action),
            Kind::Again => self.again(action),
            Kind::Close => self.close(action),
            Kind::Duplicate => self.duplicate(action),
            Kind::Send => self.send(action),
            Kind::Receive => self.receive(),
            Kind::Map => self.map(action),
            Kind::Unmap => self.unmap(action),
            Kind::Resize => self.resize(action),
            Kind::Hole => self.hole(action),
            Kind::Write => self.write(action),
            Kind::Read => self.read(action),
            Kind::Fork => self.fork(action),
            Kind::ChildWrite | Kind::ChildRead => self.ask_child(action),
            _ => self.reap(action),
        }
    }

    fn allocate(&mut self, action: &Action) -> Result<Outcome> {
        let free = self
            .slots(action.slot)
            .find(|slot| *slot != SHARED && self.lives[*slot].is_none());
        let pages = action.pages.min(MAX_PAGES - self.pages());
        let (Some(slot), 1..) = (free, pages) else {
            return Ok(Outcome::Idle);
        };
        let number = action.pick % self.heaps.len();
        // The kernel rounds the length up to whole pages.
        let len = pages * page_size() - action.tag as usize % page_size();
        let buffer = match self.heaps[number].1.alloc(len) {
            Ok(buffer) => buffer,
            Err(errno) => return Ok(Outcome::Refused(errno)),
        };
        ensure!(
            buffer.size() == pages * page_size(),
            "expected a buffer of {pages} pages for {len} bytes, got {} bytes",
            buffer.size()
        );
        self.lives[slot] = Some(Live::new(number, Content::zeroed(pages), buffer));
        Ok(Outcome::Done)
    }

    /// Releases a buffer, and at once allocates as much memory from its heap.
    fn again(&mut self, action: &Action) -> Result<Outcome> {
        let own = self.slots(action.slot);
        let mut own = own.filter(|slot| *slot != SHARED && self.lives[*slot].is_some());
        let Some(slot) = own.next() else {
            return Ok(Outcome::Idle);
        };
        let live = self.live(slot);
        let (pick, pages) = (live.heap, live.content.pages());
        self.release(slot, action.tag)?;
        self.allocate(&Action {
            slot,
            pick,
            pages,
            ..*action
        })
    }

    fn close(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, Live::is_open) else {
            return Ok(Outcome::Idle);
        };
        let descriptors = &mut self.live(slot).descriptors;
        descriptors.swap_remove(action.pick % descriptors.len());
        self.bury(slot);
        Ok(Outcome::Done)
    }

    fn duplicate(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, Live::is_open) else {
            return Ok(Outcome::Idle);
        };
        let live = self.live(slot);
        let fd = rustix::io::fcntl_dupfd_cloexec(live.descriptor(action.pick), 0)?;
        live.descriptors.push(Buffer::from_fd(fd)?);
        Ok(Outcome::Done)
    }

    fn send(&mut self, action: &Action) -> Result<Outcome> {
        let slot = self.find(action.slot, Live::is_open);
        let (Some(slot), ..MAX_IN_FLIGHT) = (slot, self.in_flight.len()) else {
            return Ok(Outcome::Idle);
        };
        let descriptors = &mut self.live(slot).descriptors;
        let buffer = descriptors.swap_remove(action.pick % descriptors.len());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [buffer.as_fd()];
        ensure!(
            control.push(SendAncillaryMessage::ScmRights(&fds)),
            "no room for a descriptor"
        );
        let byte = [IoSlice::new(&[0])];
        rustix::net::sendmsg(&self.socket.0, &byte, &mut control, SendFlags::empty())?;
        drop(buffer);
        self.live(slot).in_flight += 1;
        self.in_flight.push_back(slot);
        Ok(Outcome::Done)
    }

    fn receive(&mut self) -> Result<Outcome> {
        let Some(slot) = self.in_flight.pop_front() else {
            return Ok(Outcome::Idle);
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut into = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(&self.socket.1, &mut into, &mut control, flags)?;
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fd = fds.flatten().next().context("no descriptor came")?;
        let buffer = Buffer::from_fd(fd)?;
        let live = self.live(slot);
        ensure!(
            buffer.inode() == live.inode,
            "expected the buffer that was sent, got another one"
        );
        live.in_flight -= 1;
        live.descriptors.push(buffer);
        Ok(Outcome::Done)
    }

    fn map(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, Live::is_open) else {
            return Ok(Outcome::Idle);
        };
        let live = self.live(slot);
        let (page, pages) = live.range(action.page, action.pages);
        let mapping = live.window(action.pick, page, pages)?;
        live.views.push(View { page, mapping });
        Ok(Outcome::Done)
    }

    fn unmap(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, |live| !live.views.is_empty()) else {
            return Ok(Outcome::Idle);
        };
        let views = &mut self.live(slot).views;
        views.swap_remove(action.pick % views.len());
        self.bury(slot);
        Ok(Outcome::Done)
    }

    /// Makes a mapping smaller, which may move it.
    fn resize(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, |live| !live.views.is_empty()) else {
            return Ok(Outcome::Idle);
        };
        let views = &mut self.live(slot).views;
        let View { page, mapping } = views.swap_remove(action.pick % views.len());
        let pages = action.pages.min(mapping.pages());
        let mapping = mapping.resized(pages * page_size())?;
        views.push(View { page, mapping });
        Ok(Outcome::Done)
    }

    /// Unmaps a part in the middle of a mapping.
    fn hole(&mut self, action: &Action) -> Result<Outcome> {
        let large = |view: &View| view.mapping.pages() > 2;
        let Some(slot) = self.find(action.slot, |live| live.views.iter().any(large)) else {
            return Ok(Outcome::Idle);
        };
        let views = &mut self.live(slot).views;
        let which = views.iter().position(large).unwrap_or_default();
        let View { page, mapping } = views.swap_remove(which);
        let start = 1 + action.page % (mapping.pages() - 2);
        let end = (start + action.pages).min(mapping.pages() - 1);
        let (left, right) = mapping.without(start * page_size()..end * page_size())?;
        views.push(View {
            page,
            mapping: left,
        });
        views.push(View {
            page: page + end,
            mapping: right,
        });
        Ok(Outcome::Done)
    }

    fn write(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, Live::is_readable) else {
            return Ok(Outcome::Idle);
        };
        if slot == SHARED {
            return self.read(action);
        }
        let live = self.live(slot);
        let (page, pages) = live.reachable(action)?;
        let data = bytes(page, pages, action.tag);
        live.access(action.pick, WRITE, page, pages, |mapping, at| {
            mapping.write(at, &data);
        })?;
        live.content.fill(page, pages, action.tag);
        Ok(Outcome::Done)
    }

    fn read(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, Live::is_readable) else {
            return Ok(Outcome::Idle);
        };
        let live = self.live(slot);
        let (page, pages) = live.reachable(action)?;
        live.check(action.pick, page, pages)?;
        Ok(Outcome::Done)
    }

    fn fork(&mut self, action: &Action) -> Result<Outcome> {
        let slot = self.find(action.slot, Live::is_open);
        let (Some(slot), ..MAX_CHILDREN) = (slot, self.children.len()) else {
            return Ok(Outcome::Idle);
        };
        let child = Child::fork(self, slot)?;
        self.children.push(child);
        self.live(slot).children += 1;
        Ok(Outcome::Done)
    }

    fn ask_child(&mut self, action: &Action) -> Result<Outcome> {
        if self.children.is_empty() {
            return Ok(Outcome::Idle);
        }
        let which = action.pick % self.children.len();
        let child = &mut self.children[which];
        let live = self.lives[child.slot].as_mut();
        let live = live.context("a child's buffer exists")?;
        let (page, _) = live.range(action.page, 1);
        if action.kind == Kind::ChildWrite && child.slot != SHARED {
            child.write(page, action.tag)?;
            live.content.fill(page, 1, action.tag);
        } else {
            child.read(page, live.content.tag(page))?;
        }
        Ok(Outcome::Done)
    }

    fn reap(&mut self, action: &Action) -> Result<Outcome> {
        if self.children.is_empty() {
            return Ok(Outcome::Idle);
        }
        let child = self.children.swap_remove(action.pick % self.children.len());
        self.end_child(child, action.tag % 2 == 0)?;
        Ok(Outcome::Done)
    }

    fn end_child(&mut self, child: Child, kill: bool) -> Result<()> {
        let slot = child.slot;
        child.end(kill)?;
        self.live(slot).children -= 1;
        self.bury(slot);
        Ok(())
    }

    /// Releases everything that holds a buffer. The order depends on `tag`.
    pub fn release(&mut self, slot: usize, tag: u64) -> Result<Outcome> {
        if self.lives[slot].is_none() {
            return Ok(Outcome::Idle);
        }
        while self.live(slot).in_flight > 0 {
            self.receive()?;
        }
        while let Some(which) = self.children.iter().position(|child| child.slot == slot) {
            let child = self.children.swap_remove(which);
            self.end_child(child, tag % 2 == 0)?;
            if self.lives[slot].is_none() {
                return Ok(Outcome::Done);
            }
        }
        if tag % 3 == 0 {
            self.live(slot).descriptors.clear();
        }
        self.let_devices_go(slot)?;
        self.close_handles(slot)?;
        self.unqueue_all(slot);
        if let Some(live) = &mut self.lives[slot] {
            live.views.clear();
            live.descriptors.clear();
        }
        self.bury(slot);
        Ok(Outcome::Done)
    }

    /// Reads all of every buffer.
    pub fn verify(&mut self) -> Result<()> {
        for slot in 0..=SLOTS {
            let Some(live) = &mut self.lives[slot] else {
                continue;
            };
            let what = || format!("the buffer in slot {slot}");
            if live.is_open() {
                live.check(0, 0, live.content.pages()).with_context(what)?;
            } else if live.is_readable() {
                for view in 0..live.views.len() {
                    let View { page, mapping } = &live.views[view];
                    live.check(0, *page, mapping.pages()).with_context(what)?;
                }
            }
            self.verify_by_devices(slot).with_context(what)?;
        }
        Ok(())
    }
}
