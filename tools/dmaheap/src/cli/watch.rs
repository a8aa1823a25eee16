// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap watch`

use super::output::{Output, to_json};
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use dmaheap::{Device, System, Uevents};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Devices that have links, by path.
type Linked = BTreeMap<PathBuf, Device>;

/// What became of the links of a device.
#[derive(Clone, Copy)]
enum Change {
    /// They were there when the watch began.
    Present,
    Added,
    Changed,
    Removed,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }

    fn style(self) -> Style {
        let colour = match self {
            Self::Present => return Style::new(),
            Self::Added => AnsiColor::Green,
            Self::Changed => AnsiColor::Yellow,
            Self::Removed => AnsiColor::Red,
        };
        Style::new().fg_color(Some(colour.into()))
    }
}

pub fn run(system: &System, output: &Output) -> Result<()> {
    // First listen, then look: nothing is missed.
    let events = Uevents::listen()?;
    super::note_missing_module(system, output);
    let mut known = linked(system)?;
    for device in known.values() {
        tell(output, Change::Present, device)?;
    }
    loop {
        // Whatever has happened, and if events were lost, looking tells.
        events.wait()?;
        events.drain()?;
        let now = linked(system)?;
        for (change, device) in differences(&known, &now) {
            tell(output, change, device)?;
        }
        known = now;
    }
}

fn linked(system: &System) -> Result<Linked> {
    let devices = system.devices()?.into_iter();
    let linked = devices.filter(|device| device.order.is_some());
    Ok(linked.map(|device| (device.path.clone(), device)).collect())
}

fn differences<'a>(before: &'a Linked, now: &'a Linked) -> Vec<(Change, &'a Device)> {
    let gone = before
        .iter()
        .filter(|(path, _)| !now.contains_key(*path))
        .map(|(_, device)| (Change::Removed, device));
    let there = now
        .iter()
        .filter_map(|(path, device)| match before.get(path) {
            None => Some((Change::Added, device)),
            Some(former)
                if (&former.order, former.constraints) == (&device.order, device.constraints) =>
            {
                None
            }
            Some(_) => Some((Change::Changed, device)),
        });
    gone.chain(there).collect()
}

fn tell(output: &Output, change: Change, device: &Device) -> Result<()> {
    if output.is_json() {
        return output.value(json!({ "links": change.word(), "device": to_json(device) }));
    }
    let style = change.style();
    let order = match device.order.as_deref().unwrap_or_default() {
        [] => "no heap suits it".into(),
        order => order.join(" "),
    };
    output.line(&format!(
        "{style}{:8}{style:#} {} ({}): {order}\n",
        change.word(),
        device.name,
        device.driver.as_deref().unwrap_or("no driver"),
    ))
}
