// SPDX-License-Identifier: GPL-2.0

//! Programs of Debian for guests, unmodified, with the libraries that they load.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    arch::Arch,
    cache::Item,
    debian::{self, Apt},
    toolchain::output,
};

/// libcamera's `cam`, which knows nothing of us, and what evaluates rules for udev.
const PROGRAMS: [&str; 2] = ["usr/bin/cam", "usr/bin/udevadm"];

/// Gets Debian's libcamera for an architecture, and says in which directory it
/// is: what is in there belongs in the root of a guest.
pub fn libcamera(arch: Arch) -> Result<PathBuf> {
    let item = Item::new("libcamera", arch.name())?;
    let root = item.path().join("root");
    item.make(|directory| {
        if !debian::is_host() {
            bail!("libcamera comes from Debian's packages, and this machine runs something else");
        }
        let apt = Apt::newer(arch)?;
        // The package has a program with windows too, and those need a lot.
        let mut packages = apt.depends("libcamera-tools")?;
        packages.retain(|package| !package.starts_with("libqt"));
        let all = directory.join("all");
        apt.unpack_with_needs(&packages, &all)?;
        for package in ["libcamera-tools", "udev"] {
            let version = apt.newest(package, "")?.unwrap_or_default();
            apt.unpack(package, &version, &all)?;
        }
        apt.unpack_with_needs(&apt.depends("udev")?, &all)?;
        keep(&all, &root)?;
        Ok(fs::remove_dir_all(all)?)
    })?;
    Ok(root)
}

/// Copies the programs and what they load from one tree to another.
fn keep(all: &Path, root: &Path) -> Result<()> {
    let mut libraries = HashMap::new();
    find_libraries(&all.join("usr/lib"), &mut libraries)?;
    let mut todo: Vec<PathBuf> = PROGRAMS.iter().map(|program| all.join(program)).collect();
    let mut seen = BTreeSet::new();
    while let Some(file) = todo.pop() {
        if !seen.insert(file.clone()) {
            continue;
        }
        copy(&file, &root.join(file.strip_prefix(all)?))?;
        let (needed, interpreter) = needs(&file)?;
        for name in needed {
            let Some(library) = libraries.get(&name) else {
                bail!("{} needs {name}, which no package has", file.display());
            };
            todo.push(library.clone());
        }
        if let Some(path) = interpreter {
            let name = path.rsplit('/').next().unwrap_or_default();
            if let Some(loader) = libraries.get(name) {
                copy(loader, &root.join(path.trim_start_matches('/')))?;
            }
        }
    }
    Ok(())
}

/// Copies a file, or what a symbolic link leads to.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to)?;
    Ok(())
}

/// Notes all shared libraries in a directory, and below it, by name.
fn find_libraries(directory: &Path, libraries: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            find_libraries(&entry.path(), libraries)?;
        } else if name.contains(".so") {
            libraries.entry(name).or_insert(entry.path());
        }
    }
    Ok(())
}

/// The names of the libraries that a program or library loads, and the path of
/// what loads a program.
fn needs(file: &Path) -> Result<(Vec<String>, Option<String>)> {
    let dynamic = output(Command::new("readelf").args(["-W", "-d", "-l"]).arg(file))?;
    let mut needed = Vec::new();
    let mut interpreter = None;
    for line in dynamic.lines() {
        // "... (NEEDED) Shared library: [libc.so.6]"
        if let Some((_, name)) = line.split_once("Shared library: [") {
            needed.push(name.trim_end_matches(']').to_owned());
        }
        // "[Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]"
        if let Some((_, path)) = line.split_once("program interpreter: ") {
            interpreter = Some(path.trim_end_matches(']').to_owned());
        }
    }
    Ok((needed, interpreter))
}
