// SPDX-License-Identifier: GPL-2.0

//! The tests that need no guest: `cargo test` of the workspace, the messages about
//! kernels that the module cannot be built for, and what make installs and packs.

use crate::command::{self, output, unless_done};
use crate::group::Group;
use crate::kit::Kits;
use crate::results::{Case, Verdict};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use vm::Arch;

const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");

pub fn groups() -> Vec<Group> {
    vec![
        Group::new("host", "unit tests of the tools, on this machine", |_| {
            run()
        }),
        Group::new("kdir", "messages about build trees that do not fit", |_| {
            unfit()
        }),
        Group::new(
            "install",
            "the files that make install installs, and make uninstall removes",
            install,
        ),
        Group::new("dist", "the archive of the source", |_| dist()),
        Group::new(
            "publish",
            "the crate dmaheap as cargo would publish it",
            |_| publish(),
        ),
    ]
}

/// What is wrong with a build tree, a line for its configuration, and a part of the message
/// that has to come. Each line fixes the problem of the entry before.
const UNFIT: &[(&str, &str, &str)] = &[
    ("rust", "", "built without Rust"),
    ("heaps", "CONFIG_RUST=y\n", "no DMA heaps"),
    (
        "architecture",
        "CONFIG_DMABUF_HEAPS=y\n",
        "neither for x86_64 nor for arm64",
    ),
    (
        "metadata",
        "CONFIG_X86_64=y\n",
        "Rust metadata is missing (rust/libcore.rmeta)",
    ),
];

/// The files of a kernel's Rust crates in a package of headers.
const METADATA: [&str; 14] = [
    "include/generated/rustc_cfg",
    "rust/libbindings.rmeta",
    "rust/libbuild_error.rmeta",
    "rust/libcompiler_builtins.rmeta",
    "rust/libcore.rmeta",
    "rust/libffi.rmeta",
    "rust/libkernel.rmeta",
    "rust/libmacros.so",
    "rust/libpin_init.rmeta",
    "rust/libpin_init_internal.so",
    "rust/libuapi.rmeta",
    "rust/libzerocopy.rmeta",
    "rust/libzerocopy_derive.so",
    "scripts/target.json",
];

/// `make KDIR=` fails, and says in a sentence why the tree is unfit.
fn unfit() -> Result<Vec<Case>> {
    let root = std::env::temp_dir().join(format!("kdir.{}", std::process::id()));
    let mut cases = vec![refused("missing", &root, "there is no such directory")?];
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a path without a directory")?)?;
        fs::write(path, text).context("writing a build tree")
    };
    write("Makefile", "")?;
    cases.push(refused("empty", &root, "not the build tree")?);
    let mut config = String::new();
    write("include/config/auto.conf", &config)?;
    write("include/config/kernel.release", "7.1.9")?;
    cases.push(refused(
        "version",
        &root,
        "and the module is for 7.3 and 7.2",
    )?);
    write("include/config/kernel.release", "7.3.4+deb13-amd64")?;
    for (name, line, expected) in UNFIT {
        config += line;
        write("include/config/auto.conf", &config)?;
        cases.push(refused(name, &root, expected)?);
    }
    for path in METADATA {
        write(path, "")?;
    }
    for path in METADATA {
        fs::remove_file(root.join(path))?;
        let expected = format!("Rust metadata is missing ({path})");
        cases.push(refused(path, &root, &expected)?);
        write(path, "")?;
    }
    config += "CONFIG_RUSTC_VERSION_TEXT=\"rustc 1.0.0\"\n";
    write("include/config/auto.conf", &config)?;
    cases.push(refused("rustc", &root, "built with rustc 1.0.0, and")?);
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = String::from_utf8(rustc.context("running rustc")?.stdout)?;
    config = config.replace("rustc 1.0.0", rustc.trim_end()) + "CONFIG_GCC_VERSION=990100\n";
    write("include/config/auto.conf", &config)?;
    cases.push(refused("gcc", &root, "built with GCC 99 for x86_64")?);
    config += "CONFIG_CC_IS_CLANG=y\nCONFIG_CLANG_VERSION=990100\n";
    write("include/config/auto.conf", &config)?;
    cases.push(refused("clang", &root, "built with clang 99")?);

    config = config.replace("CLANG_VERSION=99", &format!("CLANG_VERSION={}", clang()?));
    write("include/config/auto.conf", &config)?;
    cases.push(homeless(&root)?);
    cases.push(other_source(&root)?);
    fs::remove_dir_all(&root)?;
    Ok(cases)
}

