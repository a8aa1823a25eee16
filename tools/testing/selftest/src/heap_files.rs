// SPDX-License-Identifier: GPL-2.0

//! A heap's files in sysfs.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a heap. Dropping this removes a limit that a test has set.
pub struct Files(PathBuf);

fn directory(heap: &str) -> PathBuf {
    Path::new("/sys/class/dma_heap").join(heap)
}

fn text(directory: &Path, name: &str) -> Result<String> {
    let path = directory.join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.trim_end().to_owned())
}

fn number(directory: &Path, name: &str) -> Result<usize> {
    let text = text(directory, name)?;
    text.parse().with_context(|| format!("{name}: {text}"))
}

/// Reads a number of a heap, without removing its limit afterwards.
pub fn look(heap: &str, name: &str) -> Result<usize> {
    number(&directory(heap), name)
}

impl Files {
    pub fn of(heap: &str) -> Self {
        Self(directory(heap))
    }

    pub fn text(&self, name: &str) -> Result<String> {
        text(&self.0, name)
    }

    pub fn number(&self, name: &str) -> Result<usize> {
        number(&self.0, name)
    }

    pub fn set_limit(&self, text: impl ToString) -> std::io::Result<()> {
        fs::write(self.0.join("limit"), text.to_string())
    }

    /// Fails unless the heap counts so many buffers and bytes. There is no need to wait, as a buffer
    /// is counted until its memory is free.
    pub fn expect(&self, what: &str, buffers: usize, bytes: usize) -> Result<()> {
        let seen = (self.number("buffers")?, self.number("bytes")?);
        ensure!(
            seen == (buffers, bytes),
            "{what}: expected {buffers} buffers and {bytes} bytes, got {seen:?}"
        );
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if !self.number("limit").is_ok_and(|limit| limit != 0) {
            return;
        }
        if let Err(error) = self.set_limit(0) {
            println!("cannot remove the limit of {}: {error}", self.0.display());
        }
    }
}
