// SPDX-License-Identifier: GPL-2.0

//! Brackets, fences, and questions about buffers, heaps and devices.

use super::action::{Action, Kind};
use super::state::{Live, State};
use super::tally::Outcome;
use crate::expect::expect_errno;
use crate::heap::{END, READ, WRITE};
use crate::heap_files::look;
use crate::links::{self, Links};
use crate::memory::eventually;
use crate::options::is_ours;
use crate::query::Query;
use crate::timeline::Timeline;
use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd as _, AsRawFd as _};
use rustix::io::Errno;
use std::ffi::CString;

impl State {
    pub fn ask(&mut self, action: &Action) -> Result<Outcome> {
        match action.kind {
            Kind::Files => return self.files(action),
            Kind::Links => return links(action),
            _ => (),
        }
        let Some(slot) = self.find(action.slot, Live::is_open) else {
            return Ok(Outcome::Idle);
        };
        match action.kind {
            Kind::Bracket => self.bracket(slot, action),
            Kind::Pending => self.pending(slot, action),
            Kind::Fence => self.fence(slot, action),
            Kind::Query => self.query(slot, action),
            _ => self.name(slot, action),
        }
    }

    /// Half a bracket, with flags that may be wrong.
    fn bracket(&mut self, slot: usize, action: &Action) -> Result<Outcome> {
        let flags = action.tag % 16;
        let buffer = self.live(slot).descriptor(action.pick);
        let seen = buffer.sync(flags);
        let both = u64::from(READ | WRITE);
        if flags & both == 0 || flags & !(both | u64::from(END)) != 0 {
            expect_errno("a bracket without direction", seen, Errno::INVAL)?;
            return Ok(Outcome::Refused(Errno::INVAL));
        }
        seen.with_context(|| format!("a bracket with flags {flags:#x}"))?;
        self.part(slot, action, flags as u32)
    }

    /// The same for a part, which may be outside of the buffer.
    fn part(&mut self, slot: usize, action: &Action, flags: u32) -> Result<Outcome> {
        let live = self.lives[slot].as_ref().context("it was found")?;
        let buffer = live.descriptor(action.pick);
        let start = action.page * 1000 % (buffer.size() + 1);
        let part = start..start + action.pages * 1000;
        let seen = buffer.sync_part(flags, &part, &self.query);
        let what = format!("a bracket around {part:?}, flags {flags:#x}");
        let expected = if !is_ours(&self.heaps[live.heap].0) {
            Errno::OPNOTSUPP
        } else if part.end > buffer.size() {
            Errno::INVAL
        } else {
            seen.context(what)?;
            return Ok(Outcome::Done);
        };
        expect_errno(&what, seen, expected)?;
        Ok(Outcome::Refused(expected))
    }

    /// Exports a fence of one buffer, and imports it into another one.
    fn fence(&mut self, slot: usize, action: &Action) -> Result<Outcome> {
        let flags = action.tag as u32 % 4;
        let fence = self
            .live(slot)
            .descriptor(action.pick)
            .export_fence(READ | WRITE)?;
        let other = self.find(action.pick, Live::is_open);
        let other = self.live(other.unwrap_or(slot)).descriptor(action.page);
        let seen = other.import_fence(fence, flags);
        if flags == 0 {
            expect_errno("a fence without direction", seen, Errno::INVAL)?;
            return Ok(Outcome::Refused(Errno::INVAL));
        }
        seen.context("importing a fence")?;
        Ok(Outcome::Done)
    }

    /// Gives a buffer a pending fence for a while. Other users may also wait for it.
    fn pending(&mut self, slot: usize, action: &Action) -> Result<Outcome> {
        let Ok(timeline) = Timeline::open() else {
            return Ok(Outcome::Idle);
        };
        let buffer = self.live(slot).descriptor(action.pick);
        let flags = [READ, WRITE, READ | WRITE][action.tag as usize % 3];
        buffer.import_fence(timeline.fence(1)?, flags)?;
        let fence = buffer.export_fence(WRITE)?;
        let is_signalled = || -> Result<bool> {
            let mut fds = [PollFd::new(&fence, PollFlags::IN)];
            Ok(rustix::event::poll(&mut fds, Some(&Timespec::default()))? > 0)
        };
        ensure!(
            !is_signalled()?,
            "expected a writer to wait for a user, but its fence has signalled"
        );
        if action.tag % 2 == 0 {
            timeline.advance()?;
        }
        // Closing the timeline signals all its fences.
        drop(timeline);
        let done = eventually(is_signalled)?;
        ensure!(done, "a writer's fence does not signal");
        Ok(Outcome::Done)
    }

    fn query(&mut self, slot: usize, action: &Action) -> Result<Outcome> {
        let live = self.lives[slot].as_ref().context("it was found")?;
        let fd = live.descriptor(action.pick).as_fd().as_raw_fd();
        let answer = Query::about(fd).answer(&self.query)?;
        let heap = &self.heaps[live.heap].0;
        let expected = if is_ours(heap) { heap.as_str() } else { "" };
        ensure!(
            answer.heap()? == expected,
            "a buffer of {heap}: expected an answer about {expected:?}, got {answer:?}"
        );
        Ok(Outcome::Done)
    }

    fn name(&mut self, slot: usize, action: &Action) -> Result<Outcome> {
        let name = CString::new(format!("{:x}", action.tag))?;
        self.live(slot).descriptor(action.pick).set_name(&name)?;
        Ok(Outcome::Done)
    }

    fn files(&self, action: &Action) -> Result<Outcome> {
        let heap = &self.heaps[action.pick % self.heaps.len()].0;
        if !is_ours(heap) {
            return Ok(Outcome::Idle);
        }
        for name in ["buffers", "bytes", "limit", "pool", "refused"] {
            look(heap, name)?;
        }
        Ok(Outcome::Done)
    }
}

/// Reads the links of a device, which may be going or coming.
fn links(action: &Action) -> Result<Outcome> {
    let devices = links::devices()?;
    let Some(device) = devices.iter().nth(action.pick % devices.len().max(1)) else {
        return Ok(Outcome::Idle);
    };
    Ok(match Links::of(device)? {
        Some(links) => {
            ensure!(
                !links.order.is_empty(),
                "no heap in the order of {device:?}"
            );
            Outcome::Done
        }
        None => Outcome::Idle,
    })
}
