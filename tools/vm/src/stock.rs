// SPDX-License-Identifier: GPL-2.0

//! Debian's own kernels, unchanged. Image and modules come from its packages, and the
//! tree to build our module in comes from its headers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail};

use crate::{
    arch::Arch,
    cache::{self, Item},
    debian::{self, Apt},
    kernel::{self, Kernel},
    module::checkout,
    progress::{self, say},
    root, series, source,
    toolchain::{self, output},
};

/// The name of the newest of Debian's kernels. With a dash and a series after it, it
/// names the newest kernel of that series.
pub const DEBIAN: &str = "debian";

/// The kernel's modules that guests load, besides those that our own modules depend on.
const MODULES: [&str; 10] = [
    "bochs",
    "configfs",
    "dummy_hcd",
    "uvcvideo",
    "vgem",
    "virtio-gpu",
    "virtio_console",
    "virtio_pci",
    "vivid",
    "zram",
];

/// What a kernel has only if it is one of Debian's.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    /// The system that has the compilers.
    root: PathBuf,
    /// The content of the packages below /usr.
    usr: PathBuf,
    /// The source of the same version.
    pub(crate) source: PathBuf,
    /// Variables for make.
    variables: Vec<String>,
}

/// A kernel that a suite has.
struct Version {
    /// As in `7.3.4+deb13`. The names of its packages contain it.
    abi: String,
    /// The version of these packages.
    package: String,
}

/// Whether a kernel's name means one of Debian's, and the series that it asks for.
pub(crate) fn parse(name: &str) -> Result<Option<Option<&str>>> {
    let Some(rest) = name.strip_prefix(DEBIAN) else {
        return Ok(None);
    };
    match rest.strip_prefix('-') {
        None if rest.is_empty() => Ok(Some(None)),
        Some(wanted) if series::all().any(|series| series == wanted) => Ok(Some(Some(wanted))),
        Some(wanted) => bail!(
            "the module is not for Linux {wanted}: {}",
            series::sentence()
        ),
        None => Ok(None),
    }
}

/// The newest kernel in the cache, of a series if one is wanted.
pub(crate) fn find(arch: Arch, wanted: Option<&str>) -> Result<Option<Item>> {
    let start = format!("{arch}-");
    let keys = cache::complete(DEBIAN)?.into_iter();
    let newest = keys
        .filter(|key| {
            let abi = key.strip_prefix(&start);
            abi.and_then(series::of)
                .is_some_and(|series| wanted.is_none_or(|wanted| wanted == series))
        })
        .max_by_key(|key| source::numbers(key.trim_start_matches(&start)));
    newest.map(|key| Item::new(DEBIAN, &key)).transpose()
}

/// The newest kernel, of a series if one is wanted. Fetches it if none is in the cache.
pub(crate) fn get(arch: Arch, wanted: Option<&str>, name: &str) -> Result<Kernel> {
    let item = match find(arch, wanted)? {
        Some(item) => item,
        None => make(arch, wanted)?,
    };
    open(arch, &item, name)
}

fn make(arch: Arch, wanted: Option<&str>) -> Result<Item> {
    if !debian::is_host() {
        bail!(
            "Debian's kernels come from its packages, and this machine does not run Debian: use \
             --kernel default (make demo DEMO_KERNEL=default), or --kernel with the path of a build \
             tree"
        );
    }
    let apt = Apt::backports(arch)?;
    let version = newest(&apt, arch, wanted)?;
    let abi = &version.abi;
    say(&format!(
        "the kernel for {arch} is Debian's {abi}, of {}",
        version.package
    ));
    let item = Item::new(DEBIAN, &cache::word(&format!("{arch}-{abi}")))?;
    let build_root = root::KERNELS.get()?;
    root::check(&build_root)?;
    let source = source::of_package(abi, &version.package)?;
    item.make(|directory| {
        cache::need_space(1000, "Debian's kernel")?;
        let flavour = arch.debian();
        for package in [
            format!("linux-base-{abi}-{flavour}"),
            format!("linux-binary-{abi}-{flavour}"),
            format!("linux-modules-{abi}-{flavour}"),
            format!("linux-headers-{abi}-{flavour}"),
        ] {
            apt.unpack(&package, &version.package, directory)?;
        }
        // The programs that build modules run on this machine.
        let kbuild = format!("linux-kbuild-{abi}");
        Apt::backports(Arch::X86_64)?.unpack(&kbuild, &version.package, directory)?;

        let usr = directory.join("usr");
        let mut depmod = Command::new(toolchain::depmod()?);
        depmod.arg("-b").arg(&usr).arg(format!("{abi}-{flavour}"));
        progress::run(
            &format!("indexing the modules of {abi} for {arch}"),
            &depmod,
            0,
        )?;

        let tree = directory.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        let mut metadata = root::command(&build_root, "env")?;
        metadata
            .arg(format!("MAKEFLAGS=-j{}", thread::available_parallelism()?))
            .arg(checkout().join("tools/rust-metadata"))
            .arg(usr.join(format!("src/linux-headers-{abi}-{flavour}")))
            .args([&source, &tree]);
        progress::run(
            &format!("building the Rust metadata of {abi} for {arch}"),
            &metadata,
            0,
        )?;
        let mut kdir = root::command(&build_root, checkout().join("tools/kdir"))?;
        fs::write(directory.join("variables"), output(kdir.arg(&tree))?)?;
        Ok(())
    })?;
    Ok(item)
}

