// SPDX-License-Identifier: GPL-2.0

//! Writes the series as `git format-patch` does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::series::PATCHES;
use crate::tree::Tree;

/// Who the patches are from: nobody signs them off. That is left to whoever sends them.
const AUTHOR: &str = "dmabuf-coherency maintainers <dmabuf-coherency@localhost>";

/// The standard output of a command that works.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes the series for the kernel's source, in `out`. Returns the patches, in their order, and the
/// tree with all of them.
pub fn write(checkout: &Path, source: &Path, out: &Path) -> Result<(Vec<PathBuf>, Tree)> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let out = out.canonicalize()?;
    let repository = out.join(".git-series");
    let _ = fs::remove_dir_all(&repository);
    fs::create_dir(&repository)?;
    for entry in fs::read_dir(&out)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            fs::remove_file(path)?;
        }
    }
    let written = series(checkout, source, &out, &repository);
    fs::remove_dir_all(&repository)?;
    written
}

fn series(
    checkout: &Path,
    source: &Path,
    out: &Path,
    repository: &Path,
) -> Result<(Vec<PathBuf>, Tree)> {
    // The date does not change by itself.
    let mut date = Command::new("git");
    date.arg("-C")
        .arg(checkout)
        .args(["log", "-1", "--format=%ct +0000"]);
    let date = output(&mut date).unwrap_or_else(|_| "0 +0000".into());
    let (name, email) = AUTHOR.split_once(" <").unwrap_or_default();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(repository).args(arguments);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), name);
            git.env(format!("GIT_{who}_EMAIL"), email.trim_end_matches('>'));
            git.env(format!("GIT_{who}_DATE"), date.trim());
        }
        output(&mut git)
    };
    git(&["init", "--quiet", "--initial-branch=series"])?;
    let put = |path: &str, text: &str| -> Result<()> {
        let path = repository.join(path);
        fs::create_dir_all(path.parent().context("a path of a file")?)?;
        Ok(fs::write(path, text)?)
    };

    // A first run tells which files there are to begin with.
    let mut all = Tree::new(checkout, source)?;
    for patch in PATCHES {
        all.apply(patch)?;
    }
    for path in all.files.keys() {
        if let Some(text) = all.original(path) {
            put(path, &text)?;
        }
    }
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "base"])?;
    git(&["tag", "base"])?;

    let mut tree = Tree::new(checkout, source)?;
    for patch in PATCHES {
        tree.apply(patch)?;
        for (path, text) in &tree.files {
            put(path, text)?;
        }
        let message = checkout.join(format!("tools/upstream/messages/{}.txt", patch.name));
        let message = message.display().to_string();
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", "--file", &message])
            .with_context(|| format!("patch {:?}", patch.name))?;
    }
    let written = git(&[
        "format-patch",
        "--no-signature",
        "--numbered",
        "--output-directory",
        &out.display().to_string(),
        "base",
    ])?;
    Ok((written.lines().map(PathBuf::from).collect(), tree))
}
