// SPDX-License-Identifier: MIT OR GPL-2.0

//! The kernel's list of all dma-bufs and the devices attached to each, in debugfs.

use crate::error::{Error, Result};
use crate::system::{System, if_there};
use std::fs;
use std::io::ErrorKind;

/// Whether debugfs can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
pub enum Debugfs {
    /// It has been read.
    Read,
    /// It is not mounted, or the kernel has no list.
    NotMounted,
    /// Only root may read it.
    Denied,
}

/// A dma-buf as the kernel lists it.
#[derive(Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) size: u64,
    pub(crate) references: u64,
    pub(crate) exporter: String,
    pub(crate) inode: u64,
    pub(crate) name: Option<String>,
    /// The names of the attached devices, one for each attachment.
    pub(crate) attached: Vec<String>,
}

/// All dma-bufs, if the caller may see that.
pub(crate) fn list(system: &System) -> Result<(Vec<Listed>, Debugfs)> {
    let path = system.sys("kernel/debug/dma_buf/bufinfo");
    let read = fs::read(&path);
    let denied = matches!(&read, Err(error) if error.kind() == ErrorKind::PermissionDenied);
    Ok(match if_there(read.map_err(Error::file(&path)))? {
        Some(text) => (parse(&String::from_utf8_lossy(&text)), Debugfs::Read),
        None if denied => (Vec::new(), Debugfs::Denied),
        None => (Vec::new(), Debugfs::NotMounted),
    })
}

/// A buffer's name has anything in it, also ends of lines. It is too short for all of another
/// buffer's line, and stands before the devices, so that the last list of them is the real one.
fn parse(text: &str) -> Vec<Listed> {
    let mut buffers: Vec<Listed> = Vec::new();
    let mut in_devices = false;
    for line in text.lines() {
        if let Some(buffer) = parse_buffer(line) {
            buffers.push(buffer);
            in_devices = false;
        } else if line == "\tAttached Devices:" {
            in_devices = true;
            if let Some(buffer) = buffers.last_mut() {
                buffer.attached.clear();
            }
        } else if let (true, Some(device), Some(buffer)) =
            (in_devices, line.strip_prefix('\t'), buffers.last_mut())
        {
            buffer.attached.push(device.to_owned());
        } else {
            in_devices = false;
        }
    }
    buffers
}

/// A line with the columns size, flags, mode, count, exp_name, ino and name. The numbers have eight
/// digits or more.
fn parse_buffer(line: &str) -> Option<Listed> {
    let fields: Vec<&str> = line.splitn(7, '\t').collect();
    let [size, flags, mode, references, exporter, inode, name] = fields[..] else {
        return None;
    };
    let numbers = [size, flags, mode, references, inode];
    if numbers.iter().any(|number| number.len() < 8) {
        return None;
    }
    Some(Listed {
        size: size.parse().ok()?,
        references: references.parse().ok()?,
        exporter: exporter.into(),
        inode: inode.parse().ok()?,
        name: (name != "<none>").then(|| name.into()),
        attached: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_and_their_devices_are_read() {
        let text = "\nDma-buf Objects:\n\
            size    \tflags   \tmode    \tcount   \texp_name\tino     \tname\n\
            00065536\t00080002\t00080007\t00000002\tsystem-coherent\t00000017\t<none>\n\
            \twrite fence:driver x timeline y seq 1 signalled\n\
            \tAttached Devices:\n\tvgem\n\t0000:00:02.0\nTotal 2 devices attached\n\n\
            00004096\t00000002\t00080007\t00000001\tsystem\t00000018\tframe\n\
            \tAttached Devices:\nTotal 0 devices attached\n\n\
            \nTotal 2 objects, 69632 bytes\n";
        let [coherent, system] = &parse(text)[..] else {
            panic!("expected two buffers");
        };
        assert_eq!(
            (coherent.size, coherent.inode, coherent.references),
            (65536, 17, 2)
        );
        assert_eq!(coherent.exporter, "system-coherent");
        assert_eq!(coherent.name, None);
        assert_eq!(coherent.attached, ["vgem", "0000:00:02.0"]);
        assert_eq!(system.name.as_deref(), Some("frame"));
        assert!(system.attached.is_empty());
    }

    #[test]
    fn names_forge_neither_buffers_nor_devices() {
        let row = "00004096\t00000002\t00080007\t00000001\tsystem\t00000018";
        let tail = "\tAttached Devices:\n\tvgem\nTotal 1 devices attached\n\n";
        for (name, first_line) in [
            ("a\tb", "a\tb"),
            ("x\n1\t2\t3\t4\tsystem\t5\tforged", "x"),
            ("x\n\tAttached Devices:\n\tforged", "x"),
            ("\nTotal 0 devices attached\n\n", ""),
        ] {
            assert!(name.len() < 32);
            let text = format!("{row}\t{name}\n{tail}{row}\t<none>\n");
            let [buffer, next] = &parse(&text)[..] else {
                panic!("expected two buffers of {name:?}");
            };
            assert_eq!(buffer.name.as_deref(), Some(first_line));
            assert_eq!(buffer.attached, ["vgem"], "{name:?}");
            assert!(next.attached.is_empty());
        }
    }
}
