// SPDX-License-Identifier: MIT OR GPL-2.0

//! Who holds which dma-bufs: what `/proc` tells of each process, and debugfs of the kernel.

use crate::bufinfo;
pub use crate::bufinfo::Debugfs;
use crate::error::{Error, Result};
use crate::heap::Heap;
use crate::query::query;
use crate::system::{System, attribute, base_name, entries, if_there};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
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
    /// Whether every device that is attached snoops the CPU caches.
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
            if buffer.dma_coherent.is_none() {
                buffer.dma_coherent = if_there(ask(pid, fd))?.flatten();
            }
            buffer.holder(pid, &directory)?.descriptors.push(fd);
        }
        let maps = attribute(&directory.join("maps"))?.unwrap_or_default();
        for inode in maps.lines().filter_map(mapped_inode) {
            self.buffer(inode).holder(pid, &directory)?.mappings += 1;
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
    fn add_fdinfo(&mut self, text: &str) {
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

    /// Where nobody could be asked about the buffer, its heap tells, if it is one of the module's.
    fn add_coherency(&mut self, heaps: &[Heap]) {
        let of_heap = |heap: &&Heap| Some(&heap.name) == self.exporter.as_ref();
        if self.dma_coherent.is_none() {
            self.dma_coherent = heaps
                .iter()
                .find(of_heap)
                .and_then(|heap| heap.dma_coherent);
        }
    }

    fn holder(&mut self, pid: u32, directory: &Path) -> Result<&mut Holder> {
        let known = self.holders.iter().position(|holder| holder.pid == pid);
        let index = match known {
            Some(index) => index,
            None => {
                self.holders.push(Holder {
                    pid,
                    command: attribute(&directory.join("comm"))?.unwrap_or_default(),
                    ..Holder::default()
                });
                self.holders.len() - 1
            }
        };
        Ok(&mut self.holders[index])
    }
}

/// Asks the module about a buffer of another process, which takes the right to trace it.
fn ask(pid: u32, fd: u32) -> Result<Option<bool>> {
    let asking = || Error::io("asking about another process's dma-buf");
    let pid = pid.try_into().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(Errno::SRCH).map_err(asking())?;
    let fd = fd.try_into().map_err(|_| Errno::BADF).map_err(asking())?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(asking())?;
    let buffer: OwnedFd = pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).map_err(asking())?;
    Ok(query(buffer)?.dma_coherent)
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
    use super::{Held, mapped_inode};

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
