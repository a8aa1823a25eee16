// SPDX-License-Identifier: GPL-2.0

//! Sets up whatever is missing, and announces it beforehand.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::{
    arch::Arch,
    busybox, cache, debian, kernel,
    progress::{self, say},
    root, series, source, stock, toolchain,
};

/// Something that is missing.
struct Step {
    what: String,
    /// How large it is, in words.
    size: String,
    minutes: u32,
}

/// Sets up everything that guests of these architectures need, and builds or fetches
/// their kernels of this name. With `dry_run` it only announces what it would do.
pub fn setup(archs: &[Arch], kernel: &str, dry_run: bool) -> Result<()> {
    let builder = Builder::of(kernel)?;
    let mut steps = toolchain(archs, builder)?;
    steps.extend(match builder {
        Builder::Llvm => kernels(archs, kernel)?,
        Builder::Debian => stock_kernels(archs, kernel)?,
    });
    for &arch in archs {
        if !busybox::item(arch)?.is_complete() {
            let what = format!("busybox for {arch}, from Debian");
            steps.push(Step {
                what,
                size: "10 MB to download".into(),
                minutes: 0,
            });
        }
    }
    announce(&steps)?;
    if dry_run {
        return Ok(());
    }
    install(archs, builder)?;
    for &arch in archs {
        match builder {
            Builder::Llvm => kernel::build(arch, kernel)?,
            Builder::Debian => kernel::kernel(arch, kernel)?,
        };
        busybox::get(arch)?;
    }
    say("everything is set up");
    Ok(())
}

/// Announces what building a kernel takes, and sets up all but the kernel.
pub(crate) fn prepare(arch: Arch, kernel: &str) -> Result<()> {
    let mut steps = toolchain(&[arch], Builder::Llvm)?;
    steps.extend(kernels(&[arch], kernel)?);
    announce(&steps)?;
    install(&[arch], Builder::Llvm)
}

/// The compilers of kernels and modules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Builder {
    /// This machine's LLVM and Rust.
    Llvm,
    /// Debian's own compilers, which come with its kernels.
    Debian,
}

impl Builder {
    fn of(kernel: &str) -> Result<Self> {
        Ok(match stock::parse(kernel)? {
            Some(_) => Self::Debian,
            None => Self::Llvm,
        })
    }
}

/// Steps for those of Debian's kernels that are missing, and for what their modules need.
fn stock_kernels(archs: &[Arch], kernel: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut step = |what: String, size: &str, minutes| {
        steps.push(Step {
            what,
            size: size.into(),
            minutes,
        });
    };
    let wanted = stock::parse(kernel)?.flatten();
    let mut missing = Vec::new();
    for &arch in archs {
        if stock::find(arch, wanted)?.is_none() {
            missing.push(arch);
        }
    }
    if !root::KERNELS.item()?.is_complete() {
        let what = "the compilers of Debian's kernels".into();
        step(what, "250 MB to download, 1.5 GB on disk", 1);
    }
    if !missing.is_empty() {
        let series = wanted.unwrap_or(series::newest());
        let what = format!("source of Linux {series}, from Debian");
        step(what, "166 MB to download, 1.8 GB on disk", 1);
    }
    for arch in missing {
        let what = format!("Debian's own kernel for {arch}, and its Rust metadata");
        step(what, "130 MB to download, 500 MB on disk", 3);
    }
    Ok(steps)
}

/// The source of the newest kernel. Sets up all that building a kernel takes.
pub fn kernel_source(arch: Arch) -> Result<PathBuf> {
    announce(&toolchain(&[arch], Builder::Llvm)?)?;
    install(&[arch], Builder::Llvm)?;
    Ok(source::get()?.directory)
}

/// Steps for the source and the kernels that are missing.
fn kernels(archs: &[Arch], name: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if source::find()?.is_none() {
        let what = format!("source of Linux {}, from Debian", series::newest());
        let size = "166 MB to download, 1.8 GB on disk".into();
        steps.push(Step {
            what,
            size,
            minutes: 2,
        });
    }
    for &arch in archs {
        if !kernel::is_cached(arch, name)? {
            let what = format!("test kernel {name} for {arch}");
            let size = format!("{} MB on disk", kernel::megabytes_needed(name));
            steps.push(Step {
                what,
                size,
                minutes: if name == kernel::DEBUG { 20 } else { 9 },
            });
        }
    }
    Ok(steps)
}

