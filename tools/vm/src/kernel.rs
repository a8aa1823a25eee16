// SPDX-License-Identifier: GPL-2.0

//! Test kernels: built from the configurations of the tree, or named by the
//! path of a build tree.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

use anyhow::{Context, Result, bail};

use crate::{
    arch::Arch,
    cache::{self, Item},
    module::checkout,
    progress, series, setup,
    source::{self, Source},
    stock::{self, Stock},
    toolchain,
};

/// The default configuration.
pub const DEFAULT: &str = "default";

/// The configuration that looks for mistakes, and an option that only such kernels have.
pub(crate) const DEBUG: &str = "debug";
const DEBUG_OPTION: &str = "CONFIG_PAGE_OWNER=y";

/// A kernel that has been built.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its architecture.
    pub arch: Arch,
    /// The name that the user gave.
    pub name: String,
    /// Its build tree.
    pub tree: PathBuf,
    /// The image that QEMU boots.
    pub(crate) image: PathBuf,
    /// The output of `uname -r`.
    pub release: String,
    /// Whether it is a debug kernel, which looks for mistakes and is slow.
    pub debug: bool,
    /// The size of its pages, in bytes.
    pub page_size: u32,
    /// Whether our module records which of its code has run.
    pub(crate) coverage: bool,
    /// Its origin, if it is Debian's.
    pub(crate) stock: Option<Stock>,
    /// Its name in the cache. Things that are made from it have the same name.
    pub(crate) key: String,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.name, self.arch)
    }
}

/// Returns the kernel called `name` for `arch`. Builds it if it is not there.
///
/// `name` is `default`, another configuration of the tree such as `debug`, the
/// path of a build tree, or `debian` for Debian's own.
pub fn kernel(arch: Arch, name: &str) -> Result<Kernel> {
    if name.contains('/') {
        return Kernel::at(arch, Path::new(name));
    }
    if let Some(wanted) = stock::parse(name)? {
        return stock::get(arch, wanted, name);
    }
    let config = Config::new(arch, name)?;
    if let Some(source) = source::find()?.filter(|source| !source.named) {
        if config.item(&source)?.is_complete() {
            return Kernel::cached(&config, &source);
        }
    }
    setup::prepare(arch, name)?;
    build(arch, name)
}

/// Builds the kernel called `name`. All else must be set up.
pub(crate) fn build(arch: Arch, name: &str) -> Result<Kernel> {
    let config = Config::new(arch, name)?;
    let source = source::get()?;
    config.build(&source)?;
    Kernel::cached(&config, &source)
}

/// About how many megabytes of disk a kernel takes.
pub(crate) fn megabytes_needed(name: &str) -> u64 {
    if name == DEBUG { 2500 } else { 500 }
}

/// The size of the pages of a kernel with these options.
pub(crate) fn page_size(has: impl Fn(&str) -> bool) -> u32 {
    if has("CONFIG_ARM64_64K_PAGES=y") {
        64 << 10
    } else if has("CONFIG_ARM64_16K_PAGES=y") {
        16 << 10
    } else {
        4 << 10
    }
}

impl Kernel {
    fn cached(config: &Config, source: &Source) -> Result<Self> {
        let item = config.item(source)?;
        Ok(Self {
            arch: config.arch,
            coverage: false,
            debug: config.options().any(|option| option == DEBUG_OPTION),
            page_size: page_size(|wanted| config.options().any(|option| option == wanted)),
            name: config.name.clone(),
            release: release(item.path())?,
            tree: item.path().to_owned(),
            image: item.path().join(config.arch.image()),
            stock: None,
            key: config.key(source)?,
        })
    }

    /// Opens a build tree that the user names.
    fn at(arch: Arch, tree: &Path) -> Result<Self> {
        let tree = std::path::absolute(tree)?;
        let shown = tree.display();
        let config = fs::read_to_string(tree.join(".config")).with_context(|| {
            format!("{shown} is not the build tree of a kernel: it has no .config")
        })?;
        let has = |option: &str| config.lines().any(|line| line == option);
        if !has(arch.config()) {
            bail!("{shown} has no kernel for {arch}: name another tree");
        }
        if !has("CONFIG_RUST=y") || !tree.join("rust/libkernel.rmeta").exists() {
            bail!(
                "{shown} has no metadata of Rust's kernel crate: it must be a full build tree, not \
                 a package of headers, with CONFIG_RUST=y"
            );
        }
        if !has("CONFIG_CC_IS_CLANG=y") {
            bail!("{shown} was built by GCC: build it with LLVM=1");
        }
        let release = release(&tree)?;
        if series::of(&release).is_none() {
            bail!(
                "{shown} is Linux {release}, but the module is not: {}",
                series::sentence()
            );
        }
        let image = tree.join(arch.image());
        let modified = fs::metadata(&image)
            .and_then(|metadata| metadata.modified())
            .with_context(|| format!("{} is missing: build the kernel first", image.display()))?;
        let age = modified
            .duration_since(UNIX_EPOCH)?
            .as_nanos()
            .to_le_bytes();
        let key = cache::key([tree.as_os_str().as_encoded_bytes(), &age]);
        let name = shown.to_string();
        Ok(Self {
            arch,
            coverage: false,
            debug: has(DEBUG_OPTION),
            page_size: page_size(has),
            name,
            release,
            key: format!("path-{key}"),
            tree,
            image,
            stock: None,
        })
    }

