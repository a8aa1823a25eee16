// SPDX-License-Identifier: GPL-2.0

//! Access to a buffer by this process.

use super::action::Action;
use super::state::{Live, View};
use crate::heap::{Buffer, END, READ};
use crate::mapping::{Mapping, Window, page_size};
use anyhow::{Context as _, Result};
use rustix::io::Errno;

impl Live {
    /// One of its descriptors. There must be one.
    pub fn descriptor(&self, pick: usize) -> &Buffer {
        &self.descriptors[pick % self.descriptors.len()]
    }

    /// Whether the CPU may access it. Without a descriptor there are no brackets, so then
    /// no device may use the buffer.
    pub fn is_readable(&self) -> bool {
        let used = self.queued > 0 || self.attached.iter().any(|one| !one.mapped.is_empty());
        self.is_open() || (!self.views.is_empty() && !used)
    }

    pub fn window(&self, pick: usize, page: usize, pages: usize) -> Result<Mapping> {
        let window = Window::of(pages * page_size()).at((page * page_size()) as u64);
        Ok(self.descriptor(pick).map_window(&window)?)
    }

    /// A range that the CPU can access.
    pub fn reachable(&self, action: &Action) -> Result<(usize, usize)> {
        if self.is_open() {
            return Ok(self.range(action.page, action.pages));
        }
        let view = &self.views[action.pick % self.views.len()];
        let pages = view.mapping.pages();
        let page = action.page % pages;
        Ok((view.page + page, action.pages.min(pages - page)))
    }

    /// Accesses a range through the first mapping that has all of it, or through a new one. If there
    /// is a descriptor, that happens in a bracket.
    pub fn access(
        &self,
        pick: usize,
        flags: u32,
        page: usize,
        pages: usize,
        access: impl FnOnce(&Mapping, usize),
    ) -> Result<()> {
        let covers =
            |view: &&View| view.page <= page && page + pages <= view.page + view.mapping.pages();
        let made;
        let (mapping, at) = match self.views.iter().find(covers) {
            Some(view) => (&view.mapping, (page - view.page) * page_size()),
            None => {
                made = self.window(pick, page, pages)?;
                (&made, 0)
            }
        };
        let bracket = |flags: u32| match self.descriptors.first() {
            Some(buffer) => buffer.sync(flags.into()),
            None => Ok::<(), Errno>(()),
        };
        bracket(flags).context("opening a bracket")?;
        access(mapping, at);
        bracket(flags | END).context("closing a bracket")
    }

    /// Fails unless the CPU reads what was written last.
    pub fn check(&self, pick: usize, page: usize, pages: usize) -> Result<()> {
        const CHUNK: usize = 64;
        let mut seen = vec![0; CHUNK.min(pages) * page_size()];
        let mut good = Ok(());
        self.access(pick, READ, page, pages, |mapping, at| {
            for start in (0..pages).step_by(CHUNK) {
                let seen = &mut seen[..CHUNK.min(pages - start) * page_size()];
                mapping.read(at + start * page_size(), seen);
                let result = self.content.expect("the CPU", page + start, seen);
                if good.is_ok() {
                    good = result;
                }
            }
        })?;
        good
    }
}
