// SPDX-License-Identifier: GPL-2.0

//! Tests of `rust/policy.rs`, the very file that the module is built from.
#![cfg(test)]

#[path = "../../../../rust/policy.rs"]
mod policy;

mod heaps;
mod rules;
