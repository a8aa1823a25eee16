// SPDX-License-Identifier: GPL-2.0

//! What a benchmark has measured, and how a person reads it.

pub mod goals;
pub mod results;
pub mod table;
