// SPDX-License-Identifier: GPL-2.0

//! Actions of DRM devices on buffers: PRIME import and export. Some devices may be removed in the
//! middle.

use super::action::{Action, Kind};
use super::devices::{expect, outcome, there};
use super::state::{CARDS, Live, State};
use super::tally::Outcome;
use crate::drm_node::Card;
use crate::importer::Importer as _;
use crate::reach::{Answer, Reach, answer, device_reach};
use anyhow::{Context as _, Result, ensure};
use rustix::fd::AsFd as _;
use rustix::io::Errno;

/// An open DRM node.
pub struct Node {
    card: Card,
    reach: Reach,
}

impl Node {
    fn open(name: &str) -> Result<Self> {
        let card = Card::open(name)?;
        let reach = device_reach(card.device())?;
        Ok(Self { card, reach })
    }

    /// Whether a call's error means that the device is gone. Only PCI devices can go. A virtio GPU
    /// returns this error for every buffer that the heap does not refuse.
    fn has_gone<T>(&self, seen: &Result<T, Errno>) -> bool {
        matches!(seen, Err(Errno::NODEV)) && self.card.device().bus == "pci"
    }
}

impl State {
    pub fn use_cards(&mut self, action: &Action) -> Result<Outcome> {
        match action.kind {
            Kind::Card => self.card(action),
            Kind::Prime => self.prime(action),
            Kind::Export => self.export(action),
            _ => self.close_handle(action),
        }
    }

    /// Closes one node, whatever it has imported, and opens another one.
    fn card(&mut self, action: &Action) -> Result<Outcome> {
        let which = action.pick % CARDS;
        self.close_card(which);
        let names = there(Card::names())?.unwrap_or_default();
        let Some(name) = names.get(action.tag as usize % names.len().max(1)) else {
            return Ok(Outcome::Idle);
        };
        self.cards[which] = there(Node::open(name))?;
        Ok(match self.cards[which] {
            Some(_) => Outcome::Done,
            None => Outcome::Idle,
        })
    }

    fn close_card(&mut self, which: usize) {
        self.cards[which] = None;
        self.take_away(|live| live.imported.retain(|(card, _)| *card != which));
    }

    /// Closes a node whose device is gone.
    fn lose_card(&mut self, which: usize) -> Result<Outcome> {
        self.close_card(which);
        Ok(Outcome::Refused(Errno::NODEV))
    }

    fn prime(&mut self, action: &Action) -> Result<Outcome> {
        let slot = self.find(action.slot, Live::is_open);
        let mut cards = (0..CARDS).map(|number| (action.tag as usize + number) % CARDS);
        let which = cards.find(|which| self.cards[*which].is_some());
        let (Some(slot), Some(which)) = (slot, which) else {
            return Ok(Outcome::Idle);
        };
        let node = node(&self.cards, which)?;
        let live = self.lives[slot].as_mut().context("it was found")?;
        let heap = &self.heaps[live.heap].0;
        let refused = (answer(heap, node.reach) == Answer::Refused).then_some(Errno::OPNOTSUPP);
        let seen = node.card.handle(live.descriptor(action.pick).as_fd());
        if node.has_gone(&seen) {
            return self.lose_card(which);
        }
        let what = format!("{} importing from {heap}", node.card.describe());
        if let Some(handle) = expect(&what, seen, refused)? {
            match live.imported.iter().find(|(card, _)| *card == which) {
                None => live.imported.push((which, handle)),
                Some((_, first)) => ensure!(
                    *first == handle,
                    "{what}: expected handle {first:?} again, got {handle:?}"
                ),
            }
        }
        Ok(outcome(refused))
    }

    /// Exports a buffer that a device has imported, even if the device is the last that holds it.
    fn export(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, |live| !live.imported.is_empty()) else {
            return Ok(Outcome::Idle);
        };
        let live = self.lives[slot].as_mut().context("it was found")?;
        let (which, handle) = live.imported[action.pick % live.imported.len()];
        let node = node(&self.cards, which)?;
        let seen = node.card.export(handle);
        if node.has_gone(&seen) {
            return self.lose_card(which);
        }
        let buffer = seen.with_context(|| format!("{} exporting", node.card.describe()))?;
        ensure!(
            buffer.inode() == live.inode,
            "{}: expected to get the same buffer back, got another",
            node.card.describe()
        );
        live.descriptors.push(buffer);
        let (page, pages) = live.range(action.page, action.pages);
        live.check(live.descriptors.len() - 1, page, pages)?;
        Ok(Outcome::Done)
    }

    fn close_handle(&mut self, action: &Action) -> Result<Outcome> {
        let Some(slot) = self.find(action.slot, |live| !live.imported.is_empty()) else {
            return Ok(Outcome::Idle);
        };
        let result = self.close_one(slot, action.pick);
        self.bury(slot);
        result
    }

    fn close_one(&mut self, slot: usize, pick: usize) -> Result<Outcome> {
        let imported = &mut self.live(slot).imported;
        let (which, handle) = imported.swap_remove(pick % imported.len());
        let node = node(&self.cards, which)?;
        let seen = node.card.close(handle);
        if node.has_gone(&seen) {
            return self.lose_card(which);
        }
        seen.with_context(|| format!("{} closing a handle", node.card.describe()))?;
        Ok(Outcome::Done)
    }

    /// Closes all handles that DRM devices have for a buffer.
    pub fn close_handles(&mut self, slot: usize) -> Result<()> {
        while self.lives[slot]
            .as_ref()
            .is_some_and(|live| !live.imported.is_empty())
        {
            self.close_one(slot, 0)?;
        }
        self.bury(slot);
        Ok(())
    }
}

/// The node that has imported a buffer.
fn node(cards: &[Option<Node>], which: usize) -> Result<&Node> {
    let node = cards[which].as_ref();
    node.context("a node that has something is open")
}
