// SPDX-License-Identifier: GPL-2.0

//! Control groups, version 2.

use crate::expect::skip;
use crate::memory::wait_until;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where all groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// Moves this process into the group at `path`.
pub fn enter(path: &Path) -> Result<()> {
    take(path, 0)
}

/// Takes a process out of its group.
pub fn leave(pid: u32) -> Result<()> {
    take(Path::new(ROOT), pid)
}

/// Takes a process into the group at `path`; 0 is this one.
fn take(path: &Path, pid: u32) -> Result<()> {
    let procs = path.join("cgroup.procs");
    fs::write(&procs, pid.to_string()).with_context(|| format!("{}: {pid}", procs.display()))
}

/// A control group of this test's own, removed when dropped.
pub struct Group(PathBuf);

impl Group {
    /// Makes one, unless the kernel does not have `controller`.
    pub fn new(controller: &str) -> Result<Self> {
        let root = Path::new(ROOT);
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !controllers
            .split_whitespace()
            .any(|found| found == controller)
        {
            return skip(format!("no {controller} controller in {ROOT}"));
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

    /// Takes this process in, until what is returned is dropped.
    pub fn join(&self) -> Result<Member> {
        let own = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let before = Path::new(ROOT).join(own.context("expected a control group of version 2")?);
        enter(&self.0)?;
        Ok(Member { before })
    }

    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.0.join(file);
        fs::write(&path, text).with_context(|| format!("{}: {text}", path.display()))
    }
}

/// This process, in a [`Group`]; where it was before, when dropped.
pub struct Member {
    before: PathBuf,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.before) {
            println!("cannot go back: {error:#}");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes that have ended take a while to leave.
        let removed = wait_until(Duration::from_secs(20), || {
            Ok(fs::remove_dir(&self.0).is_ok())
        });
        if !matches!(removed, Ok(true)) {
            println!("leaving {} behind", self.0.display());
        }
    }
}
