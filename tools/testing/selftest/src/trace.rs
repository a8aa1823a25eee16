// SPDX-License-Identifier: GPL-2.0

//! The kernel's trace events. They are recorded in a separate tracefs instance, so that
//! other tracing is not disturbed.

use crate::expect::skip;
use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A device was attached to a dma-buf. There is no event if that failed.
pub const ATTACH: &str = "dma_buf/dma_buf_dynamic_attach";
/// A device was detached.
pub const DETACH: &str = "dma_buf/dma_buf_detach";
/// A new dma-buf.
pub const EXPORT: &str = "dma_buf/dma_buf_export";
/// Mapping a table of pages for a device's DMA.
pub const MAP: &str = "dma/dma_map_sg";
/// Undoing that.
pub const UNMAP: &str = "dma/dma_unmap_sg";
/// Making what a device wrote visible to the CPU.
pub const SYNC_FOR_CPU: &str = "dma/dma_sync_sg_for_cpu";
/// Making what the CPU wrote visible to a device.
pub const SYNC_FOR_DEVICE: &str = "dma/dma_sync_sg_for_device";
/// Both calls for a part of the memory.
pub const SYNC_PART_FOR_CPU: &str = "dma/dma_sync_single_for_cpu";
pub const SYNC_PART_FOR_DEVICE: &str = "dma/dma_sync_single_for_device";
/// The answer of one of our heaps to a device that tries to attach.
pub const VERDICT: &str = "dmabuf_coherency/dmabuf_coherency_attach";

/// A recorded event.
#[derive(Debug, PartialEq)]
pub struct Event {
    pub pid: u32,
    pub name: String,
    /// The text before the fields. For some events it is the device.
    pub subject: String,
    pub fields: HashMap<String, String>,
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let (task, rest) = line.split_once('[')?;
        let pid = task.trim().rsplit_once('-')?.1.parse().ok()?;
        let (_cpu_and_time, event) = rest.split_once(": ")?;
        let (name, fields) = event.split_once(": ")?;
        let (name, subject) = (name.to_owned(), fields.split(' ').next()?.to_owned());
        let fields = fields
            .split_whitespace()
            .filter_map(|field| field.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Some(Self {
            pid,
            name,
            subject,
            fields,
        })
    }

    /// Whether this is the event of that name, given as `system/name`.
    pub fn is(&self, event: &str) -> bool {
        event.rsplit('/').next() == Some(&self.name)
    }

    pub fn field(&self, key: &str) -> &str {
        self.fields.get(key).map_or("", String::as_str)
    }

    /// The numbers of an array.
    pub fn numbers(&self, key: &str) -> Vec<u64> {
        let list = self.field(key).trim_matches(['{', '}']).split(',');
        list.filter_map(|number| u64::from_str_radix(number.strip_prefix("0x")?, 16).ok())
            .collect()
    }

    pub fn concerns(&self, inode: u64) -> bool {
        self.field("ino").parse() == Ok(inode)
    }
}

/// Records events until it is dropped.
pub struct Recording {
    instance: PathBuf,
}

impl Recording {
    /// Starts recording those of `events` that the kernel has.
    pub fn start(events: &[&str]) -> Result<Self> {
        let Some(tracefs) = tracefs() else {
            return skip(
                "no tracefs: mount it at /sys/kernel/tracing, in a kernel with CONFIG_TRACING",
            );
        };
        let instance = tracefs.join(format!("instances/dmabuf_coherency.{}", std::process::id()));
        fs::create_dir(&instance).with_context(|| format!("making {}", instance.display()))?;
        let recording = Self { instance };
        recording.set("buffer_size_kb", "256")?;
        for event in events {
            let enable = format!("events/{event}/enable");
            if recording.instance.join(&enable).exists() {
                recording.set(&enable, "1")?;
            }
        }
        Ok(recording)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.instance.join(file);
        fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
    }

    /// The event of a mapping for a device, if it was recorded.
    pub fn mapped(&self, device: &str) -> Result<Event> {
        let mut events = self.events()?.into_iter();
        events
            .find(|event| event.is(MAP) && event.subject == device)
            .context("expected the event dma_map_sg, got none")
    }

    /// Everything recorded so far.
    pub fn events(&self) -> Result<Vec<Event>> {
        let path = self.instance.join("trace");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.lines().filter_map(Event::parse).collect())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.instance) {
            println!("cannot remove {}: {error}", self.instance.display());
        }
    }
}

/// The directory of tracefs. Mounts it if the kernel has a directory for it.
fn tracefs() -> Option<PathBuf> {
    let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(Path::new);
    let mounted = || places.iter().find(|place| place.join("instances").exists());
    if let Some(place) = mounted() {
        return Some(place.to_path_buf());
    }
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tracefs", places[0], "tracefs", flags, None).ok()?;
    mounted().map(|place| place.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_trace_is_read() {
        let line = "   dmabuf_coheren-72      [001] .....     3.141592: dma_buf_detach: \
            exp_name=system size=4096 ino=12 attachment:00000000f00d is_dynamic=0 dev_name=0000:00:02.0";
        let event = Event::parse(line).unwrap();
        assert!(event.is(DETACH) && !event.is(ATTACH));
        assert_eq!(event.pid, 72);
        assert!(event.concerns(12) && !event.concerns(1));
        assert_eq!(event.field("dev_name"), "0000:00:02.0");
        assert_eq!(
            Event::parse("# entries-in-buffer/entries-written: 1/1"),
            None
        );
    }
}