/// A tree that is fit, used without a home directory, as when packages are installed.
fn homeless(tree: &Path) -> Result<Case> {
    let mut kdir = Command::new(vm::checkout().join("tools/kdir"));
    for name in ["HOME", "XDG_CACHE_HOME", "DMABUF_COHERENCY_CACHE"] {
        kdir.env_remove(name);
    }
    let output = output(kdir.arg(tree).env("BINDGEN", "/bin/true"))?;
    Ok(Case::judged("kdir.homeless", unless_done(&output)))
}

/// The major version of the clang that builds test kernels.
fn clang() -> Result<String> {
    let tree = vm::kernel(vm::Arch::X86_64, vm::DEFAULT)?.tree;
    let config = fs::read_to_string(tree.join(".config"))?;
    let version = config
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_CLANG_VERSION="));
    let version = version.and_then(|version| version.get(..2));
    Ok(version.context("a version of clang")?.to_owned())
}

/// Metadata must be made from source of the headers' version. Each part of a version may have
/// several digits.
fn other_source(headers: &Path) -> Result<Case> {
    let write = |path: &str, text: &str| {
        let path = headers.join(path);
        fs::create_dir_all(path.parent().context("a path without a directory")?)?;
        fs::write(path, text).context("writing headers")
    };
    write(
        "include/generated/uapi/linux/version.h",
        "#define LINUX_VERSION_CODE 459276\n#define LINUX_VERSION_MAJOR 7\n\
         #define LINUX_VERSION_PATCHLEVEL 3\n#define LINUX_VERSION_SUBLEVEL 12\n",
    )?;
    write(
        "other/Makefile",
        "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 10\n",
    )?;
    let mut metadata = Command::new(Path::new(TOP).join("tools/rust-metadata"));
    metadata.arg(headers);
    metadata.args(["other", "made"].map(|name| headers.join(name)));
    let expected = format!("{} is Linux 7.3.12, and ", headers.display());
    let problem = unless_refused(&output(&mut metadata)?, &expected);
    Ok(Case::judged("kdir.other_source", problem))
}

fn refused(name: &str, tree: &Path, expected: &str) -> Result<Case> {
    let output = make(&[], &[("KDIR", tree)])?;
    Ok(Case::judged(
        format!("kdir.{name}"),
        unless_refused(&output, expected),
    ))
}

/// Runs `make` with targets and variables that are paths.
fn make(targets: &[&str], variables: &[(&str, &Path)]) -> Result<Output> {
    make_in(Path::new(TOP), targets, variables)
}

fn make_in(source: &Path, targets: &[&str], variables: &[(&str, &Path)]) -> Result<Output> {
    let mut make = command::make(source);
    make.args(targets);
    for (name, value) in variables {
        make.arg(format!("{name}={}", value.display()));
    }
    output(&mut make)
}

fn unless_refused(output: &Output, expected: &str) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    (output.status.success() || !said.contains(expected)).then(|| {
        format!(
            "expected it to fail with `{expected}`, got {}:\n{said}",
            output.status
        )
    })
}