/// Steps for the parts of the toolchain that are missing.
fn toolchain(archs: &[Arch], builder: Builder) -> Result<Vec<Step>> {
    if toolchain::find("rustc").is_none() {
        bail!("there is no rustc: install Rust by rustup, or your distribution's rustc and cargo");
    }
    let mut steps = Vec::new();
    let packages = packages(archs, builder);
    if !packages.is_empty() {
        let what = format!("packages: {}", packages.join(" "));
        steps.push(Step {
            what,
            size: apt_size(&packages),
            minutes: 2,
        });
    }
    if !toolchain::library_source_is_complete()? {
        let what = "rust-src, the source of Rust's core".into();
        steps.push(Step {
            what,
            size: "45 MB to download".into(),
            minutes: 1,
        });
    }
    if builder == Builder::Llvm && !toolchain::bindgen_is_complete()? {
        let what = "bindgen, built from crates.io".into();
        steps.push(Step {
            what,
            size: "20 MB".into(),
            minutes: 1,
        });
    }
    Ok(steps)
}

fn announce(steps: &[Step]) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    say(&format!("to be set up, in {}:", cache::dir()?.display()));
    for Step { what, size, .. } in steps {
        eprintln!("      {what} ({size})");
    }
    let minutes: u32 = steps.iter().map(|step| step.minutes).sum();
    say(&format!(
        "this takes about {} on two cores; you may interrupt it, and the next run goes on from there",
        if minutes < 2 {
            "a minute".into()
        } else {
            format!("{minutes} minutes")
        }
    ));
    Ok(())
}

fn install(archs: &[Arch], builder: Builder) -> Result<()> {
    let packages = packages(archs, builder);
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    toolchain::get_library_source()?;
    match builder {
        Builder::Llvm => toolchain::get_bindgen(),
        Builder::Debian => Ok(()),
    }
}

/// The Debian packages of the programs and files that are missing.
fn packages(archs: &[Arch], builder: Builder) -> Vec<String> {
    let llvm = if debian::is_host() {
        "-19"
    } else {
        toolchain::llvm().trim_start_matches('1')
    };
    // Each program or file, and the package that contains it.
    let mut tools: Vec<(String, String)> = [
        ("make", "make"),
        ("gcc", "gcc"),
        ("/usr/include/stdio.h", "libc6-dev"),
        ("xz", "xz-utils"),
        ("depmod", "kmod"),
        ("setpriv", "util-linux"),
    ]
    .map(|(tool, package)| (tool.into(), package.into()))
    .into();
    if builder == Builder::Llvm {
        let kernel = [
            ("/usr/include/gelf.h", "libelf-dev"),
            ("flex", "flex"),
            ("bison", "bison"),
            ("bc", "bc"),
            ("rsync", "rsync"),
            // For `make checkpatch` and `make rust-analyzer`.
            ("perl", "perl"),
            ("python3", "python3"),
            // For the tests of man pages and of Documentation/.
            ("mandoc", "mandoc"),
            ("sphinx-build", "python3-sphinx"),
        ];
        tools.extend(kernel.map(|(tool, package)| (tool.into(), package.into())));
        for (tool, package) in [("clang", "clang"), ("ld.lld", "lld"), ("llvm-ar", "llvm")] {
            tools.push((format!("{tool}{llvm}"), format!("{package}{llvm}")));
        }
    }
    if builder == Builder::Llvm && debian::is_host() {
        let library = format!("/usr/lib/llvm{llvm}/lib/libclang{llvm}.so.1");
        tools.push((library, format!("libclang1{llvm}")));
    }
    for &arch in archs {
        let package = match arch {
            Arch::X86_64 => "qemu-system-x86",
            Arch::Arm64 => "qemu-system-arm",
        };
        tools.push((arch.qemu(), package.into()));
        if !arch.is_host() {
            // Package names have no underscores.
            let gnu = format!("{}-linux-gnu", arch.gnu().replace('_', "-"));
            tools.push((arch.cc(), format!("gcc-{gnu}")));
            let library = format!("/usr/{}-linux-gnu/lib/libc.a", arch.gnu());
            tools.push((library, format!("libc6-dev-{}-cross", arch.debian())));
        }
        if arch == Arch::Arm64 {
            tools.push(("fdtput".into(), "device-tree-compiler".into()));
        }
    }
    tools.retain(|(tool, _)| toolchain::find(tool).is_none());
    tools.into_iter().map(|(_, package)| package).collect()
}

