// SPDX-License-Identifier: GPL-2.0

//! The tools that build kernels and programs: make, LLVM, Rust and bindgen.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail};

use crate::{
    arch::Arch,
    cache::{self, Item},
    debian::Apt,
    progress::{self, say},
};

/// The version of LLVM in the oldest Debian that we support. The kernel needs clang if
/// it has both Rust and sanitizers.
const LLVM: &str = "-19";

/// The version of bindgen that kernels are built with.
const BINDGEN: &str = "0.72.1";

/// Finds a program in PATH, and in the directories that root has in PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// The program that indexes modules.
pub(crate) fn depmod() -> Result<PathBuf> {
    find("depmod").context("there is no depmod: install kmod")
}

/// The value of `LLVM=` for make: the suffix of the tools, or 1 if they have none.
pub(crate) fn llvm() -> &'static str {
    if find(&format!("clang{LLVM}")).is_some() {
        LLVM
    } else {
        "1"
    }
}

/// The standard output of a short command.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A make command that inherits nothing from a make that called this program.
pub(crate) fn clean_make() -> Command {
    let mut make = Command::new("make");
    make.env("LC_ALL", "C");
    for name in [
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "ARCH",
        "KDIR",
        "KBUILD_OUTPUT",
        "M",
        "O",
    ] {
        make.env_remove(name);
    }
    make
}

/// A make command for a kernel.
pub fn kernel_make() -> Result<Command> {
    let bindgen = bindgen()?.join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let mut make = clean_make();
    make.env(
        "PATH",
        env::join_paths([bindgen].into_iter().chain(env::split_paths(&path)))?,
    );
    if let Some(source) = library_source()? {
        make.env("RUST_LIB_SRC", source);
    }
    make.arg(format!("LLVM={}", llvm()));
    make.arg(format!("-j{}", thread::available_parallelism()?));
    Ok(make)
}

/// The versions of the tools that compile a kernel. Without clang it says so, as setup may ask
/// before clang is installed. No kernel has been built with that.
pub(crate) fn versions() -> Result<String> {
    let clang = if llvm() == LLVM {
        format!("clang{LLVM}")
    } else {
        "clang".into()
    };
    let version = |program: &str| output(Command::new(program).arg("-vV"));
    let clang = match find(&clang) {
        Some(clang) => output(Command::new(clang).arg("--version"))?,
        None => "no clang".into(),
    };
    Ok(format!("{}\n{clang}\nbindgen {BINDGEN}", version("rustc")?))
}

/// Where bindgen is installed.
fn bindgen() -> Result<PathBuf> {
    Ok(cache::dir()?.join("bindgen"))
}

/// Whether bindgen is installed, in the right version.
pub(crate) fn bindgen_is_complete() -> Result<bool> {
    // cargo lists in this file what it has installed.
    let list = fs::read_to_string(bindgen()?.join(".crates.toml")).unwrap_or_default();
    Ok(list.contains(&format!("bindgen-cli {BINDGEN} ")))
}

/// Installs bindgen if it is not there.
pub(crate) fn get_bindgen() -> Result<()> {
    if bindgen_is_complete()? {
        return Ok(());
    }
    // The next build continues with what an interrupted one has compiled.
    let build = cache::subdir("bindgen-build")?;
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--locked", "bindgen-cli", "--version", BINDGEN]);
    cargo.arg("--root").arg(bindgen()?);
    cargo.arg("--target-dir").arg(&build);
    progress::run("building bindgen", &cargo, 0)
        .context("bindgen comes from crates.io: check the network, then run this again")?;
    Ok(fs::remove_dir_all(build)?)
}

/// The release of rustc, as in `1.95.0`.
pub(crate) fn rustc_release() -> Result<String> {
    let version = output(Command::new("rustc").arg("--version"))?;
    let release = version
        .split_whitespace()
        .nth(1)
        .context("`rustc --version` prints no version: install another rustc")?;
    Ok(release.to_owned())
}

/// Whether the toolchain comes with the source of Rust's standard library.
fn has_library_source() -> Result<bool> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(Path::new(&sysroot)
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .exists())
}

/// The source of the standard library in the cache, for a toolchain without.
fn cached_library_source() -> Result<Item> {
    Item::new("rust-src", &rustc_release()?)
}

/// The directory of the standard library's source, unless kernels and cargo find it by
/// themselves.
pub(crate) fn library_source() -> Result<Option<PathBuf>> {
    if has_library_source()? {
        return Ok(None);
    }
    let directory = cached_library_source()?.path().join("usr/src");
    let release = rustc_release()?;
    Ok(Some(directory.join(format!("rustc-{release}/library"))))
}

/// Whether the source of the standard library is there.
pub(crate) fn library_source_is_complete() -> Result<bool> {
    Ok(has_library_source()? || cached_library_source()?.is_complete())
}

/// Gets the source of the standard library: from rustup, or else from Debian.
pub(crate) fn get_library_source() -> Result<()> {
    if library_source_is_complete()? {
        return Ok(());
    }
    if find("rustup").is_some() {
        let mut rustup = Command::new("timeout");
        rustup.args(["120", "rustup", "component", "add", "rust-src"]);
        if progress::run("adding rust-src to the toolchain", &rustup, 0).is_ok()
            && has_library_source()?
        {
            return Ok(());
        }
        say("rustup cannot get rust-src for this toolchain; trying Debian's");
    }
    let release = rustc_release()?;
    cached_library_source()?.make(|directory| {
        let apt = Apt::newer(Arch::X86_64)?;
        let Some(version) = apt.newest("rust-src", &format!("{release}+"))? else {
            bail!(
                "Debian has no rust-src of version {release}: run `rustup component add rust-src`, \
                 or use Debian's own rustc"
            );
        };
        apt.unpack("rust-src", &version, directory)
    })
}
