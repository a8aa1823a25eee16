// SPDX-License-Identifier: GPL-2.0

//! The device behind a node, and what is known about its coherency without asking a
//! heap.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A device that does DMA, or whose driver says so.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its directory below /sys/devices.
    path: PathBuf,
    /// The bus it is on.
    pub bus: String,
    /// The name that the driver gives to user space.
    pub driver: String,
}

/// Whether a device's DMA sees the CPU caches, and the evidence for it.
#[derive(Debug, PartialEq)]
pub enum Snooping {
    Yes(String),
    No(String),
    Unknown(String),
}

impl Device {
    /// The parent of a class device: the device behind `/sys/class/CLASS/NAME`.
    pub fn behind(class_device: &Path, driver: String) -> Result<Self> {
        let link = class_device.join("device");
        Self::at(&link, driver)
    }

    /// The device whose directory in sysfs this is.
    pub fn at(path: &Path, driver: String) -> Result<Self> {
        let path = fs::canonicalize(path).with_context(|| path.display().to_string())?;
        let bus = base_name(&fs::read_link(path.join("subsystem")).unwrap_or_default());
        Ok(Self { path, bus, driver })
    }

    /// Its directory in sysfs.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel's name for it.
    pub fn name(&self) -> String {
        base_name(&self.path)
    }

    /// Whether it snoops, according to its architecture and its firmware.
    pub fn snooping(&self) -> Snooping {
        let own = self.told("own_dma_device").is_some_and(|own| own == "Y");
        let parameters: &[_] = if own {
            &["dma_snoops"]
        } else {
            &["dma_snoops", "snoops"]
        };
        for parameter in parameters {
            match self.told(parameter).as_deref() {
                Some("1") => return Snooping::Yes(format!("by the parameter {parameter}")),
                Some("0") => return Snooping::No(format!("by the parameter {parameter}")),
                _ => (),
            }
        }
        match std::env::consts::ARCH {
            "x86_64" => Snooping::Yes("x86_64, where devices do".into()),
            "aarch64" => self.snooping_by_device_tree(Path::new("/sys/firmware/devicetree/base")),
            other => Snooping::Unknown(format!("no rule for {other} in this test")),
        }
    }

    /// The value of a parameter of the test displays' module for this device, if it is a test display.
    fn told(&self, parameter: &str) -> Option<String> {
        let name = self.name();
        let number: usize = name.strip_prefix("dmabuf_display.")?.parse().ok()?;
        let path = Path::new("/sys/module/dmabuf_display/parameters").join(parameter);
        let text = fs::read_to_string(path).ok()?;
        text.trim_end().split(',').nth(number).map(str::to_owned)
    }

    /// Whether an IOMMU translates its DMA.
    pub fn is_behind_iommu(&self) -> bool {
        let kind = fs::read_to_string(self.path.join("iommu_group/type"));
        kind.is_ok_and(|kind| kind.starts_with("DMA"))
    }

    /// How many bits its DMA mask has, if that is known. PCI devices show it in sysfs, and for some
    /// drivers it is known. Behind an IOMMU the mask does not limit what the device reaches.
    pub fn mask_bits(&self) -> Result<Option<u32>> {
        if let Ok(bits) = fs::read_to_string(self.path.join("dma_mask_bits")) {
            return Ok(Some(bits.trim().parse().context("dma_mask_bits")?));
        }
        if let Some(bits) = self.told("dma_bits") {
            return Ok(Some(bits.parse().context("dma_bits")?));
        }
        Ok(match self.driver.as_str() {
            "vivid" => Some(32),
            "vgem" | "vkms" => Some(64),
            _ => None,
        })
    }