/// The size of packages in apt's words.
fn apt_size(packages: &[String]) -> String {
    let mut apt = Command::new("apt-get");
    apt.env("LC_ALL", "C")
        .args(["-o", "Debug::NoLocking=1", "install", "--assume-no"]);
    let output = apt.arg("--no-install-recommends").args(packages).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let size = |start: &str, end: &str| Some(text.split_once(start)?.1.split_once(end)?.0);
    match (
        size("Need to get ", " of archives"),
        size("After this operation, ", " of additional"),
    ) {
        (Some(download), Some(disk)) => format!("{download} to download, {disk} on disk"),
        _ => "about 150 MB to download, 800 MB on disk".into(),
    }
}

/// The names that packages of Debian have in Fedora and in Arch Linux, if they differ.
const NAMES: [(&str, &str, &str); 12] = [
    ("device-tree-compiler", "dtc", "dtc"),
    (
        "gcc-aarch64-linux-gnu",
        "gcc-aarch64-linux-gnu",
        "aarch64-linux-gnu-gcc",
    ),
    (
        "gcc-x86-64-linux-gnu",
        "gcc-x86_64-linux-gnu",
        "x86_64-linux-gnu-gcc",
    ),
    ("libc6-dev", "glibc-devel", "glibc"),
    (
        "libc6-dev-amd64-cross",
        "(a C library for x86_64)",
        "(a C library for x86_64)",
    ),
    (
        "libc6-dev-arm64-cross",
        "(a C library for arm64)",
        "aarch64-linux-gnu-glibc",
    ),
    ("libelf-dev", "elfutils-libelf-devel", "libelf"),
    ("python3", "python3", "python"),
    ("python3-sphinx", "python3-sphinx", "python-sphinx"),
    (
        "qemu-system-arm",
        "qemu-system-aarch64-core",
        "qemu-system-aarch64",
    ),
    ("qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86"),
    ("xz-utils", "xz", "xz"),
];

/// The message for other systems than Debian. It names the command that installs packages, if
/// that is known for one of `families`.
fn by_hand(packages: &[String], families: &[String]) -> String {
    let of = |name: &str| families.iter().any(|family| family == name);
    let names = |column: fn(&(&str, &'static str, &'static str)) -> &'static str| {
        let name = |package: &String| {
            let known = NAMES.iter().find(|names| names.0 == package.as_str());
            known.map_or(package.clone(), |names| column(names).to_owned())
        };
        packages.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    if of("fedora") {
        format!(
            "something is missing. Run `dnf install {}`, then run this again",
            names(|names| names.1)
        )
    } else if of("arch") {
        format!(
            "something is missing. Run `pacman -S --needed {}`, then run this again",
            names(|names| names.2)
        )
    } else {
        format!(
            "something is missing: {}, by the names that Debian has for these packages. Install \
             them, then run this again",
            packages.join(" ")
        )
    }
}

/// Installs packages by apt-get, or fails if this machine does not run Debian.
fn install_packages(packages: &[String]) -> Result<()> {
    if !debian::is_host() {
        bail!("{}", by_hand(packages, &debian::families()));
    }
    let list = packages.join(" ");
    let sudo = !geteuid().is_root();
    if sudo && toolchain::find("sudo").is_none() {
        bail!("packages are missing, and there is no sudo: run `apt-get install {list}` as root");
    }
    let apt = || {
        let mut apt = Command::new(if sudo { "sudo" } else { "env" });
        apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
        apt
    };
    // Without package lists apt-get does not know the packages.
    let mut simulate = apt();
    simulate.args(["-s", "install"]).args(packages);
    if toolchain::output(&mut simulate).is_err() {
        progress::run("reading the package lists", apt().arg("update"), 0)
            .context("apt-get cannot reach its mirror: check the network, then run this again")?;
    }
    let mut install = apt();
    install
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages);
    progress::run("installing packages", &install, 0).with_context(|| {
        format!("apt-get failed: fix that, or install the packages by hand: apt-get install {list}")
    })
}

#[cfg(test)]
mod tests {
    use super::by_hand;

    #[test]
    fn other_systems_get_their_own_names() {
        let packages = ["bc", "libelf-dev", "qemu-system-arm"].map(str::to_owned);
        let said = |family: &str| by_hand(&packages, &["x".into(), family.into()]);
        assert!(
            said("fedora")
                .contains("`dnf install bc elfutils-libelf-devel qemu-system-aarch64-core`")
        );
        assert!(said("arch").contains("`pacman -S --needed bc libelf qemu-system-aarch64`"));
        assert!(said("suse").contains(": bc libelf-dev qemu-system-arm, by the names that Debian"));
    }
}
