// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap list`

use super::output::{Output, to_json};
use super::table::{Cell, Options, Table};
use anyhow::Result;
use dmaheap::{Access, CpuMapping, Heap, System};
use serde_json::json;

pub fn run(system: &System, output: &Output, options: &Options) -> Result<()> {
    let heaps = super::heaps(system)?;
    output.print(
        || json!({ "module_loaded": system.module_is_loaded(), "heaps": to_json(&heaps) }),
        || table(&heaps, options).select(options),
    )?;
    super::note_missing_module(system, output);
    Ok(())
}

fn table(heaps: &[Heap], options: &Options) -> Table {
    const HEADINGS: [&str; 10] = [
        "HEAP",
        "DEVICES",
        "CPU-MAPPING",
        "CONTIGUOUS",
        "CAPACITY",
        "BUFFERS",
        "BYTES",
        "LIMIT",
        "REFUSED",
        "MAY-USE",
    ];
    let mut table = Table::new(&HEADINGS, &[]);
    let size = |bytes| options.size(bytes);
    for heap in heaps {
        let devices = match (heap.dma_coherent, heap.refuses_snooping) {
            (None, _) => None,
            (Some(true), _) => Some("snooping"),
            (_, Some(true)) => Some("non-snooping"),
            _ => Some("any"),
        };
        let contiguous = heap
            .contiguous
            .map(|contiguous| if contiguous { "yes" } else { "no" });
        table.row([
            Cell::text(&heap.name),
            Cell::known(devices),
            Cell::known(heap.cpu_mapping.map(CpuMapping::as_str)),
            Cell::known(contiguous),
            Cell::number(heap.capacity.map(size)),
            Cell::number(heap.buffers),
            Cell::number(heap.bytes.map(size)),
            Cell::number(Some(heap.limit.map_or_else(|| "-".into(), size))),
            Cell::number(heap.refused),
            may_use(&heap.access),
        ]);
    }
    table
}

fn may_use(access: &Access) -> Cell {
    let no = match access {
        Access::Denied { group: Some(group) } => format!("group {group}"),
        Access::Denied { group: None } => "root".into(),
        Access::Forbidden => "policy".into(),
        _ => "no node".into(),
    };
    Cell::judged(Some(access.is_allowed()), "yes", &no)
}
