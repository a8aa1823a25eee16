// SPDX-License-Identifier: GPL-2.0

//! Control groups, version 2.

use crate::expect::skip;
use crate::memory::wait_until;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A control group of this test's own, removed when dropped.
pub struct Group(PathBuf);

impl Group {
    /// Makes one, unless the kernel does not have `controller`.
    pub fn new(controller: &str) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !controllers
            .split_whitespace()
            .any(|found| found == controller)
        {
            return skip(format!("no {controller} controller in /sys/fs/cgroup"));
        }
        fs::write(
            root.join("cgroup.subtree_control"),
            format!("+{controller}"),
        )
        .context("subtree_control")?;
        let path = root.join(format!("dmabuf_coherency.{}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.0.join(file);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.0.join(file);
        fs::write(&path, text).with_context(|| format!("{}: {text}", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes that have ended take a while to leave.
        let removed = wait_until(Duration::from_secs(5), || {
            Ok(fs::remove_dir(&self.0).is_ok())
        });
        if !matches!(removed, Ok(true)) {
            println!("leaving {} behind", self.0.display());
        }
    }
}
