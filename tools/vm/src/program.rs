// SPDX-License-Identifier: GPL-2.0

//! Static programs for guests.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{
    arch::Arch,
    cache::{self, Item},
    kernel::Kernel,
    module::{checkout, checkout_key},
    progress, toolchain,
};

/// Builds a program of the workspace in `tools` for guests, and returns its path.
/// `package` has a binary of the same name.
///
/// For a foreign architecture it also builds the standard library, which takes only
/// the library's source.
pub fn rust_program(arch: Arch, package: &str) -> Result<PathBuf> {
    build_rust(
        &arch.rust_target(),
        &arch.cc(),
        arch.is_host(),
        package,
        &arch.to_string(),
    )
}

/// Builds a 32-bit program of the workspace in `tools`, which this architecture runs
/// as well, and returns its path.
pub fn rust_program_32(arch: Arch, package: &str) -> Result<PathBuf> {
    build_rust(
        arch.rust_target_32(),
        cc_32(arch)?,
        false,
        package,
        arch.rust_target_32(),
    )
}

/// The C compiler for 32-bit programs, if it is installed.
fn cc_32(arch: Arch) -> Result<&'static str> {
    let (cc, packages) = arch.cc_32();
    if Command::new(cc).arg("--version").output().is_err() {
        bail!("there is no {cc}, which links programs of 32 bits: on Debian install {packages}");
    }
    Ok(cc)
}

/// Builds a plugin for this machine's QEMU from a package of the workspace in
/// `tools`, and returns its path.
pub fn qemu_plugin(package: &str) -> Result<PathBuf> {
    let output = cache::subdir(format!("programs/{}", checkout_key()))?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--locked", "--release", "--package", package])
        .arg("--manifest-path")
        .arg(checkout().join("tools/Cargo.toml"))
        .arg("--target-dir")
        .arg(&output)
        .env_remove("RUSTFLAGS");
    progress::run(&format!("building {package}"), &cargo, 0)?;
    Ok(output.join("release").join(format!("lib{package}.so")))
}

fn build_rust(
    target: &str,
    cc: &str,
    has_library: bool,
    package: &str,
    name: &str,
) -> Result<PathBuf> {
    let arguments = ["build", "--release", "--package", package];
    let (cargo, built) = cargo(target, cc, has_library, &arguments)?;
    progress::run(&format!("building {package} for {name}"), &cargo, 0)?;
    Ok(built.join("release").join(package))
}

/// A cargo command for static programs, and the directory of its output.
fn cargo(
    target: &str,
    cc: &str,
    has_library: bool,
    arguments: &[&str],
) -> Result<(Command, PathBuf)> {
    toolchain::get_library_source()?;
    // The build scripts of crates depend on RUSTC_BOOTSTRAP. If builds with it and without it shared
    // a directory, each would compile again what the other has compiled.
    let directory = if has_library { "" } else { "/own-library" };
    let output = cache::subdir(format!("programs/{}{directory}", checkout_key()))?;
    let variable = |suffix: &str| {
        format!(
            "CARGO_TARGET_{}_{suffix}",
            target.to_uppercase().replace('-', "_")
        )
    };
    let mut cargo = Command::new("cargo");
    cargo
        .args(arguments)
        .args(["--locked", "--target", target])
        .arg("--manifest-path")
        .arg(checkout().join("tools/Cargo.toml"))
        .arg("--target-dir")
        .arg(&output)
        .env(variable("LINKER"), cc)
        .env(variable("RUSTFLAGS"), "-Ctarget-feature=+crt-static")
        .env_remove("RUSTFLAGS");
    if !has_library {
        cargo
            .arg("-Zbuild-std=std,panic_abort")
            .env("RUSTC_BOOTSTRAP", "1");
        if let Some(source) = toolchain::library_source()? {
            cargo.env("__CARGO_TESTS_ONLY_SRC_ROOT", source);
        }
    }
    Ok((cargo, output.join(target)))
}

