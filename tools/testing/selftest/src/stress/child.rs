// SPDX-License-Identifier: GPL-2.0

//! Forked processes. Each holds one inherited buffer of a worker, and accesses it on request.

use super::content::{Content, bytes};
use super::state::{Live, State};
use crate::heap::{Buffer, END, READ, WRITE};
use crate::mapping::{Window, page_size};
use crate::process;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// The size of a request to a child: `READ` or `WRITE`, a page, and the tag that fills it.
const REQUEST: usize = 24;

/// A running child. It ends when its parent ends, if not before.
pub struct Child {
    pid: Pid,
    socket: UnixStream,
    /// The slot of the buffer that it holds.
    pub slot: usize,
}

impl Child {
    /// Starts a child that holds the buffer in `slot`. The worker must have a descriptor of that.
    pub fn fork(state: &mut State, slot: usize) -> Result<Self> {
        let (socket, other) = UnixStream::pair()?;
        let parent = rustix::process::getpid();
        let pid = process::fork(|| serve(state, slot, other, parent).is_ok())?;
        let mut child = Self { pid, socket, slot };
        // The answer means that the child has closed everything else.
        child.answer()?;
        Ok(child)
    }

    fn answer(&mut self) -> Result<()> {
        let mut good = [0];
        let got = self.socket.read_exact(&mut good);
        got.context("a child ended before it was told to")?;
        ensure!(good == [1], "a child has read wrong bytes");
        Ok(())
    }

    fn ask(&mut self, what: u32, page: usize, tag: u64) -> Result<()> {
        let words = [u64::from(what), page as u64, tag];
        self.socket
            .write_all(&words.map(u64::to_ne_bytes).concat())?;
        self.answer()
            .with_context(|| format!("page {page}, tag {tag:#x}"))
    }

    pub fn write(&mut self, page: usize, tag: u64) -> Result<()> {
        self.ask(WRITE, page, tag)
    }

    pub fn read(&mut self, page: usize, tag: u64) -> Result<()> {
        self.ask(READ, page, tag)
    }

    /// Ends the child, by SIGKILL or by closing its socket.
    pub fn end(self, kill: bool) -> Result<()> {
        if kill {
            rustix::process::kill_process(self.pid, Signal::KILL)?;
        } else {
            self.socket.shutdown(std::net::Shutdown::Both)?;
        }
        let waited = rustix::process::waitpid(Some(self.pid), WaitOptions::empty())?;
        let Some((_, status)) = waited else {
            bail!("waiting for a child returned no status");
        };
        ensure!(
            kill || status.exit_status() == Some(0),
            "a child ended with {status:?}"
        );
        Ok(())
    }
}

/// The work of a child: it serves requests until its socket is closed.
fn serve(state: &mut State, slot: usize, mut socket: UnixStream, parent: Pid) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    ensure!(rustix::process::getppid() == Some(parent), "orphaned");
    let held = hold(state, slot);
    let buffer = held.descriptors.first().context("no descriptor")?;
    socket.write_all(&[1])?;
    let mut request = [0; REQUEST];
    while socket.read_exact(&mut request).is_ok() {
        let mut words = request
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("a chunk of 8 bytes")));
        let mut word = || words.next().unwrap_or_default();
        let (what, page, tag) = (word(), word() as usize, word());
        let good = access(buffer, held.content.pages(), what as u32, page, tag);
        socket.write_all(&[u8::from(good.is_ok())])?;
    }
    Ok(())
}

/// Keeps one buffer's descriptors and mappings, and closes everything else.
fn hold(state: &mut State, slot: usize) -> Live {
    let held = state.lives[slot].take();
    state.lives.clear();
    state.devices.clear();
    state.cards.clear();
    state.streams.clear();
    // The other children belong to the parent.
    state.children.drain(..).for_each(std::mem::forget);
    held.expect("a child is made of a buffer")
}

fn access(buffer: &Buffer, pages: usize, what: u32, page: usize, tag: u64) -> Result<()> {
    let at = (page * page_size()) as u64;
    let mapping = buffer.map_window(&Window::of(page_size()).at(at))?;
    buffer.sync(what.into())?;
    let mut seen = vec![0; page_size()];
    if what == WRITE {
        mapping.write(0, &bytes(page, 1, tag));
    } else {
        mapping.read(0, &mut seen);
    }
    buffer.sync((what | END).into())?;
    if what == WRITE {
        return Ok(());
    }
    let mut content = Content::zeroed(pages);
    content.fill(page, 1, tag);
    content.expect("a child", page, &seen)
}
