// SPDX-License-Identifier: GPL-2.0

//! Displays without hardware: the test module `dmabuf_display`.

use crate::device::base_name;
use crate::expect::skip;
use crate::kernel_module::{loaded, modprobe, rmmod};
use crate::memory::eventually;
use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

const MODULE: &str = "dmabuf_display";

/// A display, and the properties of its DMA.
pub struct Display {
    /// DRM's helpers that manage its buffers.
    pub helpers: &'static str,
    /// Whether the device with the node snoops.
    pub snoops: bool,
    /// If another device does the DMA, whether that one snoops.
    pub dma_snoops: Option<bool>,
    pub dma_bits: u32,
}

/// One display of each kind that makes a difference.
pub const ALL: [Display; 6] = [
    Display::new("shmem", true, Some(false)),
    Display::new("shmem", false, Some(true)),
    Display::new("dma", true, None),
    Display::new("dma", false, None),
    Display::new("dma-vmap", false, Some(true)),
    Display {
        dma_bits: 32,
        ..Display::new("dma", true, None)
    },
];

impl Display {
    pub const fn new(helpers: &'static str, snoops: bool, dma_snoops: Option<bool>) -> Self {
        Self {
            helpers,
            snoops,
            dma_snoops,
            dma_bits: 64,
        }
    }
}

/// Test displays. Dropping this removes them.
pub struct Displays(());

impl Displays {
    /// Makes displays, and removes those of before. Skips the test if there is no such module.
    pub fn load(displays: &[Display]) -> Result<Self> {
        if loaded(MODULE) {
            rmmod(MODULE)?;
        }
        let list = |name: &str, value: &dyn Fn(&Display) -> String| {
            let values: Vec<_> = displays.iter().map(value).collect();
            format!("{name}={}", values.join(","))
        };
        let number = |flag: bool| u8::from(flag).to_string();
        let parameters = [
            list("helpers", &|display| display.helpers.to_owned()),
            list("own_dma_device", &|display| {
                number(display.dma_snoops.is_some())
            }),
            list("snoops", &|display| number(display.snoops)),
            list("dma_snoops", &|display| {
                display.dma_snoops.map_or("-1".to_owned(), number)
            }),
            list("dma_bits", &|display| display.dma_bits.to_string()),
        ];
        if modprobe(MODULE, &parameters).is_err() {
            return skip(format!(
                "there is no module {MODULE}: it is in tools/testing/modules"
            ));
        }
        let made = Self(());
        for number in 0..displays.len() {
            let path = path(number);
            let linked = eventually(|| Ok(path.join("dma_heaps").exists()))?;
            ensure!(linked, "{}: expected links for a display", path.display());
        }
        Ok(made)
    }
}

impl Drop for Displays {
    fn drop(&mut self) {
        // The last user of a display may still hold it.
        if !eventually(|| Ok(rmmod(MODULE).is_ok())).unwrap_or_default() {
            println!("cannot unload {MODULE}");
        }
    }
}

/// The directory in sysfs of the display with this number.
pub fn path(number: usize) -> PathBuf {
    Path::new("/sys/devices/platform").join(format!("{MODULE}.{number}"))
}

/// The name of the device that does a display's DMA, if it is another one.
pub fn dma_device(display: &Path) -> Option<String> {
    let children = fs::read_dir(display).ok()?;
    let mut names = children.filter_map(|child| Some(base_name(&child.ok()?.path())));
    names.find(|name| name.starts_with("dmabuf_display_dma."))
}
