// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap buffers`

use super::Buffers;
use super::follow;
use super::output::{Output, to_json};
use super::table::{Cell, Options, Table};
use anyhow::Result;
use dmaheap::{Debugfs, Held, Holder, Holders, System, Total, Totals};
use serde_json::json;

pub fn run(system: &System, output: &Output, buffers: &Buffers) -> Result<()> {
    if let Some(interval) = buffers.follow {
        return follow::run(system, output, buffers, interval);
    }
    let holders = system.holders(buffers.pid)?;
    let options = &buffers.table;
    if buffers.totals {
        let totals = holders.totals();
        output.print(
            || json!({ "totals": to_json(&totals) }),
            || totals_table(&totals, options).select(options),
        )?;
    } else {
        output.print(
            || to_json(&holders),
            || table(&holders, options).select(options),
        )?;
    }
    note_hidden(&holders, output);
    Ok(())
}

/// Tells a person what is not seen.
pub fn note_hidden(holders: &Holders, output: &Output) {
    match holders.debugfs {
        Debugfs::Read => (),
        Debugfs::Denied => {
            output.note("only root may read debugfs, which knows the attached devices");
        }
        Debugfs::NotMounted => output.note(
            "debugfs is not mounted, which knows the attached devices: try `mount -t debugfs \
             debugfs /sys/kernel/debug` as root",
        ),
    }
    if holders.hidden_processes > 0 {
        let hidden = holders.hidden_processes;
        output.note(&format!(
            "{hidden} processes are not yours: as root you see what they hold"
        ));
    }
}

fn table(holders: &Holders, options: &Options) -> Table {
    const HEADINGS: [&str; 8] = [
        "INODE",
        "SIZE",
        "EXPORTER",
        "NAME",
        "COHERENT",
        "REFERENCES",
        "ATTACHED",
        "HELD-BY",
    ];
    let mut table = Table::new(&HEADINGS, &[]);
    for buffer in &holders.buffers {
        table.row(cells(buffer, options));
    }
    table
}

fn totals_table(totals: &Totals, options: &Options) -> Table {
    let mut table = Table::new(&["OF", "NAME", "BUFFERS", "BYTES", "SHARE"], &[]);
    let mut row = |of: &str, name: Cell, total: &Total| {
        table.row([
            Cell::text(of),
            name,
            Cell::number(Some(total.buffers)),
            Cell::number(Some(options.size(total.bytes))),
            Cell::number(Some(options.size(total.share))),
        ]);
    };
    for total in &totals.exporters {
        row("exporter", Cell::known(total.name.as_ref()), total);
    }
    for total in &totals.processes {
        let (name, pid) = (total.name.as_deref(), total.pid.unwrap_or_default());
        let name = Cell::text(process(name.unwrap_or_default(), pid));
        row("process", name, total);
    }
    row("kernel", Cell::text(""), &totals.kernel);
    table
}

/// `cam[123]`
fn process(command: &str, pid: u32) -> String {
    format!("{command}[{pid}]")
}

fn cells(buffer: &Held, options: &Options) -> [Cell; 8] {
    let held_by: Vec<_> = buffer.holders.iter().map(show).collect();
    [
        Cell::number(Some(buffer.inode)),
        Cell::number(buffer.size.map(|size| options.size(size))),
        Cell::known(buffer.exporter.as_ref()),
        Cell::text(buffer.name.as_deref().unwrap_or_default()),
        Cell::known(
            buffer
                .dma_coherent
                .map(|coherent| if coherent { "yes" } else { "no" }),
        ),
        Cell::number(buffer.references),
        Cell::known(buffer.attached.as_ref().map(|devices| devices.join(" "))),
        Cell::text(held_by.join(", ")),
    ]
}

/// `cam[123] fd 5 6 mapped 2 times`
pub fn show(holder: &Holder) -> String {
    let mut text = process(&holder.command, holder.pid);
    if !holder.descriptors.is_empty() {
        text += " fd";
    }
    for descriptor in &holder.descriptors {
        text += &format!(" {descriptor}");
    }
    match holder.mappings {
        0 => (),
        1 => text += " mapped",
        times => text += &format!(" mapped {times} times"),
    }
    text
}