/// Builds a static program for guests from one C file, `source` below the checkout,
/// and returns its path. A warning is an error.
pub fn c_program(arch: Arch, source: &str) -> Result<PathBuf> {
    build_c(&arch.cc(), source, &arch.to_string(), &["-static"])
}

/// Builds a shared library in the same way, for Debian's programs to load.
pub fn c_library(arch: Arch, source: &str) -> Result<PathBuf> {
    let arguments = ["-shared", "-fPIC"];
    build_c(&arch.cc(), source, &arch.to_string(), &arguments)
}

/// Builds a program that uses libdmaheap in the same way.
pub fn c_program_with_libdmaheap(arch: Arch, source: &str) -> Result<PathBuf> {
    let arguments = [
        "rustc",
        "--profile=library",
        "--package=dmaheap",
        "--lib",
        "--crate-type=staticlib",
        "--no-default-features",
        "--features=capi",
    ];
    let (target, cc) = (arch.rust_target(), arch.cc());
    let (cargo, built) = cargo(&target, &cc, arch.is_host(), &arguments)?;
    progress::run(&format!("building libdmaheap for {arch}"), &cargo, 0)?;
    let include = checkout().join("tools/dmaheap/capi");
    let include = format!("-I{}", include.display());
    let library = built.join("library/libdmaheap.a").display().to_string();
    build_c(
        &cc,
        source,
        &arch.to_string(),
        &["-static", &include, &library],
    )
}

/// Builds a 32-bit program in the same way.
pub fn c_program_32(arch: Arch, source: &str) -> Result<PathBuf> {
    build_c(cc_32(arch)?, source, arch.rust_target_32(), &["-static"])
}

fn build_c(cc: &str, source: &str, name: &str, arguments: &[&str]) -> Result<PathBuf> {
    let source = checkout().join(source);
    let directory = cache::subdir(format!("programs/{}/c-{name}", checkout_key()))?;
    let program = directory.join(source.file_stem().unwrap_or_default());
    let mut cc = Command::new(cc);
    cc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &source])
        .args(arguments);
    progress::run(&format!("building {} for {name}", source.display()), &cc, 0)?;
    Ok(program)
}

/// The kernel's own tests that have to do with dma-bufs: their directory and their program.
const SELFTESTS: [(&str, &str); 3] = [
    ("dmabuf-heaps", "dmabuf-heap"),
    ("drivers/dma-buf", "udmabuf"),
    ("sync", "sync_test"),
];

/// Builds the kernel's own tests of dma-bufs, and returns their paths.
pub fn selftests(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let item = Item::new("kernel-selftests", &kernel.key)?;
    let directory = item.path();
    item.make(|directory| {
        let headers = directory.join("headers");
        let mut install = kernel.make()?;
        install
            .arg("headers_install")
            .arg(format!("INSTALL_HDR_PATH={}", headers.display()));
        progress::run(&format!("installing the headers of {kernel}"), &install, 0)?;

        let cc = kernel.arch.cc();
        for (test, _) in SELFTESTS {
            let output = directory.join(test);
            fs::create_dir_all(&output)?;
            let mut make = toolchain::clean_make();
            make.arg("-C")
                .arg(kernel.source().join("tools/testing/selftests").join(test));
            make.arg(format!(
                "CROSS_COMPILE={}",
                cc.strip_suffix("gcc").unwrap_or_default()
            ));
            make.arg(format!("OUTPUT={}", output.display()));
            make.arg("USERLDFLAGS=-static").arg(format!(
                "KHDR_INCLUDES=-isystem {}/include",
                headers.display()
            ));
            progress::run(
                &format!("building the selftest {test} of {kernel}"),
                &make,
                0,
            )?;
        }
        Ok(())
    })?;
    let program = |(test, program)| directory.join(test).join(program);
    Ok(SELFTESTS.map(program).into())
}
