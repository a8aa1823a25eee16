// SPDX-License-Identifier: GPL-2.0

//! The cache: everything that is downloaded or built lies below one directory
//! outside the checkout.
//!
//! An [`Item`] is a directory that takes long to make. It gets a stamp when it is
//! complete. Until then each call resumes or repeats the work, under a lock. So
//! neither an interruption nor a second process leaves an incomplete item that
//! looks complete.

use std::{
    env,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock, statvfs};
use sha2::{Digest, Sha256};

use crate::progress::say;

const STAMP: &str = ".complete";

/// The directory that everything is cached in.
pub fn dir() -> Result<PathBuf> {
    let from = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = from("DMABUF_COHERENCY_CACHE") {
        return std::path::absolute(dir).context("DMABUF_COHERENCY_CACHE");
    }
    let base = match (from("XDG_CACHE_HOME"), from("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => bail!("HOME is not set: set DMABUF_COHERENCY_CACHE to a directory"),
    };
    Ok(base.join("dmabuf-coherency"))
}

/// A subdirectory of the cache, made if it is not there yet.
pub(crate) fn subdir(name: impl AsRef<Path>) -> Result<PathBuf> {
    let path = dir()?.join(name);
    fs::create_dir_all(&path).with_context(|| {
        format!(
            "cannot make {}: set DMABUF_COHERENCY_CACHE to a directory that you can write",
            path.display()
        )
    })?;
    Ok(path)
}

/// A lock that a process holds while it makes or changes something in the cache.
pub struct Lock {
    _file: File,
}

/// Waits for the lock called `name`, and says so if that takes long.
pub fn lock(name: &str) -> Result<Lock> {
    let path = subdir("locks")?.join(name.replace('/', "-"));
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    let start = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() > Duration::from_secs(5) {
            say(&format!("waiting for another vm that works on {name}"));
            flock(&file, FlockOperation::LockExclusive)?;
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Lock { _file: file })
}

/// Something in the cache that is made once.
pub(crate) struct Item {
    name: String,
    path: PathBuf,
}

impl Item {
    /// The item at `kind/key` below the cache.
    pub(crate) fn new(kind: &str, key: &str) -> Result<Self> {
        let name = format!("{kind}/{key}");
        let path = dir()?.join(&name);
        Ok(Self { name, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.path.join(STAMP).exists()
    }

    /// Marks the item as incomplete, so that it is made again. Most of the work may
    /// be done already.
    pub(crate) fn outdate(&self) -> Result<()> {
        match fs::remove_file(self.path.join(STAMP)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Makes the item by `make` unless it is complete.
    ///
    /// `make` gets the directory. An earlier call that was interrupted may have left
    /// files there.
    pub(crate) fn make(&self, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        let _lock = lock(&self.name)?;
        if self.is_complete() {
            return Ok(());
        }
        subdir(&self.name)?;
        make(&self.path)?;
        fs::write(self.path.join(STAMP), "")?;
        Ok(())
    }
}

/// All complete items of one kind, by key.
pub(crate) fn complete(kind: &str) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    if let Ok(entries) = fs::read_dir(dir()?.join(kind)) {
        for entry in entries {
            let key = entry?.file_name().to_string_lossy().into_owned();
            if Item::new(kind, &key)?.is_complete() {
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

/// Replaces the file at `path` atomically. Readers see the old or the new content,
/// even after a crash.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    fs::write(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Fails if the cache's file system has less than `megabytes` left.
pub(crate) fn need_space(megabytes: u64, what: &str) -> Result<()> {
    let stat = statvfs(&subdir("")?)?;
    let free = stat.f_bavail * stat.f_frsize / 1_000_000;
    if free < megabytes {
        bail!(
            "{what} needs {megabytes} MB, but {} has only {free} MB left: \
             make room there, or set DMABUF_COHERENCY_CACHE to a larger disk",
            dir()?.display()
        );
    }
    Ok(())
}

/// Turns `text` into the name of an item, without the characters that are special
/// to make or to the shell.
pub(crate) fn word(text: &str) -> String {
    text.replace(['~', '+', ':'], "-")
}

/// A short hash of `parts`, for the names of items.
pub(crate) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
