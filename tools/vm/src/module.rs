// SPDX-License-Identifier: GPL-2.0

//! Our own kernel modules.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{cache, kernel::Kernel, progress};

/// The checkout that this program was built from.
pub fn checkout() -> &'static Path {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    tools.and_then(Path::parent).unwrap_or(Path::new("/"))
}

/// A short name for the checkout. Each checkout has its own builds in the cache.
pub(crate) fn checkout_key() -> String {
    cache::key([checkout().as_os_str().as_encoded_bytes()])
}

/// Builds `dmabuf_coherency.ko` for a kernel, and returns its path.
pub fn module(kernel: &Kernel) -> Result<PathBuf> {
    let output = make(kernel, checkout(), "dmabuf_coherency", None)?;
    Ok(output.join("dmabuf_coherency.ko"))
}

/// Builds the module that attacks its own abstractions, from `tools/testing/attacks`.
/// Returns the directory of the output.
pub fn attacks(kernel: &Kernel) -> Result<PathBuf> {
    make(kernel, checkout(), "attacks", Some("ATTACK=guest".into()))
}

/// A change of the module's code: the path of a file below the checkout, a text that it
/// contains once, and the text that replaces it.
pub type Change = (&'static str, &'static str, &'static str);

/// The files and directories that the module is built from.
const SOURCES: [&str; 5] = [
    "Kbuild",
    "include",
    "rust",
    "tools/Cargo.toml",
    "tools/version.mk",
];

/// Builds our module with some of its code changed, and returns its path.
pub fn variant(kernel: &Kernel, name: &str, changes: &[Change]) -> Result<PathBuf> {
    let directory = cache::subdir(format!("variants/{}-{name}", checkout_key()))?;
    for path in SOURCES {
        copy(Path::new(path), &directory, changes)?;
    }
    let output = make(kernel, &directory, name, None)?;
    Ok(output.join("dmabuf_coherency.ko"))
}

/// Copies a file of the checkout, or all files in a directory, with the changes. A copy that is the
/// same already is not written, so that make does not build it again.
fn copy(path: &Path, directory: &Path, changes: &[Change]) -> Result<()> {
    let (from, to) = (checkout().join(path), directory.join(path));
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            copy(&path.join(entry?.file_name()), directory, changes)?;
        }
        return Ok(());
    }
    let mut text = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
    for (_, before, after) in changes
        .iter()
        .filter(|(changed, ..)| path == Path::new(changed))
    {
        let count = text.matches(before).count();
        if count != 1 {
            bail!(
                "{} must contain this text once, but contains it {count} times: update the \
                 change.\n{before}",
                path.display()
            );
        }
        text = text.replace(before, after);
    }
    if fs::read_to_string(&to).ok().as_ref() != Some(&text) {
        fs::create_dir_all(to.parent().unwrap_or(directory))?;
        fs::write(to, text)?;
    }
    Ok(())
}

/// Builds our module, and the modules that only tests need.
pub(crate) fn all(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let ours = make(kernel, checkout(), "dmabuf_coherency", None)?;
    let symbols = ours.join("Module.symvers");
    let symbols = format!("KBUILD_EXTRA_SYMBOLS={}", symbols.display());
    let tools = checkout().join("tools");
    let tests = make(
        kernel,
        &tools.join("testing/modules"),
        "test",
        Some(symbols),
    )?;
    let mut outputs = vec![ours, tests];
    if kernel.stock.is_some() {
        outputs.push(make(kernel, &tools.join("left-out"), "left-out", None)?);
    }
    let mut all = Vec::new();
    for output in outputs {
        // One object a line, relative to the output.
        let order = fs::read_to_string(output.join("modules.order"))?;
        let modules = order.lines();
        all.extend(modules.map(|object| output.join(object).with_extension("ko")));
    }
    Ok(all)
}

/// Builds the modules in `directory` with the kernel's build system. `variable` is one
/// more variable for make. Returns the directory of the output.
fn make(
    kernel: &Kernel,
    directory: &Path,
    name: &str,
    variable: Option<String>,
) -> Result<PathBuf> {
    let item = format!("modules/{}-{}-{name}", kernel.key, checkout_key());
    let output = cache::subdir(&item)?;
    let _lock = cache::lock(&item)?;
    progress::run(
        &format!("building the {name} module for {kernel}"),
        kernel
            .make()?
            .args(kernel.coverage.then_some("COVERAGE=1"))
            .arg(format!("M={}", directory.display()))
            .arg(format!("MO={}", output.display()))
            .args(variable),
        0,
    )?;
    Ok(output)
}
