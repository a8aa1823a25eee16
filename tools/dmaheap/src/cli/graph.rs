// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap graph`: devices on the one side, heaps on the other.

use super::drawing::Graph;
use super::output::{Output, to_json};
use super::{dot, svg};
use anyhow::Result;
use clap::ValueEnum;
use dmaheap::System;
use serde_json::json;

/// What to draw it in.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Format {
    /// For browsers
    #[default]
    Svg,
    /// For Graphviz
    Dot,
}

pub fn run(system: &System, output: &Output, format: Format) -> Result<()> {
    let (heaps, devices) = (super::heaps(system)?, system.devices()?);
    if output.is_json() {
        return output.value(json!({ "heaps": to_json(&heaps), "devices": to_json(&devices) }));
    }
    let graph = Graph::new(heaps, devices);
    output.line(&match format {
        Format::Svg => svg::draw(&graph),
        Format::Dot => dot::draw(&graph),
    })
}
