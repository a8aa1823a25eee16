// SPDX-License-Identifier: MIT OR GPL-2.0

//! Who holds which dma-bufs: what `/proc` tells of each process, and debugfs of the kernel.

use crate::bufinfo;
pub use crate::bufinfo::Debugfs;
use crate::error::{Error, Result};
use crate::heap::Heap;
use crate::system::{System, attribute, base_name, entries, if_there};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holders {
    /// The buffers, by inode number.
    pub buffers: Vec<Held>,
    /// How many processes the caller may not look into.
    pub hidden_processes: usize,
    /// Whether debugfs told of attached devices, and of buffers that no process holds.
    pub debugfs: Debugfs,
}

/// A dma-buf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Held {
    /// The number that tells it apart from all others.
    pub inode: u64,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The exporter's name: of a buffer from a heap, the heap's.
    pub exporter: Option<String>,
    /// The name that a program gave it.
    pub name: Option<String>,
    /// Whether every device that is attached snoops the CPU caches, as its heap says.
    pub dma_coherent: Option<bool>,
    /// How many references there are.
    pub references: Option<u64>,
    /// The devices that are attached, one for each attachment.
    pub attached: Option<Vec<String>>,
    /// The processes that hold it.
    pub holders: Vec<Holder>,
}

/// A process that holds a buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// The descriptors that it has of the buffer.
    pub descriptors: Vec<u32>,
    /// How often it has mapped the buffer, or a part of it.
    pub mappings: usize,
}

/// How much memory buffers have, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Totals {
    /// By exporter, which for a buffer from a heap is the heap; the largest first.
    pub exporters: Vec<Total>,
    /// By process; the largest share first.
    pub processes: Vec<Total>,
    /// Of buffers that no process holds, as far as the caller may see: only the kernel does, for a
    /// device that still uses them.
    pub kernel: Total,
}

/// Of some buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Total {
    /// Whose they are; `None` if nobody says, or if nobody holds them.
    pub name: Option<String>,
    /// The number of the process, if it is one.
    pub pid: Option<u32>,
    /// How many there are.
    pub buffers: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// The same, but each buffer that several processes hold counts for its part only.
    pub share: u64,
}

impl Total {
    fn add(&mut self, buffer: &Held, holders: usize) {
        let size = buffer.size.unwrap_or_default();
        self.buffers += 1;
        self.bytes += size;
        self.share += size / holders.max(1) as u64;
    }
}

impl Holders {
    /// Adds it up.
    pub fn totals(&self) -> Totals {
        let mut exporters = BTreeMap::new();
        let mut processes = BTreeMap::new();
        let mut kernel = Total::default();
        for buffer in &self.buffers {
            let exporter: &mut Total = exporters.entry(&buffer.exporter).or_default();
            exporter.add(buffer, 1);
            for holder in &buffer.holders {
                let process: &mut Total = processes.entry(holder.pid).or_default();
                process.name = Some(holder.command.clone());
                process.add(buffer, buffer.holders.len());
            }
            if buffer.holders.is_empty() {
                kernel.add(buffer, 1);
            }
        }
        let exporters = exporters.into_iter().map(|(name, total)| Total {
            name: name.clone(),
            ..total
        });
        let processes = processes.into_iter().map(|(pid, total)| Total {
            pid: Some(pid),
            ..total
        });
        Totals {
            exporters: largest_first(exporters),
            processes: largest_first(processes),
            kernel,
        }
    }
}

fn largest_first(totals: impl Iterator<Item = Total>) -> Vec<Total> {
    let mut totals: Vec<_> = totals.collect();
    totals.sort_by_key(|total| Reverse(total.share));
    totals
}

