// SPDX-License-Identifier: GPL-2.0

//! What links cost, against the number of devices that have some.

use crate::recorder::Recorder;
use anyhow::{Context as _, Result, ensure};
use dmabuf_coherency_bench::results::{LINKS, NO_LINKS};
use dmabuf_coherency_selftest::kernel_module::{loaded, modprobe, rmmod};
use dmabuf_coherency_selftest::links;
use dmabuf_coherency_selftest::rules::Rules;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const NAME: &str = "links";
pub const ABOUT: &str = "the module's start and changes of links, against devices";

/// How often each is measured.
const SAMPLES: usize = 9;

/// Where vkms is told of devices.
const VKMS: &str = "/sys/kernel/config/vkms";

/// Another module, which needs nothing, beside ours.
const OTHER: &str = "dmabuf_references";

/// A display of vkms.
struct Display(PathBuf);

impl Display {
    /// Prepares it.
    fn new(name: &str) -> Result<Self> {
        let root = Path::new(VKMS).join(name);
        for part in ["", "planes/p", "crtcs/c", "encoders/e", "connectors/n"] {
            fs::create_dir(root.join(part)).with_context(|| format!("making {name}/{part}"))?;
        }
        fs::write(root.join("planes/p/type"), "1")?;
        symlink(root.join("crtcs/c"), root.join("planes/p/possible_crtcs/c"))?;
        symlink(
            root.join("crtcs/c"),
            root.join("encoders/e/possible_crtcs/c"),
        )?;
        symlink(
            root.join("encoders/e"),
            root.join("connectors/n/possible_encoders/e"),
        )?;
        Ok(Self(root))
    }

    /// Makes it a device, or removes the device.
    fn enable(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        fs::write(self.0.join("enabled"), value)
            .with_context(|| format!("enabling {}", self.0.display()))
    }
}

/// Makes so many devices, and measures before `module` is loaded and after.
pub fn measure(recorder: &mut Recorder, module: &Path, devices: u32) -> Result<()> {
    ensure!(
        !loaded("dmabuf_coherency"),
        "the module is loaded: links have to be measured first"
    );
    modprobe("vkms", &["create_default_dev=0".into()])?;
    for number in 0..devices {
        Display::new(&format!("d{number}"))?.enable(true)?;
    }
    let one_more = Display::new("one-more")?;
    let other = module.with_file_name(format!("{OTHER}.ko"));
    let at = u64::from(devices);

    recorder.on(NO_LINKS);
    add_and_remove(recorder, at, &one_more)?;
    search(recorder, at, &other)?;

    recorder.on(LINKS);
    time(recorder, "links.load", at, || load(module))?;
    let found = links::linked_devices()?.len();
    ensure!(
        found == devices as usize,
        "expected {devices} devices with links, there are {found}"
    );
    add_and_remove(recorder, at, &one_more)?;
    search(recorder, at, &other)?;
    rule(recorder, at)
}

fn add_and_remove(recorder: &mut Recorder, at: u64, display: &Display) -> Result<()> {
    for _ in 0..SAMPLES {
        time(recorder, "links.add", at, || display.enable(true))?;
        time(recorder, "links.remove", at, || display.enable(false))?;
    }
    Ok(())
}

/// Loads another module, of which ours looks for new classes and buses.
fn search(recorder: &mut Recorder, at: u64, module: &Path) -> Result<()> {
    for _ in 0..SAMPLES {
        time(recorder, "links.search", at, || load(module))?;
        rmmod(OTHER)?;
    }
    Ok(())
}

/// Writes a rule that changes the links of all devices.
fn rule(recorder: &mut Recorder, at: u64) -> Result<()> {
    let rules = Rules::save()?;
    for _ in 0..SAMPLES {
        time(recorder, "links.rule", at, || {
            rules.set("faux_driver=system")
        })?;
        rules.set("")?;
    }
    Ok(())
}

fn load(module: &Path) -> Result<()> {
    let file = File::open(module).with_context(|| module.display().to_string())?;
    rustix::system::finit_module(&file, c"", 0)
        .with_context(|| format!("loading {}", module.display()))
}

/// Measures something, with what it leaves for later done before it and after it.
fn time(
    recorder: &mut Recorder,
    operation: &str,
    at: u64,
    what: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let settle = || std::thread::sleep(Duration::from_millis(100));
    settle();
    let ((), time) = recorder.time(what)?;
    recorder.add(operation, at, time.own);
    settle();
    Ok(())
}