    /// The same kernel, with a module of ours that records which of its code has run.
    pub fn with_coverage(self) -> Self {
        Self {
            coverage: true,
            key: format!("{}-coverage", self.key),
            ..self
        }
    }

    /// Whether it is one of Debian's own.
    pub fn is_stock(&self) -> bool {
        self.stock.is_some()
    }

    /// A make command in the build tree.
    pub(crate) fn make(&self) -> Result<Command> {
        if let Some(stock) = &self.stock {
            return stock.make(&self.tree);
        }
        let mut make = toolchain::kernel_make()?;
        make.arg("-C")
            .arg(&self.tree)
            .arg(format!("ARCH={}", self.arch));
        Ok(make)
    }

    /// A command that finds the compilers that built the kernel.
    pub fn command(&self, program: &str) -> Result<Command> {
        match &self.stock {
            Some(stock) => stock.command(program),
            None => Ok(Command::new(program)),
        }
    }

    /// The source that it was built from.
    pub(crate) fn source(&self) -> PathBuf {
        if let Some(stock) = &self.stock {
            return stock.source.clone();
        }
        let source = self.tree.join("source");
        if source.exists() {
            source
        } else {
            self.tree.clone()
        }
    }
}

pub(crate) fn release(tree: &Path) -> Result<String> {
    let file = tree.join("include/config/kernel.release");
    let release = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    Ok(release.trim().to_owned())
}

/// A configuration of the tree for one architecture.
pub(crate) struct Config {
    arch: Arch,
    name: String,
    fragments: String,
}

impl Config {
    pub(crate) fn new(arch: Arch, name: &str) -> Result<Self> {
        let known = names(arch)?;
        let Some((_, part)) = known.iter().find(|(known, _)| known == name) else {
            let known: Vec<_> = known.into_iter().map(|(name, _)| name).collect();
            bail!(
                "there is no kernel called {name} for {arch}: there is {}; a path has a slash in it",
                known.join(", ")
            );
        };
        let mut fragments = String::new();
        for part in ["common", arch.name()].into_iter().chain(part.as_deref()) {
            let file = directory().join(part).with_extension("config");
            let text = fs::read_to_string(&file);
            fragments.push_str(&text.with_context(|| file.display().to_string())?);
        }
        Ok(Self {
            arch,
            name: name.to_owned(),
            fragments,
        })
    }

    fn key(&self, source: &Source) -> Result<String> {
        // A changed comment does not change the kernel.
        let options: Vec<&str> = self.options().collect();
        let mut parts = vec![
            source.version.clone(),
            options.join("\n"),
            toolchain::versions()?,
        ];
        if source.named {
            parts.push(source.directory.display().to_string());
        }
        let hash = cache::key(parts.iter().map(String::as_bytes));
        Ok(format!("{}-{}-{hash}", self.arch, self.name))
    }

    /// The lines of the fragments that set an option or unset it.
    fn options(&self) -> impl Iterator<Item = &str> {
        self.fragments.lines().filter(|line| {
            line.starts_with("CONFIG_")
                || line.starts_with("# CONFIG_") && line.ends_with(" is not set")
        })
    }

    pub(crate) fn item(&self, source: &Source) -> Result<Item> {
        Item::new("kernels", &self.key(source)?)
    }

    fn build(&self, source: &Source) -> Result<()> {
        let item = self.item(source)?;
        if source.named {
            // The user may have changed this tree, so make has to look at it.
            item.outdate()?;
        }
        item.make(|tree| {
            let make = || -> Result<Command> {
                let mut make = toolchain::kernel_make()?;
                make.arg("-C")
                    .arg(&source.directory)
                    .arg(format!("ARCH={}", self.arch));
                make.arg(format!("O={}", tree.display()));
                Ok(make)
            };
            let what = format!("the kernel {} for {}", self.name, self.arch);
            cache::need_space(megabytes_needed(&self.name), &what)?;
            let fragments = tree.join("fragments.config");
            fs::write(&fragments, &self.fragments)?;
            let mut configure = make()?;
            configure
                .arg("allnoconfig")
                .env("KCONFIG_ALLCONFIG", &fragments);
            progress::run(&format!("configuring {what}"), &configure, 0)?;
            if let Err(error) = self.verify(&fs::read_to_string(tree.join(".config"))?) {
                // Most often the kernel has refused a tool.
                progress::run(
                    "checking Rust for the kernel",
                    make()?.arg("rustavailable"),
                    0,
                )
                .context(
                    "the kernel refuses a tool of this machine: install what it names below",
                )?;
                return Err(error);
            }
            progress::run(&format!("building {what}"), &make()?, self.lines())
        })
    }

