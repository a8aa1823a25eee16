// SPDX-License-Identifier: GPL-2.0

//! The system that has the compilers of Debian's own kernels: its packages,
//! unpacked in the cache, with nothing of this machine but a few mounts.
//!
//! Modules with Rust in them need the very rustc that built the kernel, and this
//! machine has another one or none.

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

/// What builds modules, for both architectures. The rest is what that depends on.
const PACKAGES: [&str; 21] = [
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
];

/// What a package's script would have linked.
const LINKS: [(&str, &str); 2] = [("usr/bin/awk", "mawk"), ("usr/bin/cc", "gcc")];

/// What goes on in there sees the same cache and the same checkout at the same
/// paths. The arguments are the root, these directories, `--` and the command.
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

/// The unpacked system.
pub(crate) fn item() -> Result<Item> {
    let key = cache::key(PACKAGES.iter().map(|package| package.as_bytes()));
    Item::new("root", &format!("trixie-{key}"))
}

/// Unpacks the system, if it is not there, and says where it is.
pub(crate) fn get() -> Result<PathBuf> {
    let item = item()?;
    item.make(|directory| {
        cache::need_space(2500, "Debian's compilers")?;
        let apt = Apt::stable(Arch::X86_64)?;
        apt.unpack_with_needs(&PACKAGES.map(String::from), directory)?;
        for (link, target) in LINKS {
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

/// A command that runs in there.
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

/// Fails, with what to do about it, if nothing can run in there.
pub(crate) fn check(root: &Path) -> Result<()> {
    toolchain::output(&mut command(root, "true")?)
        .map(drop)
        .context(
            "the compilers of Debian's kernels run in a mount namespace of their own, which this \
         machine does not allow: run this as root, or enable user namespaces (sysctl \
         kernel.unprivileged_userns_clone=1, user.max_user_namespaces, \
         kernel.apparmor_restrict_unprivileged_userns=0)",
        )
}