/// See [`System::holders`].
pub(crate) fn look(system: &System, pid: Option<u32>) -> Result<Holders> {
    let mut search = Search {
        system,
        found: BTreeMap::new(),
    };
    let mut hidden_processes = 0;
    let pids = match pid {
        Some(pid) => vec![pid],
        None => processes(system)?,
    };
    for pid in pids {
        if !search.process(pid)? {
            hidden_processes += 1;
        }
    }
    if let Some(pid) = pid {
        if !system.proc(pid.to_string()).exists() {
            return Err(Error::NoSuchProcess(pid));
        }
        if hidden_processes > 0 {
            return Err(Error::io(format!(
                "looking into process {pid}, which is not yours: try as root"
            ))(Errno::ACCESS));
        }
    }
    let debugfs = search.add_listed(pid.is_none())?;
    let mut buffers: Vec<_> = search.found.into_values().collect();
    let heaps = system.heaps()?;
    for buffer in &mut buffers {
        buffer.add_coherency(&heaps);
    }
    Ok(Holders {
        buffers,
        hidden_processes,
        debugfs,
    })
}

fn processes(system: &System) -> Result<Vec<u32>> {
    let mut pids: Vec<u32> = entries(&system.proc(""))?
        .iter()
        .filter_map(|path| base_name(path).parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// A process that is looked into.
struct Process<'a> {
    pid: u32,
    directory: &'a Path,
    command: OnceCell<String>,
}

impl Process<'_> {
    /// Its name, which is read once and not for each buffer.
    fn command(&self) -> Result<&str> {
        if let Some(command) = self.command.get() {
            return Ok(command);
        }
        let command = attribute(&self.directory.join("comm"))?.unwrap_or_default();
        Ok(self.command.get_or_init(|| command))
    }
}

struct Search<'a> {
    system: &'a System,
    found: BTreeMap<u64, Held>,
}

impl Search<'_> {
    /// Looks into a process; says whether that is allowed. It may end meanwhile: that is as if it
    /// held nothing more.
    fn process(&mut self, pid: u32) -> Result<bool> {
        let directory = self.system.proc(pid.to_string());
        let descriptors = directory.join("fd");
        let descriptors = match fs::read_dir(&descriptors) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            entries => if_there(entries.map_err(Error::file(&descriptors)))?,
        };
        let Some(descriptors) = descriptors else {
            return Ok(false);
        };
        let process = Process {
            pid,
            directory: &directory,
            command: OnceCell::new(),
        };
        for entry in descriptors.flatten() {
            let link = entry.path();
            let (Some(target), Ok(metadata)) = (fs::read_link(&link).ok(), fs::metadata(&link))
            else {
                continue;
            };
            if !is_dma_buf(&target.to_string_lossy()) {
                continue;
            }
            let Ok(fd) = base_name(&link).parse::<u32>() else {
                continue;
            };
            let buffer = self.buffer(metadata.ino());
            let fdinfo = attribute(&directory.join("fdinfo").join(fd.to_string()))?;
            buffer.add_fdinfo(&fdinfo.unwrap_or_default());
            buffer.holder(&process)?.descriptors.push(fd);
        }
        let maps = attribute(&directory.join("maps"))?.unwrap_or_default();
        for inode in maps.lines().filter_map(mapped_inode) {
            self.buffer(inode).holder(&process)?.mappings += 1;
        }
        Ok(true)
    }

    fn buffer(&mut self, inode: u64) -> &mut Held {
        self.found.entry(inode).or_insert_with(|| Held {
            inode,
            ..Held::default()
        })
    }

    /// Adds what debugfs knows, of `all` buffers or of those that are known.
    fn add_listed(&mut self, all: bool) -> Result<Debugfs> {
        let (listed, debugfs) = bufinfo::list(self.system)?;
        for listed in listed {
            if all || self.found.contains_key(&listed.inode) {
                let buffer = self.buffer(listed.inode);
                buffer.size = Some(listed.size);
                buffer.exporter = Some(listed.exporter);
                // This is its first line, and fdinfo has all of it.
                buffer.name = buffer.name.take().or(listed.name);
                buffer.references = Some(listed.references);
                buffer.attached = Some(listed.attached);
            }
        }
        Ok(debugfs)
    }
}

