// SPDX-License-Identifier: GPL-2.0

//! Devices that can be removed, and brought back.

use crate::device::base_name;
use crate::expect::skip;
use crate::links::{self, Links};
use crate::memory::eventually;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// The links of a device that has to have some.
pub fn linked(device: &Path) -> Result<Links> {
    Links::of(device)?.with_context(|| format!("{} has no links", device.display()))
}

/// Waits until links are as before. That may take a while, as the module may have to find the class
/// again, and does that in another task than the one that binds.
pub fn expect_back(device: &Path, before: &Links) -> Result<()> {
    let back = eventually(|| Ok(Links::of(device)?.is_some_and(|links| links == *before)))?;
    ensure!(
        back,
        "{}: expected links to {:?} again, got {:?}",
        device.display(),
        before.order,
        Links::of(device)?.map(|links| links.order)
    );
    Ok(())
}

/// A device with links whose driver can be unbound from outside.
pub struct Binding {
    pub device: PathBuf,
    driver: PathBuf,
    /// The device that the driver is bound to.
    name: String,
}

impl Binding {
    fn of(device: PathBuf) -> Result<Self> {
        // The driver of a virtio GPU is bound to a child of the device behind the node.
        let child = fs::read_dir(&device)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|child| base_name(child).starts_with("virtio"));
        let bound = child.unwrap_or_else(|| device.clone());
        Ok(Self {
            device,
            driver: fs::canonicalize(bound.join("driver"))?,
            name: base_name(&bound),
        })
    }

    /// Unbinds the driver. The links have to go at once.
    pub fn unbind(&self) -> Result<()> {
        fs::write(self.driver.join("unbind"), &self.name)
            .with_context(|| format!("unbinding {}", self.name))?;
        ensure!(
            !self.device.join("dma_heap").exists() && !self.device.join("dma_heaps").exists(),
            "expected {} to have no links without its driver",
            self.name
        );
        Ok(())
    }

    pub fn bind(&self) -> Result<()> {
        fs::write(self.driver.join("bind"), &self.name)
            .with_context(|| format!("binding {}", self.name))
    }
}

/// All devices with links whose driver can be unbound.
pub fn bindings() -> Result<Vec<Binding>> {
    let mut found = Vec::new();
    for device in links::linked_devices()? {
        let binding = Binding::of(device)?;
        if binding.driver.join("unbind").exists() {
            found.push(binding);
        }
    }
    if found.is_empty() {
        return skip("no device with links can be unbound from its driver");
    }
    Ok(found)
}

/// Devices with links that can be removed from PCI.
pub fn on_pci() -> Result<Vec<PathBuf>> {
    let mut devices = Vec::from_iter(links::linked_devices()?);
    devices.retain(|path| path.join("remove").exists());
    if devices.is_empty() {
        return skip("no device with links is on PCI");
    }
    Ok(devices)
}

/// Finds removed PCI devices again.
pub fn rescan_pci() -> Result<()> {
    fs::write("/sys/bus/pci/rescan", "1").context("rescanning PCI")
}