    /// About how many lines make prints for a build from scratch.
    fn lines(&self) -> usize {
        match (self.name == DEBUG, self.arch) {
            (false, Arch::X86_64) => 2100,
            (false, Arch::Arm64) => 1730,
            (true, _) => 2300,
        }
    }

    /// Fails if the kernel's configuration is not what the fragments ask for.
    fn verify(&self, config: &str) -> Result<()> {
        let lacks = |wanted: &&str| match wanted.strip_suffix(" is not set") {
            Some(unset) => {
                let option = format!("{}=", unset.trim_start_matches("# "));
                config.lines().any(|line| line.starts_with(&option))
            }
            None => !config.lines().any(|line| line == *wanted),
        };
        let missing: Vec<&str> = self.options().filter(lacks).collect();
        if !missing.is_empty() {
            bail!(
                "Kconfig dropped these lines of {}. Add the options that they depend on:\n  {}",
                directory().display(),
                missing.join("\n  ")
            );
        }
        Ok(())
    }
}

/// Where the configurations are.
fn directory() -> PathBuf {
    checkout().join("tools/vm/kernel")
}

/// The names of all kernels that can be built for an architecture. Each comes with the file that
/// it has besides the common ones. The file `arm64-16k` is for the kernel `16k`, on arm64 only.
fn names(arch: Arch) -> Result<Vec<(String, Option<String>)>> {
    let mut names = vec![(DEFAULT.to_owned(), None)];
    let directory = directory();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let Some(stem) = file.strip_suffix(".config") else {
            continue;
        };
        let (only_for, name) = match stem.split_once('-') {
            Some((arch, name)) => (Some(arch), name),
            None => (None, stem),
        };
        let is_part = name == "common" || Arch::ALL.iter().any(|arch| arch.name() == name);
        if !is_part && only_for.is_none_or(|only| only == arch.name()) {
            names.push((name.to_owned(), Some(stem.to_owned())));
        }
    }
    names.sort();
    Ok(names)
}

/// Whether the kernel `name` for `arch` is in the cache.
pub(crate) fn is_cached(arch: Arch, name: &str) -> Result<bool> {
    match source::find()? {
        Some(source) => Ok(Config::new(arch, name)?.item(&source)?.is_complete()),
        None => Ok(false),
    }
}

/// A table of all kernels that can be built, and of outdated ones in the cache.
pub fn list() -> Result<String> {
    let source = source::find()?;
    let mut built = cache::complete("kernels")?;
    let mut rows = Vec::new();
    for arch in Arch::ALL {
        for (name, _) in names(arch)? {
            let key = source
                .as_ref()
                .map(|source| Config::new(arch, &name)?.key(source));
            let (state, size, path) = match key.transpose()? {
                Some(key) if built.contains(&key) => {
                    built.retain(|other| *other != key);
                    let path = Item::new("kernels", &key)?.path().to_owned();
                    ("built", megabytes(&path)?, path.display().to_string())
                }
                _ => ("not built", String::new(), String::new()),
            };
            rows.push([name.clone(), arch.to_string(), state.into(), size, path]);
        }
    }
    for key in built {
        let path = Item::new("kernels", &key)?.path().to_owned();
        let size = megabytes(&path)?;
        rows.push([
            "-".into(),
            "-".into(),
            "outdated".into(),
            size,
            path.display().to_string(),
        ]);
    }
    let heading = ["KERNEL", "ARCH", "STATE", "SIZE", "BUILD TREE"].map(String::from);
    let mut table = String::new();
    for [name, arch, state, size, path] in [heading].iter().chain(&rows) {
        let row = format!("{name:<10} {arch:<8} {state:<10} {size:>8}  {path}");
        table += &format!("{}\n", row.trim_end());
    }
    Ok(table)
}

/// How much disk a directory takes.
fn megabytes(path: &Path) -> Result<String> {
    let usage = toolchain::output(Command::new("du").arg("-sm").arg(path))?;
    Ok(format!(
        "{} MB",
        usage.split_whitespace().next().unwrap_or_default()
    ))
}
