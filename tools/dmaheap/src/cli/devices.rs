// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap devices`

use super::output::{Output, to_json};
use super::table::{Cell, Options, Table};
use anyhow::Result;
use dmaheap::{Constraints, Device, System};
use serde_json::json;

pub fn run(system: &System, output: &Output, verbose: bool, options: &Options) -> Result<()> {
    let devices = system.devices()?;
    output.print(
        || json!({ "module_loaded": system.module_is_loaded(), "devices": to_json(&devices) }),
        || table(&devices, verbose).select(options),
    )?;
    if devices.is_empty() {
        output.note("there is no device with a node of the classes drm, accel or video4linux");
    }
    super::note_missing_module(system, output);
    Ok(())
}

fn table(devices: &[Device], verbose: bool) -> Table {
    const HEADINGS: [&str; 6] = ["DEVICE", "BUS", "DRIVER", "SNOOPS", "REACHES", "PIECES"];
    let mut table = Table::new(&HEADINGS, &["nodes", "heaps"]);
    table.shorten = !verbose;
    for device in devices {
        let constraints = device.constraints.as_ref();
        table.row([
            Cell::text(&device.name),
            Cell::text(device.bus.as_deref().unwrap_or_default()),
            Cell::text(device.driver.as_deref().unwrap_or_default()),
            Cell::judged(device.snooping.snoops, "yes", "no"),
            Cell::known(constraints.map(reaches)),
            Cell::known(constraints.map(|constraints| constraints.pieces.as_str())),
        ]);
        let nodes = device.nodes.iter().map(|node| node.display().to_string());
        table.list("nodes", nodes.collect());
        table.list(
            "heaps",
            match device.order.as_deref() {
                None => vec!["?".into()],
                Some([]) => vec!["none suits it".into()],
                Some(heaps) => heaps.to_vec(),
            },
        );
    }
    table
}

/// What memory its DMA reaches.
fn reaches(constraints: &Constraints) -> String {
    match constraints {
        Constraints { iommu: true, .. } => "IOMMU".into(),
        Constraints {
            address_bits: 0, ..
        } => "none".into(),
        Constraints { address_bits, .. } => format!("{address_bits} bits"),
    }
}