/// The newest kernel that a suite has.
fn newest(apt: &Apt, arch: Arch, wanted: Option<&str>) -> Result<Version> {
    let start = "linux-headers-";
    let end = format!("-{}", arch.debian());
    let names = apt.names(start)?;
    let abi = names
        .iter()
        // Variants have one more word: `-cloud-amd64`, `-amd64-16k`.
        .filter_map(|name| name.strip_prefix(start)?.strip_suffix(&end))
        .filter(|abi| !abi.contains('-'))
        .filter(|abi| match wanted {
            Some(wanted) => series::of(abi) == Some(wanted),
            None => series::of(abi).is_some(),
        })
        .max_by_key(|abi| source::numbers(abi))
        .with_context(|| {
            format!(
                "Debian no longer has a kernel that the module supports ({}; `tools/vm/vm series` \
                 shows those that Debian has). Build one by --kernel default (make demo \
                 DEMO_KERNEL=default), or name a build tree by --kernel",
                series::sentence()
            )
        })?;
    let package = apt.newest(&format!("{start}{abi}{end}"), "")?;
    Ok(Version {
        abi: abi.to_owned(),
        package: package.unwrap_or_default(),
    })
}

fn open(arch: Arch, item: &Item, name: &str) -> Result<Kernel> {
    let directory = item.path();
    let tree = directory.join("tree");
    let usr = directory.join("usr");
    let release = kernel::release(&tree)?;
    let variables = fs::read_to_string(directory.join("variables"))?;
    let key = directory.file_name().unwrap_or_default().to_string_lossy();
    Ok(Kernel {
        arch,
        name: name.to_owned(),
        image: usr.join("lib/modules").join(&release).join("vmlinuz"),
        release,
        debug: false,
        page_size: 4 << 10,
        coverage: false,
        key: format!("{DEBIAN}-{key}"),
        stock: Some(Stock {
            root: root::KERNELS.get()?,
            usr,
            source: fs::canonicalize(tree.join("source"))?,
            variables: variables.split_whitespace().map(str::to_owned).collect(),
        }),
        tree,
    })
}

impl Stock {
    /// A command in the system that has the compilers.
    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        root::command(&self.root, program)
    }

    /// A make command for the kernel in `tree`.
    pub(crate) fn make(&self, tree: &Path) -> Result<Command> {
        let mut make = self.command("make")?;
        make.arg(format!("-j{}", thread::available_parallelism()?));
        make.arg("-C").arg(tree).args(&self.variables);
        Ok(make)
    }

    /// Copies the modules that guests load into `to`, and those that `ours` depend on.
    /// Modules that the kernel does not have are left out.
    pub(crate) fn install(&self, release: &str, ours: &[PathBuf], to: &Path) -> Result<()> {
        let from = self.usr.join("lib/modules").join(release);
        let index = fs::read_to_string(from.join("modules.dep"))?;
        // Lines like "kernel/drivers/gpu/drm/vgem/vgem.ko.xz: kernel/...ko.xz ...".
        let lines: BTreeMap<String, Vec<&str>> = index
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| {
                let all = needs.split_whitespace().chain([path]);
                (module_name(path), all.collect())
            })
            .collect();
        let mut wanted: BTreeSet<String> = MODULES.map(module_name).into();
        for module in ours {
            let mut modinfo = Command::new("modinfo");
            let depends = output(modinfo.args(["-F", "depends"]).arg(module))?;
            wanted.extend(depends.split(',').map(module_name));
        }
        let paths: BTreeSet<&str> = wanted
            .iter()
            .filter_map(|name| lines.get(name))
            .flatten()
            .copied()
            .collect();
        for path in paths {
            let unpacked = to.join(path).with_extension("");
            if !unpacked.exists() {
                fs::create_dir_all(unpacked.parent().unwrap_or(to))?;
                unpack(&from.join(path), &unpacked)?;
            }
        }
        for name in [
            "modules.builtin",
            "modules.builtin.modinfo",
            "modules.order",
        ] {
            fs::copy(from.join(name), to.join(name))?;
        }
        Ok(())
    }
}

/// The kernel's name for the module in a file.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    let name = file.split('.').next().unwrap_or_default();
    name.replace('-', "_")
}

/// Unpacks a compressed module atomically: an interruption leaves no partial module.
fn unpack(from: &Path, to: &Path) -> Result<()> {
    let part = to.with_extension("part");
    let mut xz = Command::new("xz");
    xz.arg("-dc").arg(from).stdout(File::create(&part)?);
    let status = xz.status().context("there is no xz: install xz-utils")?;
    if !status.success() {
        bail!("xz cannot unpack {}", from.display());
    }
    Ok(fs::rename(part, to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        assert_eq!(parse("default").unwrap(), None);
        assert_eq!(parse("debian").unwrap(), Some(None));
        assert_eq!(parse("debian-7.3").unwrap(), Some(Some("7.3")));
        assert!(parse("debian-6.12").is_err());
    }

    #[test]
    fn modules_have_names() {
        assert_eq!(
            module_name("kernel/drivers/gpu/virtio-gpu.ko.xz"),
            "virtio_gpu"
        );
        assert_eq!(module_name("vgem"), "vgem");
    }
}