/// The files that are installed beside the module: path, mode, and the file of the source
/// that it is a copy of.
const INSTALLED: [(&str, u32, Option<&str>); 18] = [
    ("usr/bin/dmaheap", 0o755, None),
    (
        "usr/include/dmaheap.h",
        0o644,
        Some("tools/dmaheap/capi/dmaheap.h"),
    ),
    (
        "usr/include/linux/dmabuf_coherency.h",
        0o644,
        Some("include/uapi/linux/dmabuf_coherency.h"),
    ),
    ("usr/lib/libdmaheap.a", 0o644, None),
    ("usr/lib/libdmaheap.so", 0o644, None),
    ("usr/lib/libdmaheap.so.0", 0o644, None),
    (
        concat!("usr/lib/libdmaheap.so.", env!("CARGO_PKG_VERSION")),
        0o644,
        None,
    ),
    ("usr/lib/pkgconfig/libdmaheap.pc", 0o644, None),
    (
        "usr/lib/udev/rules.d/60-dmabuf-coherency.rules",
        0o644,
        Some("tools/udev/60-dmabuf-coherency.rules"),
    ),
    ("usr/share/bash-completion/completions/dmaheap", 0o644, None),
    (
        "usr/share/fish/vendor_completions.d/dmaheap.fish",
        0o644,
        None,
    ),
    (
        "usr/share/doc/dmaheap/dmaheap.rst",
        0o644,
        Some("Documentation/dmaheap.rst"),
    ),
    (
        "usr/share/man/man1/dmaheap.1",
        0o644,
        Some("tools/dmaheap/man/dmaheap.1"),
    ),
    (
        "usr/share/man/man3/libdmaheap.3",
        0o644,
        Some("tools/dmaheap/capi/libdmaheap.3"),
    ),
    (
        "usr/share/man/man4/dmabuf_coherency.4",
        0o644,
        Some("Documentation/dmabuf_coherency.4"),
    ),
    ("usr/share/zsh/site-functions/_dmaheap", 0o644, None),
    (
        "usr/src/dmabuf_coherency/include/linux/dmabuf_coherency.h",
        0o644,
        Some("include/linux/dmabuf_coherency.h"),
    ),
    (
        "usr/src/dmabuf_coherency/include/uapi/linux/dmabuf_coherency.h",
        0o644,
        Some("include/uapi/linux/dmabuf_coherency.h"),
    ),
];

fn install(kits: &Kits) -> Result<Vec<Case>> {
    let root = std::env::temp_dir().join(format!("install.{}", std::process::id()));
    fs::create_dir_all(&root)?;
    let cases = install_in(&root, &vm::kernel(Arch::X86_64, kits.kernel())?.tree);
    fs::remove_dir_all(&root)?;
    cases
}

