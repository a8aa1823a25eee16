// SPDX-License-Identifier: GPL-2.0

//! The rules that an administrator sets by the module parameter `links`.

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
    /// Creates a text without rules.
    pub(super) fn none() -> Self {
        Self(KVec::new())
    }

    /// Copies the text of `rules`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is not enough memory.
    pub(super) fn new(rules: &Rules<'_>) -> Result<Self> {
        let mut copy = KVec::new();

        copy.extend_from_slice(rules.text().as_bytes(), GFP_KERNEL)?;
        Ok(Self(copy))
    }

    /// Returns the rule for the driver that `dev` is bound to, if there is one.
    pub(super) fn rule_for(&self, dev: HasDriver<'_>) -> Option<Rule<'_>> {
        let text = core::str::from_utf8(&self.0).ok()?;

        Rules::checked(text).for_driver(dev.driver_name().to_str().ok()?)
    }

    /// Returns in how many pieces `dev` accepts a buffer, if a rule says so.
    pub(super) fn pieces_for(&self, dev: HasDriver<'_>) -> Option<Pieces> {
        self.rule_for(dev)?.pieces
    }
}

/// Checks the grammar of `text`. Logs a mistake.
///
/// # Errors
///
/// [`EINVAL`] if there is a mistake.
pub(super) fn parse(text: &str) -> Result<Rules<'_>> {
    Rules::parse(text).map_err(|mistake| {
        pr_err!("links: {}\n", format_args!("{mistake}"));
        EINVAL
    })
}
