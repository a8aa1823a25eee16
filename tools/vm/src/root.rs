// SPDX-License-Identifier: GPL-2.0

//! Systems that have Debian's own compilers. They are packages, unpacked in the cache.
//! They share nothing with this machine but a few mounts.
//!
//! A module in Rust needs the very rustc that built the kernel, and this machine has
//! another one or none. Libraries that guests load beside Debian's own are built with
//! Debian's compiler and headers.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use rustix::process::geteuid;

use crate::{
    arch::Arch,
    cache::{self, Item},
    debian::Apt,
    module::checkout,
    toolchain,
};

/// A system.
pub(crate) struct Root {
    /// Its packages for this machine. Those that they depend on come with them.
    packages: &'static [&'static str],
    /// Its packages for arm64, to link programs with.
    for_arm64: &'static [&'static str],
    /// Links that the scripts of packages would have made.
    links: &'static [(&'static str, &'static str)],
}

/// Builds modules, for both architectures.
pub(crate) static KERNELS: Root = Root {
    packages: &[
        "base-files",
        "bindgen",
        "coreutils",
        "dash",
        "diffutils",
        "findutils",
        "gcc-14",
        "gcc-14-aarch64-linux-gnu",
        "grep",
        "gzip",
        "libc6-dev",
        "libelf1t64",
        "libssl3t64",
        "make",
        "mawk",
        "pahole",
        "rust-src",
        "rustc",
        "sed",
        "tar",
        "xz-utils",
    ],
    for_arm64: &[],
    links: &[("usr/bin/awk", "mawk"), ("usr/bin/cc", "gcc")],
};

/// Builds libcamera, for both architectures.
pub(crate) static LIBCAMERA: Root = Root {
    packages: &[
        "base-files",
        "coreutils",
        "dash",
        "g++",
        "g++-aarch64-linux-gnu",
        "grep",
        "libjpeg62-turbo-dev",
        "libudev-dev",
        "libyaml-dev",
        "libyuv-dev",
        "meson",
        "patch",
        "pkgconf",
        "python3-jinja2",
        "python3-ply",
        "python3-yaml",
        "sed",
    ],
    for_arm64: &[
        "libjpeg62-turbo-dev",
        "libudev-dev",
        "libyaml-dev",
        "libyuv-dev",
    ],
    links: &[],
};

/// Enters a system and runs a command there. The command sees the cache and the
/// checkout at the same paths as outside. The arguments are the root, these
/// directories, `--` and the command.
const ENTER: &str = r#"root=$1; shift
for directory in /dev /proc; do
	mount --rbind $directory "$root$directory"
done
until [ "$1" = -- ]; do
	mkdir -p "$root$1" && mount --rbind "$1" "$root$1" || exit
	shift
done
shift
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C \
	setpriv --pdeathsig TERM -- chroot "$root" "$@""#;

impl Root {
    /// The unpacked system.
    pub(crate) fn item(&self) -> Result<Item> {
        let packages = self.packages.iter().chain(self.for_arm64);
        let key = cache::key(packages.map(|package| package.as_bytes()));
        Item::new("root", &format!("trixie-{key}"))
    }

    /// Unpacks the system if it is not there, and returns its directory.
    pub(crate) fn get(&self) -> Result<PathBuf> {
        let item = self.item()?;
        item.make(|directory| {
            cache::need_space(2500, "Debian's compilers")?;
            for (arch, packages) in [
                (Arch::Arm64, self.for_arm64),
                // If both have the same file, that of this machine stays.
                (Arch::X86_64, self.packages),
            ] {
                if !packages.is_empty() {
                    let packages: Vec<_> = packages.iter().map(|name| name.to_string()).collect();
                    Apt::stable(arch)?.unpack_with_needs(&packages, directory)?;
                }
            }
            for (link, target) in self.links {
                let link = directory.join(link);
                if !link.is_symlink() {
                    symlink(target, &link).with_context(|| link.display().to_string())?;
                }
            }
            for name in ["dev", "proc", "tmp"] {
                fs::create_dir_all(directory.join(name))?;
            }
            Ok(())
        })?;
        Ok(item.path().to_owned())
    }
}

/// A command that runs in the system.
pub(crate) fn command(root: &Path, program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-ec", ENTER, "sh"]).arg(root);
    command.arg(cache::dir()?).arg(checkout()).arg("--");
    command.arg(program);
    Ok(command)
}

/// Fails if no command can run in the system, and says what to do.
pub(crate) fn check(root: &Path) -> Result<()> {
    toolchain::output(&mut command(root, "true")?)
        .map(drop)
        .context(
            "Debian's own compilers run in their own mount namespace, and this machine does \
         not allow that: run this as root, or enable user namespaces (sysctl \
         kernel.unprivileged_userns_clone=1, user.max_user_namespaces, \
         kernel.apparmor_restrict_unprivileged_userns=0)",
        )
}
