// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap list`

use super::output::{Output, to_json};
use super::table::{Cell, Options, Table};
use anyhow::Result;
use dmaheap::{Access, CpuMapping, Heap, System};
use serde_json::json;

pub fn run(system: &System, output: &Output, verbose: bool, options: &Options) -> Result<()> {
    let heaps = super::heaps(system)?;
    output.print(
        || json!({ "module_loaded": system.module_is_loaded(), "heaps": to_json(&heaps) }),
        || table(&heaps, verbose, options).select(options),
    )?;
    super::note_missing_module(system, output);
    Ok(())
}

fn table(heaps: &[Heap], verbose: bool, options: &Options) -> Table {
    const HEADINGS: [&str; 10] = [
        "HEAP",
        "DEVICES",
        "CPU-MAPPING",
        "PIECES",
        "MAY-USE",
        "CAPACITY",
        "BUFFERS",
        "BYTES",
        "LIMIT",
        "REFUSED",
    ];
    let mut table = Table::new(&HEADINGS, &[]);
    // As many as a terminal is wide enough for.
    table.usual_columns = if verbose { HEADINGS.len() } else { 5 };
    let size = |bytes| options.size(bytes);
    for heap in heaps {
        let devices = match (heap.dma_coherent, heap.refuses_snooping) {
            (None, _) => None,
            (Some(true), _) => Some("snooping"),
            (_, Some(true)) => Some("non-snooping"),
            _ => Some("any"),
        };
        let pieces = heap
            .contiguous
            .map(|contiguous| if contiguous { "one" } else { "any" });
        table.row([
            Cell::text(&heap.name),
            Cell::known(devices),
            Cell::known(heap.cpu_mapping.map(CpuMapping::as_str)),
            Cell::known(pieces),
            may_use(&heap.access),
            Cell::number(heap.capacity.map(size)),
            Cell::number(heap.buffers),
            Cell::number(heap.bytes.map(size)),
            Cell::number(Some(heap.limit.map_or_else(|| "-".into(), size))),
            Cell::number(heap.refused),
        ]);
    }
    table
}

fn may_use(access: &Access) -> Cell {
    let no = match access {
        Access::Denied { group } => group.as_deref().unwrap_or("root"),
        Access::Forbidden => "policy",
        _ => "no node",
    };
    Cell::judged(Some(access.is_allowed()), "yes", no)
}