impl Held {
    /// The name stands last, and has anything in it, such as what looks like another line.
    pub(crate) fn add_fdinfo(&mut self, text: &str) {
        let (fields, name) = match text.split_once("\nname:\t") {
            Some((fields, name)) => (fields, Some(name.to_owned())),
            None => (text, None),
        };
        self.name = name;
        for (key, value) in fields.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match key {
                "size" => self.size = value.parse().ok(),
                "count" => self.references = value.parse().ok(),
                "exp_name" => self.exporter = Some(value.into()),
                _ => (),
            }
        }
    }

    /// What its heap tells, if it is from one.
    fn add_coherency(&mut self, heaps: &[Heap]) {
        let of_heap = |heap: &&Heap| Some(&heap.name) == self.exporter.as_ref();
        let heap = heaps.iter().find(of_heap);
        self.dma_coherent = heap.and_then(|heap| heap.dma_coherent);
    }

    fn holder(&mut self, process: &Process<'_>) -> Result<&mut Holder> {
        let pid = process.pid;
        let known = self.holders.iter().position(|holder| holder.pid == pid);
        let index = match known {
            Some(index) => index,
            None => {
                self.holders.push(Holder {
                    pid,
                    command: process.command()?.to_owned(),
                    ..Holder::default()
                });
                self.holders.len() - 1
            }
        };
        Ok(&mut self.holders[index])
    }
}

/// What the kernel calls a dma-buf in `/proc`: this, and its name behind it.
fn is_dma_buf(path: &str) -> bool {
    path.starts_with("/dmabuf:")
}

/// The inode number in a line of `maps`, if it is a dma-buf's.
fn mapped_inode(line: &str) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let inode = fields.nth(4)?.parse().ok()?;
    is_dma_buf(fields.next()?).then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::{Debugfs, Held, Holder, Holders, mapped_inode};

    #[test]
    fn mappings_of_dma_bufs_are_found() {
        let line = "7f00-7f10 rw-s 00000000 00:0c 1042       /dmabuf:frame";
        assert_eq!(mapped_inode(line), Some(1042));
        assert_eq!(
            mapped_inode("7f00-7f10 r--p 00000000 fe:01 77   /lib/libc.so"),
            None
        );
        assert_eq!(mapped_inode("7f00-7f10 rw-p 00000000 00:00 0"), None);
    }

    #[test]
    fn what_several_hold_is_shared_by_them() {
        let buffer = |size, pids: &[u32]| Held {
            size: Some(size),
            exporter: Some(if size > 100 { "system" } else { "other" }.into()),
            holders: pids
                .iter()
                .map(|pid| Holder {
                    pid: *pid,
                    ..Holder::default()
                })
                .collect(),
            ..Held::default()
        };
        let holders = Holders {
            buffers: vec![
                buffer(300, &[1, 2, 3]),
                buffer(400, &[2, 3]),
                buffer(50, &[]),
            ],
            hidden_processes: 0,
            debugfs: Debugfs::Read,
        };
        let totals = holders.totals();
        let plain = |totals: &[super::Total]| -> Vec<_> {
            let totals = totals.iter();
            totals
                .map(|of| (of.pid, of.buffers, of.bytes, of.share))
                .collect()
        };
        let all: u64 = holders
            .buffers
            .iter()
            .filter_map(|buffer| buffer.size)
            .sum();
        assert_eq!(
            plain(&totals.exporters),
            [(None, 2, 700, 700), (None, 1, 50, 50)]
        );
        let processes = [
            (Some(2), 2, 700, 300),
            (Some(3), 2, 700, 300),
            (Some(1), 1, 300, 100),
        ];
        assert_eq!(plain(&totals.processes), processes);
        assert_eq!(
            plain(std::slice::from_ref(&totals.kernel)),
            [(None, 1, 50, 50)]
        );
        let shares: u64 = totals.processes.iter().map(|of| of.share).sum();
        assert_eq!(shares + totals.kernel.share, all);
    }

    #[test]
    fn a_name_forges_no_other_field() {
        let mut buffer = Held::default();
        buffer.add_fdinfo("pos:\t0\nsize:\t4096\nexp_name:\tsystem\nname:\tx\nsize:\t1\nname:\ty");
        assert_eq!(buffer.size, Some(4096));
        assert_eq!(buffer.exporter.as_deref(), Some("system"));
        assert_eq!(buffer.name.as_deref(), Some("x\nsize:\t1\nname:\ty"));
        buffer.add_fdinfo("size:\t4096\ncount:\t2");
        assert_eq!((buffer.name, buffer.references), (None, Some(2)));
    }
}