fn install_in(root: &Path, kdir: &Path) -> Result<Vec<Case>> {
    let release = fs::read_to_string(kdir.join("include/config/kernel.release"))?;
    let module = format!(
        "lib/modules/{}/updates/dmabuf_coherency.ko",
        release.trim_end()
    );
    let (destdir, mo) = (root.join("destdir"), root.join("mo"));
    fs::create_dir_all(&mo)?;
    fs::create_dir_all(&destdir)?;
    let all = [("KDIR", kdir), ("MO", &mo), ("DESTDIR", &destdir)];
    let mut cases = Vec::new();
    let mut judge =
        |name: &str, problem| cases.push(Case::judged(format!("install.{name}"), problem));
    let left = |expected: &[&str]| -> Result<Option<String>> {
        let found: Vec<String> = files(&destdir)?.into_keys().collect();
        Ok((found != expected).then(|| format!("expected {expected:?}, found {found:?}")))
    };

    // A command that fails leaves nothing behind.
    let other = root.join("other");
    let arch = if cfg!(target_arch = "x86_64") {
        "ARM64"
    } else {
        "X86_64"
    };
    fs::create_dir_all(other.join("include/config"))?;
    fs::write(
        other.join("include/config/auto.conf"),
        format!("CONFIG_{arch}=y\n"),
    )?;
    for (name, target, kdir, expected) in [
        (
            "no_kernel",
            "install",
            root.join("nothing"),
            "no such directory",
        ),
        (
            "no_kernel_to_remove_from",
            "uninstall",
            root.join("nothing"),
            "Of which kernel?",
        ),
        (
            "other_architecture",
            "install",
            other.clone(),
            "dmaheap would be for this machine",
        ),
        (
            "other_architecture_tools",
            "tools_install",
            other,
            "dmaheap would be for this machine",
        ),
    ] {
        let output = make(&[target], &[("KDIR", &kdir), ("DESTDIR", &destdir)])?;
        judge(name, unless_refused(&output, expected).or(left(&[])?));
    }
    let path = without_cc(&root.join("bin"))?;
    let output = make(
        &["tools_install"],
        &[("DESTDIR", &destdir), ("PATH", &path)],
    )?;
    judge(
        "no_cc",
        unless_refused(&output, "There is no cc").or(left(&[])?),
    );

    // It installs everything without a prior make.
    judge("install", unless_done(&make(&["install"], &all)?));
    let mut found = files(&destdir)?;
    let built = fs::read(mo.join("dmabuf_coherency.ko"))?;
    judge(
        "module",
        differs(found.remove(&module), 0o644, Some(&built)),
    );
    for (path, mode, source) in INSTALLED {
        let source = source.map(|source| fs::read(Path::new(TOP).join(source)));
        let source = source.transpose()?;
        judge(path, differs(found.remove(path), mode, source.as_deref()));
    }
    let others: Vec<String> = found.into_keys().collect();
    judge(
        "nothing_else",
        (!others.is_empty()).then(|| format!("found {others:?}")),
    );

    // The module and the tools can be removed separately. Files that are not ours stay.
    judge(
        "modules_uninstall",
        unless_done(&make(&["modules_uninstall"], &all)?),
    );
    let gone = !destdir.join(&module).exists() && destdir.join("usr/bin/dmaheap").exists();
    judge(
        "only_module_removed",
        (!gone).then(|| format!("{:?}", files(&destdir))),
    );
    let foreign = ["usr/bin/other", "usr/src/dmabuf_coherency/Module.symvers"];
    for path in foreign {
        fs::write(destdir.join(path), "")?;
    }
    judge("uninstall", unless_done(&make(&["uninstall"], &all)?));
    judge("nothing_left", left(&foreign)?);
    for path in foreign {
        fs::remove_file(destdir.join(path))?;
    }
    judge(
        "modules_install",
        unless_done(&make(&["modules_install"], &all)?),
    );
    judge("only_module", left(&[&module])?);
    judge(
        "uninstall_module",
        unless_done(&make(&["uninstall"], &all)?),
    );
    judge("no_module_left", left(&[])?);
    Ok(cases)
}

/// An unpacked archive makes the same archive again, without git and after a build.
fn dist() -> Result<Vec<Case>> {
    let root = std::env::temp_dir().join(format!("dist.{}", std::process::id()));
    let source = root.join("source");
    fs::create_dir_all(&source)?;
    let made = make(&["dist"], &[("OUT", &root)])?;
    let mut cases = vec![Case::judged("dist.made", unless_done(&made))];
    let name = format!("dmabuf-coherency-{}.tar.xz", env!("CARGO_PKG_VERSION"));
    let archive = root.join(&name);
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(&archive).arg("-C").arg(&source);
    let unpacked = output(unpack.arg("--strip-components=1"))?;
    cases.push(Case::judged("dist.unpacked", unless_done(&unpacked)));
    fs::write(source.join("rust/helpers.o"), "")?;
    let again = make_in(&source, &["dist"], &[])?;
    let problem = match unless_done(&again) {
        None if fs::read(source.join("out").join(&name))? == fs::read(&archive)? => None,
        None => Some("the archive that it makes differs from the one that it came from".into()),
        problem => problem,
    };
    cases.push(Case::judged("dist.same_again", problem));
    fs::remove_dir_all(&root)?;
    Ok(cases)
}

