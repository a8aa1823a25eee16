// SPDX-License-Identifier: GPL-2.0

//! A model of the caches of an arm64 CPU: what they may hold of each line of
//! memory, which accesses that makes wrong, and what it takes to be right.
//!
//! It knows nothing of QEMU. `plugin` tells it of accesses
//! ([`Checker::access`]) and instructions ([`Checker::execute`]), and answers what
//! it asks of the [`Machine`]. It collects [`Findings`], whose addresses
//! [`Symbols`] translates.

mod checker;
mod edu;
mod findings;
mod instruction;
mod lines;
mod symbols;
mod translation;

pub use crate::{
    checker::{Checker, Model},
    findings::{Access, Counts, Findings, Kind, Place, Report, Who},
    instruction::Instruction,
    symbols::{Finding, Symbols},
    translation::{Machine, Register},
};

/// The size of a line.
pub(crate) const LINE: u64 = 64;

/// The size of a page.
pub(crate) const PAGE: u64 = 4096;