    /// On arm64 a device snoops only if a firmware node says so. That is the device's own
    /// node, or the host bridge's for PCI. The node or one above it must have
    /// `dma-coherent`, and no nearer one may have `dma-noncoherent`.
    fn snooping_by_device_tree(&self, tree: &Path) -> Snooping {
        let Ok(tree) = fs::canonicalize(tree) else {
            return Snooping::Unknown("no device tree, and no file shows what ACPI says".into());
        };
        let ancestors = self.path.ancestors();
        let mut candidates = match self.bus.as_str() {
            "usb" => return Snooping::Unknown("USB: the host controller's driver decides".into()),
            "pci" => ancestors.take(usize::MAX),
            _ => ancestors.take(1),
        };
        let Some(node) = candidates.find_map(|path| fs::canonicalize(path.join("of_node")).ok())
        else {
            return Snooping::No("no firmware node".into());
        };
        for node in node.ancestors().take_while(|node| node.starts_with(&tree)) {
            let shown = Path::new("/").join(node.strip_prefix(&tree).unwrap_or(node));
            if node.join("dma-noncoherent").exists() {
                return Snooping::No(format!("dma-noncoherent in {}", shown.display()));
            }
            if node.join("dma-coherent").exists() {
                return Snooping::Yes(format!("dma-coherent in {}", shown.display()));
            }
        }
        Snooping::No("no dma-coherent in the device tree".into())
    }
}

/// The last address of memory. Only root can see it.
pub fn last_ram_address() -> Result<u64> {
    let map = fs::read_to_string("/proc/iomem").context("reading /proc/iomem")?;
    Ok(ram_end(&map))
}

fn ram_end(map: &str) -> u64 {
    let ram = map.lines().filter(|line| line.ends_with(" : System RAM"));
    let ends = ram.filter_map(|line| line.split_once('-')?.1.split(' ').next());
    ends.filter_map(|end| u64::from_str_radix(end, 16).ok())
        .max()
        .unwrap_or_default()
}

/// The last part of a path.
pub fn base_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs with a PCI device below a host bridge that has the property, and with a
    /// platform device that has no node.
    fn sysfs(name: &str, property: Option<&str>) -> PathBuf {
        let root = std::env::temp_dir().join(format!("{name}.{}", std::process::id()));
        let tree = root.join("tree");
        fs::create_dir_all(tree.join("pcie")).unwrap();
        if let Some(property) = property {
            fs::write(tree.join("pcie").join(property), "").unwrap();
        }
        fs::create_dir_all(root.join("devices/bridge/0000:00:01.0")).unwrap();
        fs::create_dir_all(root.join("devices/bridge/other")).unwrap();
        symlink(tree.join("pcie"), root.join("devices/bridge/of_node")).unwrap();
        root
    }

    fn judge(root: &Path, path: &str, bus: &str) -> Snooping {
        let device = Device {
            path: root.join("devices").join(path),
            bus: bus.into(),
            driver: String::new(),
        };
        device.snooping_by_device_tree(&root.join("tree"))
    }

    #[test]
    fn the_end_of_memory_is_found() {
        let map = "00001000-0009fbff : System RAM\n000a0000-000bffff : PCI Bus 0000:00\n\
            100000000-17fffffff : System RAM\n  100200000-1005fffff : Kernel code\n";
        assert_eq!(ram_end(map), 0x1_7fff_ffff);
    }

    #[test]
    fn a_pci_device_takes_after_its_host_bridge() {
        let root = sysfs("coherent", Some("dma-coherent"));
        let pci = judge(&root, "bridge/0000:00:01.0", "pci");
        let other = judge(&root, "bridge/other", "platform");
        fs::remove_dir_all(root).unwrap();
        assert_eq!(pci, Snooping::Yes("dma-coherent in /pcie".into()));
        assert_eq!(other, Snooping::No("no firmware node".into()));
    }

    #[test]
    fn without_the_property_it_does_not_snoop() {
        let root = sysfs("bare", None);
        let seen = judge(&root, "bridge/0000:00:01.0", "pci");
        fs::remove_dir_all(root).unwrap();
        assert_eq!(
            seen,
            Snooping::No("no dma-coherent in the device tree".into())
        );
    }

    #[test]
    fn without_a_device_tree_nothing_is_known() {
        let root = sysfs("acpi", None);
        fs::remove_dir_all(root.join("tree")).unwrap();
        let seen = judge(&root, "bridge/other", "platform");
        fs::remove_dir_all(root).unwrap();
        assert!(matches!(seen, Snooping::Unknown(_)));
    }
}
