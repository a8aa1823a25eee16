// SPDX-License-Identifier: GPL-2.0

//! Reference counts of the kernel's objects: of heaps, by the module dmabuf_references, and of
//! modules.

use crate::device::base_name;
use crate::kernel_module::{loaded, modprobe};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const MODULE: &str = "dmabuf_references";

/// The reference counts of each object, by the object's name.
pub type References = BTreeMap<String, Vec<usize>>;

/// References to the device of each heap, and to its directory in sysfs. It is empty if there is no
/// such module.
pub fn of_heaps() -> Result<References> {
    let mut found = BTreeMap::new();
    if !loaded(MODULE) && modprobe(MODULE, &[]).is_err() {
        println!("there is no module {MODULE}, so references to heaps are not checked");
        return Ok(found);
    }
    for entry in fs::read_dir("/sys/class/dma_heap")? {
        let heap = fs::canonicalize(entry?.path())?;
        let what = format!("heap {}", base_name(&heap));
        found.insert(what, of(&heap)?);
    }
    Ok(found)
}

/// How many references there are to each module.
pub fn of_modules() -> Result<References> {
    let text = fs::read_to_string("/proc/modules").context("/proc/modules")?;
    let modules = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), vec![words.nth(1)?.parse().ok()?]))
    });
    Ok(modules.collect())
}

fn of(directory: &Path) -> Result<Vec<usize>> {
    let parameter = Path::new("/sys/module").join(MODULE).join("parameters/of");
    fs::write(&parameter, directory.as_os_str().as_encoded_bytes())
        .with_context(|| format!("asking for references to {}", directory.display()))?;
    let text = fs::read_to_string(&parameter)?;
    let counts = text.split_whitespace().map(str::parse).collect();
    let counts: Result<_, _> = counts;
    counts.with_context(|| format!("{}: {text:?} is no list of numbers", parameter.display()))
}
