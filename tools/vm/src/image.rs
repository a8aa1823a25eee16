// SPDX-License-Identifier: GPL-2.0

//! The initramfs of guests: a base for each kernel, which is kept, and the files
//! that a single run adds.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use cpio::newc::{self, ModeFileType};

use crate::{busybox, cache, kernel::Kernel, module, progress, toolchain};

/// Where our modules lie in a guest, below `/lib/modules/<release>`.
const UPDATES: &str = "updates";

/// A kernel, and the initramfs that its guests start from.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) kernel: Kernel,
    pub(crate) initramfs: PathBuf,
}

impl Image {
    /// Builds our modules for `kernel`, and the initramfs that holds them.
    ///
    /// All later guests use it, in this process and in others.
    pub fn new(kernel: &Kernel) -> Result<Self> {
        let busybox = busybox::get(kernel.arch)?;
        let ours = module::all(kernel)?;
        let name = format!("images/{}-{}", kernel.key, module::checkout_key());
        let dir = cache::subdir(&name)?;
        let _lock = cache::lock(&name)?;

        let initramfs = dir.join("initramfs.cpio");
        let root = dir.join("root");
        let modules = root.join("lib/modules").join(&kernel.release);
        // A stamp of its own, as an interrupted installation leaves some modules behind.
        let installed = dir.join("installed");
        if let Some(stock) = &kernel.stock {
            fs::create_dir_all(&modules)?;
            stock.install(&kernel.release, &ours, &modules)?;
        } else if !installed.exists() {
            progress::run(
                &format!("installing the modules of {kernel}"),
                kernel
                    .make()?
                    .arg("modules_install")
                    .arg(format!("INSTALL_MOD_PATH={}", root.display()))
                    .args(["INSTALL_MOD_STRIP=1", "DEPMOD=true"]),
                0,
            )?;
            fs::write(&installed, "")?;
        }

        let index = modules.join("modules.dep");
        fs::create_dir_all(modules.join(UPDATES))?;
        for ko in &ours {
            let to = modules
                .join(UPDATES)
                .join(ko.file_name().unwrap_or_default());
            let content = fs::read(ko).with_context(|| ko.display().to_string())?;
            if fs::read(&to).ok().as_ref() != Some(&content) {
                if index.exists() {
                    fs::remove_file(&index)?;
                }
                fs::write(&to, content)?;
            }
        }
        if !index.exists() {
            let mut depmod = Command::new(toolchain::depmod()?);
            depmod.arg("-b").arg(&root).arg(&kernel.release);
            progress::run(&format!("indexing the modules of {kernel}"), &depmod, 0)?;
        }

        let mut archive = Archive::new(Vec::new());
        archive.file("init", 0o755, include_bytes!("../init.sh"))?;
        archive.add(&busybox, "bin/busybox")?;
        archive.symlink("bin/sh", b"busybox")?;
        archive.add(&root.join("lib"), "lib")?;
        cache::replace(&initramfs, &archive.finish()?)?;
        Ok(Self {
            kernel: kernel.clone(),
            initramfs,
        })
    }
}

impl Image {
    /// Whether guests have this module of ours.
    pub fn has_module(&self, name: &str) -> bool {
        let modules = self.initramfs.with_file_name("root/lib/modules");
        let path = modules.join(&self.kernel.release).join(UPDATES).join(name);
        path.with_extension("ko").exists()
    }
}

/// A file or directory of the host for the guest.
#[derive(Clone, Debug)]
pub struct Add {
    from: PathBuf,
    to: String,
}

impl Add {
    /// Makes `from` of the host `to` of the guest. If `to` is empty, it is `/<name>`.
    pub fn new(from: impl Into<PathBuf>, to: &str) -> Result<Self> {
        let from = from.into();
        let Some(name) = from.file_name() else {
            bail!(
                "{} has no file name: name a file or directory, as in --add FILE:DEST",
                from.display()
            );
        };
        if !from.exists() {
            bail!(
                "there is no {} to add to the guest: name another file",
                from.display()
            );
        }
        let name = name.to_string_lossy();
        let to = match to.trim_start_matches('/') {
            "" => name.into_owned(),
            directory if directory.ends_with('/') => format!("{directory}{name}"),
            path => path.to_owned(),
        };
        Ok(Self { from, to })
    }

    /// Parses `FILE[:DEST]`. If a file has the whole text as its name, it is that file.
    pub fn parse(text: &str) -> Result<Self> {
        match text.rsplit_once(':') {
            Some((from, to)) if !Path::new(text).exists() => Self::new(from, to),
            _ => Self::new(text, ""),
        }
    }
}

/// The form that [`Add::parse`] takes.
impl fmt::Display for Add {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:/{}", self.from.display(), self.to)
    }
}

/// Writes the initramfs of one run to `to`: `image`, then what is `added`, and
/// the small files whose names in `/vm` and contents are `files`.
pub(crate) fn write(
    image: &Image,
    added: &[Add],
    files: &[(&str, &[u8])],
    to: &Path,
) -> Result<()> {
    let mut output = BufWriter::new(File::create(to)?);
    io::copy(&mut File::open(&image.initramfs)?, &mut output)?;
    let mut archive = Archive::new(output);
    for add in added {
        archive.add(&add.from, &add.to)?;
    }
    for (name, content) in files {
        archive.file(&format!("vm/{name}"), 0o644, content)?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

/// An initramfs that is being written.
struct Archive<W: Write> {
    output: W,
    directories: BTreeSet<String>,
    inodes: u32,
}

impl<W: Write> Archive<W> {
    fn new(output: W) -> Self {
        Self {
            output,
            directories: BTreeSet::new(),
            inodes: 0,
        }
    }

    /// Adds a file, or a directory with all that is in it.
    fn add(&mut self, from: &Path, to: &str) -> Result<()> {
        let context = || format!("cannot add {} to the guest", from.display());
        let metadata = fs::metadata(from).with_context(context)?;
        if !metadata.is_dir() {
            let content = fs::read(from).with_context(context)?;
            return self.file(to, metadata.permissions().mode(), &content);
        }
        self.directory(to)?;
        let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let to = format!("{to}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_symlink() {
                let target = fs::read_link(entry.path())?;
                self.symlink(&to, target.as_os_str().as_bytes())?;
            } else {
                self.add(&entry.path(), &to)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.entry(path, ModeFileType::Regular, mode, content)
    }

    fn symlink(&mut self, path: &str, target: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.entry(path, ModeFileType::Symlink, 0o777, target)
    }

    fn directory(&mut self, path: &str) -> Result<()> {
        self.parents(path)?;
        if self.directories.insert(path.to_owned()) {
            self.entry(path, ModeFileType::Directory, 0o755, b"")?;
        }
        Ok(())
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, kind: ModeFileType, mode: u32, content: &[u8]) -> Result<()> {
        self.inodes += 1;
        let mut writer = newc::Builder::new(path)
            .ino(self.inodes)
            .mode(mode & 0o7777)
            .set_mode_file_type(kind)
            .write(&mut self.output, content.len().try_into()?);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(self) -> Result<W> {
        Ok(newc::trailer(self.output)?)
    }
}
