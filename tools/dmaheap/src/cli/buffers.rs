// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap buffers`

use super::output::{Output, to_json};
use super::table::{Cell, Options, Table};
use anyhow::Result;
use dmaheap::{Debugfs, Held, Holder, Holders, System};

pub fn run(system: &System, output: &Output, pid: Option<u32>, options: &Options) -> Result<()> {
    let holders = system.holders(pid)?;
    output.print(
        || to_json(&holders),
        || table(&holders, options).select(options),
    )?;
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
    Ok(())
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
fn show(holder: &Holder) -> String {
    let mut text = format!("{}[{}]", holder.command, holder.pid);
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
