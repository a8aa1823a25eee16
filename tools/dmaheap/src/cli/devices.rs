// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap devices`

use super::output::{Output, to_json};
use super::table::{Cell, Table};
use anyhow::Result;
use dmaheap::{Device, System};
use serde_json::json;

pub fn run(system: &System, output: &Output) -> Result<()> {
    let devices = system.devices()?;
    output.print(
        || json!({ "module_loaded": system.module_is_loaded(), "devices": to_json(&devices) }),
        || table(&devices),
    )?;
    if devices.is_empty() {
        output.note("there is no device with a node of the classes drm, accel or video4linux");
    }
    super::note_missing_module(system, output);
    Ok(())
}

fn table(devices: &[Device]) -> Table {
    let mut table = Table::new(&[
        "DEVICE",
        "BUS",
        "DRIVER",
        "NODES",
        "SNOOPS",
        "HEAPS, BEST FIRST",
    ]);
    for device in devices {
        table.row([
            Cell::text(&device.name),
            Cell::text(device.bus.as_deref().unwrap_or_default()),
            Cell::text(device.driver.as_deref().unwrap_or_default()),
            Cell::text(nodes(device)),
            Cell::judged(device.snooping.snoops, "yes", "no"),
            Cell::known(device.order.as_ref().map(|order| order.join(" "))),
        ]);
    }
    table
}

/// The nodes; a few of them, if there are many.
fn nodes(device: &Device) -> String {
    const SHOWN: usize = 3;
    let nodes = device.nodes.iter().take(SHOWN);
    let mut shown: Vec<_> = nodes.map(|node| node.display().to_string()).collect();
    if device.nodes.len() > SHOWN {
        shown.push(format!("and {} more", device.nodes.len() - SHOWN));
    }
    shown.join(" ")
}
