// SPDX-License-Identifier: GPL-2.0

//! What links cost, against the number of devices that have some.

use crate::kernel_module::{loaded, modprobe, rmmod};
use crate::links;
use crate::options::Options;
use crate::rules::Rules;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often each is measured.
const SAMPLES: usize = 9;

/// Where vkms is told of devices.
const VKMS: &str = "/sys/kernel/config/vkms";

/// All in nanoseconds; the median where it is measured more than once.
#[derive(Serialize)]
struct Cost {
    devices: u32,
    /// Loading the module, which finds all devices.
    load: u64,
    /// Adding one more device, before the module is loaded and after.
    add_without: u64,
    add: u64,
    /// The same for removing it.
    remove_without: u64,
    remove: u64,
    /// Loading another module, of which ours looks for new classes and buses.
    search_without: u64,
    search: u64,
    /// Writing a rule that changes the links of all devices.
    rule: u64,
}

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

/// How long something takes, with what it leaves for later done before it and after it.
fn time(what: impl FnOnce() -> Result<()>) -> Result<u64> {
    let settle = || std::thread::sleep(Duration::from_millis(100));
    settle();
    let start = Instant::now();
    what()?;
    let taken = start.elapsed();
    settle();
    Ok(u64::try_from(taken.as_nanos())?)
}

fn median(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

fn load(module: &Path) -> Result<()> {
    let file = File::open(module).with_context(|| module.display().to_string())?;
    rustix::system::finit_module(&file, c"", 0)
        .with_context(|| format!("loading {}", module.display()))
}

pub fn run(options: &Options, devices: u32) -> Result<()> {
    let module = options
        .module
        .as_deref()
        .context("say by --module where the module is")?;
    ensure!(
        !loaded("dmabuf_coherency"),
        "the module is loaded: this has to be done first"
    );
    modprobe("vkms", &["create_default_dev=0".into()])?;
    for number in 0..devices {
        Display::new(&format!("d{number}"))?.enable(true)?;
    }
    let one_more = Display::new("one-more")?;
    let other = module.with_file_name("dmabuf_references.ko");

    let (add_without, remove_without) = add_and_remove(&one_more)?;
    let search_without = search(&other)?;
    let load = time(|| load(module))?;
    let found = links::linked_devices()?.len();
    ensure!(
        found == devices as usize,
        "expected {devices} devices with links, there are {found}"
    );
    let (add, remove) = add_and_remove(&one_more)?;
    let cost = Cost {
        devices,
        load,
        add_without,
        add,
        remove_without,
        remove,
        search_without,
        search: search(&other)?,
        rule: rule()?,
    };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

fn add_and_remove(display: &Display) -> Result<(u64, u64)> {
    let mut added = Vec::new();
    let mut removed = Vec::new();
    for _ in 0..SAMPLES {
        added.push(time(|| display.enable(true))?);
        removed.push(time(|| display.enable(false))?);
    }
    Ok((median(added), median(removed)))
}

fn search(module: &Path) -> Result<u64> {
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        samples.push(time(|| load(module))?);
        rmmod("dmabuf_references")?;
    }
    Ok(median(samples))
}

fn rule() -> Result<u64> {
    let rules = Rules::save()?;
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        samples.push(time(|| rules.set("faux_driver=system"))?);
        rules.set("")?;
    }
    Ok(median(samples))
}
