// SPDX-License-Identifier: GPL-2.0

//! The outcomes of actions, and how often each came.

use super::action::{self, Kind};
use super::video::{can_capture, can_convert};
use crate::drm_node::Card;
use crate::expect::name;
use crate::ktap::Report;
use crate::links;
use crate::timeline::Timeline;
use anyhow::{Result, ensure};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// The outcome of an action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Done,
    /// The kernel refused it.
    Refused(Errno),
    /// There was nothing to do the action with.
    Idle,
}

/// The errors that may refuse an action. The actions themselves know more, and check that.
fn may_be_refused(kind: Kind, errno: Errno) -> bool {
    let errors: &[Errno] = match kind {
        // The limit of the heap, its region, or memory.
        Kind::Allocate | Kind::Again => &[Errno::NOMEM],
        Kind::Attach => &[Errno::OPNOTSUPP],
        // The attachment is mapped.
        Kind::Detach => &[Errno::BUSY],
        // A device without a DMA mask.
        Kind::DeviceMap => &[Errno::OPNOTSUPP],
        // The mapping's direction does not allow it.
        Kind::DeviceRead | Kind::DeviceWrite => &[Errno::ACCESS],
        // The device is gone, or it is a virtio GPU, which attaches but never completes an import.
        Kind::Prime => &[Errno::OPNOTSUPP, Errno::NODEV],
        Kind::Export | Kind::CloseHandle => &[Errno::NODEV],
        Kind::Converter | Kind::Stream | Kind::Unqueue => &[Errno::NODEV],
        // The camera is gone, somebody else uses it, or memory is not in one piece.
        Kind::Camera => &[Errno::NODEV, Errno::BUSY, Errno::FAULT],
        // No direction, a part outside of the buffer, or a part of another exporter's buffer.
        Kind::Bracket => &[Errno::INVAL, Errno::OPNOTSUPP],
        // No direction.
        Kind::Fence => &[Errno::INVAL],
        _ => &[],
    };
    errors.contains(&errno)
}

impl Outcome {
    /// Fails unless an action of this kind may end so.
    pub fn expect_allowed(self, kind: Kind) -> Result<()> {
        if let Self::Refused(errno) = self {
            let errno_name = name(errno);
            ensure!(
                may_be_refused(kind, errno),
                "{kind:?} must not be refused with {errno_name}"
            );
        }
        Ok(())
    }
}

/// How often each action had each outcome.
#[derive(Default, Deserialize, Serialize)]
pub struct Tally(BTreeMap<String, BTreeMap<String, u64>>);

impl Tally {
    pub fn add(&mut self, what: impl Debug, outcome: Outcome) {
        let how = match outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Idle => "idle".to_owned(),
            Outcome::Refused(errno) => name(errno),
        };
        self.count(format!("{what:?}"), how, 1);
    }

    fn count(&mut self, what: String, how: String, more: u64) {
        *self.0.entry(what).or_default().entry(how).or_default() += more;
    }

    pub fn merge(&mut self, other: Self) {
        for (what, outcomes) in other.0 {
            for (how, more) in outcomes {
                self.count(what.clone(), how, more);
            }
        }
    }

    pub fn show(&self, report: &Report) {
        for (what, outcomes) in &self.0 {
            let outcomes = outcomes.iter().map(|(how, count)| format!("{how} {count}"));
            let outcomes = outcomes.collect::<Vec<_>>().join(", ");
            report.diagnose(&format!("{what:12} {outcomes}"));
        }
    }

    /// Fails if an action that is possible on this machine has never succeeded.
    pub fn expect_all(&self) -> Result<()> {
        let can = |kind: &Kind| match kind {
            Kind::Pending => Timeline::open().is_ok(),
            Kind::Links => links::devices().is_ok_and(|devices| !devices.is_empty()),
            Kind::Card | Kind::Prime | Kind::Export | Kind::CloseHandle => {
                Card::names().is_ok_and(|names| !names.is_empty())
            }
            Kind::Camera => can_capture(),
            Kind::Converter => can_convert(),
            Kind::Stream | Kind::Unqueue => can_capture() || can_convert(),
            _ => true,
        };
        let done = |kind: &Kind| {
            let outcomes = self.0.get(&format!("{kind:?}"));
            outcomes.is_some_and(|outcomes| outcomes.contains_key("done"))
        };
        let never: Vec<_> = action::kinds()
            .filter(|kind| can(kind) && !done(kind))
            .collect();
        ensure!(
            never.is_empty(),
            "in all these rounds {never:?} never succeeded"
        );
        Ok(())
    }
}
