// SPDX-License-Identifier: GPL-2.0

//! The source of the kernel.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    arch::Arch,
    cache::{self, Item},
    debian::{self, Apt},
    progress::{self, say},
    series,
};

/// A kernel source tree.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) directory: PathBuf,
    /// Its version, with that of the package it is from.
    pub(crate) version: String,
    /// Whether the user named it, and may change it.
    pub(crate) named: bool,
}

/// The source tree that kernels are built from, if there is one already: the
/// one that the user names, else the newest in the cache.
pub(crate) fn find() -> Result<Option<Source>> {
    if let Some(directory) = env::var_os("DMABUF_COHERENCY_SOURCE") {
        let directory = std::path::absolute(directory)?;
        let version = version(&directory)?;
        if series::of(&version).is_none() {
            bail!(
                "{} is Linux {version}, and the module is not ({}): name another tree in \
                 DMABUF_COHERENCY_SOURCE, or unset it to use Debian's",
                directory.display(),
                series::sentence()
            );
        }
        return Ok(Some(Source {
            directory,
            version,
            named: true,
        }));
    }
    let newest = cache::complete("source")?
        .into_iter()
        .max_by_key(|key| numbers(key));
    newest.map(open).transpose()
}

/// The source tree that kernels are built from, downloaded if need be.
pub(crate) fn get() -> Result<Source> {
    if let Some(source) = find()? {
        return Ok(source);
    }
    if !debian::is_host() {
        bail!(
            "the kernel source is taken from Debian, and this is another system: set \
             DMABUF_COHERENCY_SOURCE to a source tree of Linux {}, or give --kernel the path of a \
             build tree",
            series::newest()
        );
    }
    let apt = Apt::backports(Arch::X86_64)?;
    let package = format!("linux-source-{}", series::newest());
    let version = apt.newest(&package, "")?.with_context(|| {
        format!("Debian has no {package} any more: set DMABUF_COHERENCY_SOURCE")
    })?;
    from_package(&apt, &package, &version)
}

/// The source that a package of Debian's kernel of this version was made from.
pub(crate) fn of_package(abi: &str, version: &str) -> Result<PathBuf> {
    let series = series::of(abi).context("a series that the module is for")?;
    let item = Item::new("source", &cache::word(version))?;
    if !item.is_complete() {
        let apt = Apt::backports(Arch::X86_64)?;
        from_package(&apt, &format!("linux-source-{series}"), version)?;
    }
    Ok(item.path().to_owned())
}

/// Unpacks a package that has the source.
fn from_package(apt: &Apt, package: &str, version: &str) -> Result<Source> {
    say(&format!("the kernel source is {package} {version}"));
    cache::need_space(2300, "the kernel source")?;
    let key = cache::word(version);
    Item::new("source", &key)?.make(|directory| {
        let deb = directory.join(".deb");
        apt.unpack(package, version, &deb)?;
        let mut tar = Command::new("tar");
        tar.args(["--strip-components=1", "-C"])
            .arg(directory)
            .arg("-xf");
        tar.arg(deb.join(format!("usr/src/{package}.tar.xz")));
        progress::run("unpacking the kernel source", &tar, 0)?;
        fs::remove_dir_all(deb)?;
        Ok(())
    })?;
    open(key)
}

fn open(key: String) -> Result<Source> {
    let directory = Item::new("source", &key)?.path().to_owned();
    Ok(Source {
        directory,
        version: key,
        named: false,
    })
}

/// The version that a source tree's Makefile says.
fn version(directory: &Path) -> Result<String> {
    let makefile = fs::read_to_string(directory.join("Makefile")).with_context(|| {
        format!(
            "{} is not a kernel source tree: it has no Makefile",
            directory.display()
        )
    })?;
    let value = |name: &str| {
        let mut lines = makefile.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))
            .map(str::trim)
    };
    match (value("VERSION"), value("PATCHLEVEL"), value("SUBLEVEL")) {
        (Some(version), Some(patch), Some(sub)) => Ok(format!("{version}.{patch}.{sub}")),
        _ => bail!("{} is not a kernel source tree", directory.display()),
    }
}

/// The numbers in a version, for comparing.
pub(crate) fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}
