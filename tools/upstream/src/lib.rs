// SPDX-License-Identifier: GPL-2.0

//! Makes a patch series for Linux of `rust/kernel`, and checks it.

pub mod check;
mod examples;
mod helpers;
mod patches;
mod rust;
mod series;
mod tree;
mod uses;

/// What each file begins with; in two parts, as this is not the beginning of one.
const LICENSE: &str = concat!("// SP", "DX-License-Identifier: GPL-2.0\n");