/// How cargo's messages begin if it cannot reach the registry.
const NO_REGISTRY: [&str; 2] = [
    "error: download of config.json failed",
    "error: attempting to make an HTTP request, but --offline",
];

/// Runs all steps of publishing the crate except the last. The crate must have what a registry asks
/// for. The files that would be published must compile with the registry's own dependencies.
fn publish() -> Result<Vec<Case>> {
    let mut cargo = Command::new(Path::new(TOP).join("tools/vm/cargo"));
    cargo.args(["publish", "--dry-run", "--allow-dirty", "--locked"]);
    let output = output(cargo.args(["--package", "dmaheap"]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let is_unreachable = |line: &str| NO_REGISTRY.iter().any(|start| line.starts_with(start));
    Ok(vec![match said.lines().find(|line| is_unreachable(line)) {
        Some(line) => Case::new("publish", Verdict::Skipped, line),
        None => Case::judged("publish", unless_done(&output)),
    }])
}

/// The files below a directory, with mode and content.
fn files(directory: &Path) -> Result<BTreeMap<String, (u32, Vec<u8>)>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            let name = path.strip_prefix(directory)?.display().to_string();
            files.insert(name, (mode, fs::read(&path)?));
        }
    }
    Ok(files)
}

/// What is wrong with a file. It must have this mode and text, or any text if none is given.
fn differs(file: Option<(u32, Vec<u8>)>, mode: u32, text: Option<&[u8]>) -> Option<String> {
    match file {
        None => Some("it is not there".into()),
        Some((found, _)) if found != mode => Some(format!("its mode is {found:o}, not {mode:o}")),
        Some((_, found)) if found.is_empty() => Some("it is empty".into()),
        Some((_, found)) if text.is_some_and(|text| text != found) => {
            Some("it is not what the source has".into())
        }
        Some(_) => None,
    }
}

/// Makes a directory with all programs of the machine except those that link or install
/// programs.
fn without_cc(directory: &Path) -> Result<std::path::PathBuf> {
    fs::create_dir_all(directory)?;
    for place in ["/bin", "/usr/bin"] {
        for entry in fs::read_dir(place)? {
            let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
            if !["cc", "apt-get"].iter().any(|missing| name == *missing) {
                // It may be in both places.
                let _ = symlink(path, directory.join(name));
            }
        }
    }
    Ok(directory.to_owned())
}

fn run() -> Result<Vec<Case>> {
    let cargo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vm/cargo");
    let output = Command::new(cargo)
        .args(["test", "--locked", "--workspace", "--all-features"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {cargo}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut cases = parse(&text);
    let complaint = || format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let problem = if !output.status.success() {
        Some(complaint())
    } else if cases.is_empty() {
        Some(format!("expected tests, there were none:\n{}", complaint()))
    } else {
        None
    };
    cases.push(Case::judged("cargo test", problem));
    Ok(cases)
}

/// Reads the results of Rust's test programs.
fn parse(text: &str) -> Vec<Case> {
    let results = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.rsplit_once(" ... "));
    results
        .filter_map(|(name, result)| {
            let verdict = match result.split(',').next()? {
                "ok" => Verdict::Passed,
                "ignored" => Verdict::Skipped,
                "FAILED" => Verdict::Failed,
                _ => return None,
            };
            Some(Case::new(name, verdict, ""))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_libtest_are_read() {
        let text = "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\n\
            test d ... ignored, too slow\n\ntest result: FAILED. 1 passed; 1 failed\n";
        let verdicts: Vec<_> = parse(text).into_iter().map(|case| case.verdict).collect();
        assert_eq!(
            verdicts,
            [Verdict::Passed, Verdict::Failed, Verdict::Skipped]
        );
    }
}
