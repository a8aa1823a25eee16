// SPDX-License-Identifier: GPL-2.0

//! The kernel's list of all dma-bufs and of the devices attached to each.

use anyhow::{Context as _, Result};

const PATH: &str = "/sys/kernel/debug/dma_buf/bufinfo";

/// A dma-buf as the kernel lists it.
#[derive(Debug, PartialEq)]
pub struct Listed {
    pub size: u64,
    pub exporter: String,
    pub inode: u64,
    pub name: String,
    /// The names of the attached devices, one for each attachment.
    pub devices: Vec<String>,
}

/// All dma-bufs of the system. Needs debugfs.
pub fn list() -> Result<Vec<Listed>> {
    let text = std::fs::read_to_string(PATH)
        .with_context(|| format!("reading {PATH} (is debugfs mounted?)"))?;
    parse(&text)
}

/// The devices attached to the dma-buf with this inode number.
pub fn attached(inode: u64) -> Result<Vec<String>> {
    let found = list()?.into_iter().find(|buffer| buffer.inode == inode);
    Ok(found.map(|buffer| buffer.devices).unwrap_or_default())
}

fn parse(text: &str) -> Result<Vec<Listed>> {
    let mut buffers = Vec::new();
    let mut in_devices = false;
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        if let [size, _flags, _mode, _count, exporter, inode, name] = fields[..] {
            in_devices = false;
            if let Ok(size) = size.parse() {
                buffers.push(Listed {
                    size,
                    exporter: exporter.into(),
                    inode: inode
                        .parse()
                        .with_context(|| format!("inode in `{line}`"))?,
                    name: name.into(),
                    devices: Vec::new(),
                });
            }
        } else if line == "\tAttached Devices:" {
            in_devices = true;
        } else if let (true, Some(device), Some(buffer)) =
            (in_devices, line.strip_prefix('\t'), buffers.last_mut())
        {
            buffer.devices.push(device.to_owned());
        } else {
            in_devices = false;
        }
    }
    Ok(buffers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_and_their_devices_are_read() {
        let text = "\nDma-buf Objects:\n\
            size    \tflags   \tmode    \tcount   \texp_name\tino     \tname\n\
            00065536\t00080002\t00080007\t00000002\tsystem-coherent\t00000017\t<none>\n\
            \tAttached Devices:\n\tvgem\n\t0000:00:02.0\nTotal 2 devices attached\n\n\
            00004096\t00000002\t00080007\t00000001\tsystem\t00000018\tframe\n\
            \tAttached Devices:\nTotal 0 devices attached\n\n\
            \nTotal 2 objects, 69632 bytes\n";
        let expected = vec![
            Listed {
                size: 65536,
                exporter: "system-coherent".into(),
                inode: 17,
                name: "<none>".into(),
                devices: vec!["vgem".into(), "0000:00:02.0".into()],
            },
            Listed {
                size: 4096,
                exporter: "system".into(),
                inode: 18,
                name: "frame".into(),
                devices: vec![],
            },
        ];
        assert_eq!(parse(text).unwrap(), expected);
    }
}
