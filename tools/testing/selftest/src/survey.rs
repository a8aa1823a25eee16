// SPDX-License-Identifier: GPL-2.0

//! A machine-readable survey of the devices that import, and of their results.

use crate::device::Snooping;
use crate::expect::outcome;
use crate::importer::observe;
use crate::importers;
use crate::options::Options;
use anyhow::{Context as _, Result};
use serde::Serialize;

/// What was observed of one importer.
#[derive(Serialize)]
struct Finding {
    device: String,
    node: String,
    bus: String,
    driver: String,
    /// The call that imports.
    call: &'static str,
    /// Whether the device snoops, if known.
    snoops: Option<bool>,
    /// How that is known.
    evidence: String,
    /// Whether the device was attached, even for a short while.
    attached: bool,
    /// Whether the device attaches to buffers of a heap that refuses no device.
    attaches: bool,
    /// How the call ended.
    result: String,
}

pub fn run(options: &Options) -> Result<()> {
    let heap = options.heap()?;
    let control = options.control()?;
    for importer in importers::all()? {
        let seen = observe(&*importer, &heap).with_context(|| importer.describe())?;
        let compared = observe(&*importer, &control).with_context(|| importer.describe())?;
        let device = importer.device();
        let (snoops, evidence) = match (seen.verdict, device.snooping()) {
            (Some(verdict), _) => (Some(verdict.snoops), "the heap's trace event".into()),
            (None, Snooping::Yes(why)) => (Some(true), why),
            (None, Snooping::No(why)) => (Some(false), why),
            (None, Snooping::Unknown(why)) => (None, why),
        };
        let finding = Finding {
            device: device.name(),
            node: importer.node().display().to_string(),
            bus: device.bus.clone(),
            driver: device.driver.clone(),
            call: importer.call(),
            snoops,
            evidence,
            attached: !seen.attached.is_empty(),
            attaches: !compared.attached.is_empty(),
            result: outcome(&seen.result),
        };
        println!("{}", serde_json::to_string(&finding)?);
    }
    Ok(())
}
