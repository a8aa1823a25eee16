// SPDX-License-Identifier: GPL-2.0

//! Programs that tests run on this machine.

use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub fn output(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output();
    output.with_context(|| format!("running {command:?}"))
}

/// A make command in a source tree, which inherits nothing from a make that called us.
pub fn make(source: &Path) -> Command {
    let mut make = Command::new("make");
    make.arg("-C").arg(source);
    for name in [
        "MAKEFLAGS",
        "MAKELEVEL",
        "DESTDIR",
        "INSTALL_MOD_PATH",
        "prefix",
    ] {
        make.env_remove(name);
    }
    make
}

/// Runs a command that must not fail, and returns its output.
pub fn done(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if let Some(problem) = unless_done(&output) {
        bail!("{command:?}: {problem}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The status and output of a command, if it has failed.
pub fn unless_done(output: &Output) -> Option<String> {
    (!output.status.success()).then(|| {
        format!(
            "{}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}
