// SPDX-License-Identifier: GPL-2.0

//! The rules, which an administrator sets by the module parameter `links`.

use crate::{
    kernel::device::HasDriver,
    policy::{
        Pieces,
        Rule,
        Rules, //
    }, //
};
use kernel::prelude::*;

/// The text of the rules. Its grammar has been checked.
pub(super) struct RuleText(KVec<u8>);

impl RuleText {
    /// No rules.
    pub(super) fn none() -> Self {
        Self(KVec::new())
    }

    /// Keeps the text of rules.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for it.
    pub(super) fn new(rules: &Rules<'_>) -> Result<Self> {
        let mut copy = KVec::new();

        copy.extend_from_slice(rules.text().as_bytes(), GFP_KERNEL)?;
        Ok(Self(copy))
    }

    /// The rule for the driver that `dev` is bound to.
    pub(super) fn rule_for(&self, dev: HasDriver<'_>) -> Option<Rule<'_>> {
        let text = core::str::from_utf8(&self.0).ok()?;

        Rules::checked(text).for_driver(dev.driver_name().to_str().ok()?)
    }

    /// In how many pieces `dev` takes a buffer, if a rule says so.
    pub(super) fn pieces_for(&self, dev: HasDriver<'_>) -> Option<Pieces> {
        self.rule_for(dev)?.pieces
    }
}

pub(super) fn parse(text: &str) -> Result<Rules<'_>> {
    Rules::parse(text).map_err(|mistake| {
        pr_err!("links: {}\n", format_args!("{mistake}"));
        EINVAL
    })
}
