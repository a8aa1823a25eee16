// SPDX-License-Identifier: GPL-2.0

//! The tests that need no guest: `cargo test` of the workspace, and what is
//! said of kernels that the module cannot be built for.

use crate::group::Group;
use crate::results::{Case, Verdict};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn groups() -> Vec<Group> {
    vec![
        Group::new("host", "unit tests of the tools, on this machine", |_| {
            run()
        }),
        Group::new("kdir", "build trees that do not fit", |_| unfit()),
    ]
}

/// What is wrong with a build tree, by what its configuration says, and what
/// has to be said about it. Each line of the configuration mends one thing.
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

/// What there is of a kernel's Rust crates in packages of headers.
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

/// `make KDIR=` says in a sentence what makes a tree unfit, and fails.
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
    write("include/config/kernel.release", "7.2.9")?;
    cases.push(refused("version", &root, "and the module is for 7.3")?);
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
    fs::remove_dir_all(&root)?;
    Ok(cases)
}

fn refused(name: &str, tree: &Path, expected: &str) -> Result<Case> {
    let output = Command::new("make")
        .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/../../..")])
        .arg(format!("KDIR={}", tree.display()))
        .stdin(Stdio::null())
        .output()
        .context("running make")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let problem = (output.status.success() || !said.contains(expected)).then(|| {
        format!(
            "expected it to fail with `{expected}`, got {}:\n{said}",
            output.status
        )
    });
    Ok(Case::judged(format!("kdir.{name}"), problem))
}

fn run() -> Result<Vec<Case>> {
    let cargo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vm/cargo");
    let output = Command::new(cargo)
        .args(["test", "--locked", "--workspace"])
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
