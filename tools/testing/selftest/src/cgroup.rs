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

/// Moves a process into the group at `path`. Process 0 is this one.
fn take(path: &Path, pid: u32) -> Result<()> {
    let procs = path.join("cgroup.procs");
    fs::write(&procs, pid.to_string()).with_context(|| format!("{}: {pid}", procs.display()))
}

/// A control group for this test. Dropping it removes the group.
pub struct Group(PathBuf);

impl Group {
    /// Makes a group with `controller`. Skips the test if the kernel does not have that.
    pub fn new(controller: &str) -> Result<Self> {
        let root = Path::new(ROOT);
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !controllers
            .split_whitespace()
            .any(|found| found == controller)
        {
            return skip(format!(
                "no {controller} controller in {ROOT}: mount cgroup2, on a kernel that has it"
            ));
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

    /// Moves this process into the group, until the result is dropped.
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

/// This process as a member of a [`Group`]. Dropping this moves it back.
pub struct Member {
    before: PathBuf,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.before) {
            println!("cannot go back to the group of before: {error:#}");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes that have ended leave the group a little later.
        let removed = wait_until(Duration::from_secs(20), || {
            Ok(fs::remove_dir(&self.0).is_ok())
        });
        if !matches!(removed, Ok(true)) {
            println!("cannot remove {}", self.0.display());
        }
    }
}
