// SPDX-License-Identifier: GPL-2.0

//! Packages of Debian that are unpacked in the cache, and not installed. Their suite
//! or architecture may be one that this machine's apt is not set up for.
//!
//! apt runs with its own state directory, and with the mirror and the keyring of this
//! machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    slice,
};

use anyhow::{Context, Result, bail};

use crate::{arch::Arch, cache, progress, source::numbers, toolchain::output};

/// All suites that have kernels. Modules can be built for those of the first suite.
pub(crate) static KERNEL_SUITES: [&str; 5] =
    ["trixie-backports", "trixie", "forky", "sid", "experimental"];

/// The suites that newer programs are taken from.
static NEWER: [&str; 2] = ["trixie-backports", "trixie"];

/// A mirror of Debian, and the directory for what is downloaded from it.
#[derive(Clone)]
pub(crate) struct Mirror {
    pub(crate) uri: String,
    /// Options as in a line of sources.list, brackets included. May be empty.
    pub(crate) options: String,
    /// The directory for lists and downloads.
    pub(crate) state: PathBuf,
}

impl Mirror {
    /// The mirror that this machine uses.
    pub(crate) fn of_machine() -> Result<Self> {
        let (uri, keyring) = mirror()?;
        Ok(Self {
            uri,
            options: keyring.map_or(String::new(), |keyring| format!("[signed-by={keyring}] ")),
            state: cache::subdir("apt")?,
        })
    }
}

/// Suites of Debian for one architecture.
pub(crate) struct Apt {
    mirror: Mirror,
    directory: PathBuf,
    /// The first one is preferred.
    suites: &'static [&'static str],
    arch: &'static str,
    /// Packages, or the sources that they are made from.
    kind: Kind,
}

/// What to read of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Packages,
    Sources,
}

impl Apt {
    /// The suite that has kernels, and their source.
    pub(crate) fn backports(arch: Arch) -> Result<Self> {
        Self::new(&["trixie-backports"], arch)
    }

    /// Newer programs for this machine, if it runs Debian 12.
    pub(crate) fn bookworm_backports() -> Result<Self> {
        Self::new(&["bookworm-backports"], Arch::X86_64)
    }

    /// The suite that guests are made from.
    pub(crate) fn stable(arch: Arch) -> Result<Self> {
        Self::new(&["trixie"], arch)
    }

    /// One of the suites that have kernels.
    pub(crate) fn suite(mirror: &Mirror, suite: &'static &'static str, kind: Kind) -> Result<Self> {
        Self::of(mirror.clone(), slice::from_ref(suite), Arch::X86_64, kind)
    }

    /// The suites that newer programs are taken from.
    pub(crate) fn newer(arch: Arch) -> Result<Self> {
        Self::new(&NEWER, arch)
    }

    /// The sources in these suites.
    pub(crate) fn newer_sources() -> Result<Self> {
        Self::of(Mirror::of_machine()?, &NEWER, Arch::X86_64, Kind::Sources)
    }

    fn new(suites: &'static [&'static str], arch: Arch) -> Result<Self> {
        Self::of(Mirror::of_machine()?, suites, arch, Kind::Packages)
    }

    fn of(mirror: Mirror, suites: &'static [&'static str], arch: Arch, kind: Kind) -> Result<Self> {
        let arch = arch.debian();
        let what = match kind {
            Kind::Packages => arch,
            Kind::Sources => "source",
        };
        let apt = Self {
            directory: mirror.state.join(format!("{}-{what}", suites.join("+"))),
            mirror,
            suites,
            arch,
            kind,
        };
        apt.update()?;
        Ok(apt)
    }

    /// Fetches the lists of packages.
    fn update(&self) -> Result<()> {
        let Mirror { uri, options, .. } = &self.mirror;
        let (entry, what) = match self.kind {
            Kind::Packages => ("deb", self.arch),
            Kind::Sources => ("deb-src", "source"),
        };
        let source = |suite: &&str| format!("{entry} {options}{uri} {suite} main\n");
        let sources: String = self.suites.iter().map(source).collect();
        for name in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(self.directory.join(name))?;
        }
        cache::replace(&self.directory.join("sources.list"), sources.as_bytes())?;
        cache::replace(&self.directory.join("status"), b"")?;
        let _lock = self.lock()?;
        let what = format!(
            "reading the package list of {} for {}",
            self.suites.join(" and "),
            what
        );
        progress::run(
            &what,
            self.command("apt-get").args(["update", "--error-on=any"]),
            0,
        )
        .context("Debian's mirror cannot be reached: check the network, then run this again")
    }

    fn lock(&self) -> Result<cache::Lock> {
        cache::lock(&self.directory.display().to_string())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |name: &str| self.directory.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=-".into(),
            "Dir::Etc::PreferencesParts=-".into(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::State::Status={}", path("status")),
            format!("Dir::Cache::Archives={}", path("archives")),
            "Dir::Cache::PkgCache=".into(),
            "Dir::Cache::SrcPkgCache=".into(),
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures={}", self.arch),
            "APT::Sandbox::User=".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// The names of all packages that start with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The newest version of a package that starts with `prefix`.
    pub(crate) fn newest(&self, package: &str, prefix: &str) -> Result<Option<String>> {
        // Lines like " rust-src | 1.95.0+dfsg1-2 | ...", newest first.
        let versions = output(self.command("apt-cache").args(["madison", package]))?;
        let versions = versions.lines().filter_map(|line| line.split('|').nth(1));
        Ok(versions
            .map(str::trim)
            .find(|version| version.starts_with(prefix))
            .map(str::to_owned))
    }

    /// The newest version of a source that starts with `prefix`.
    pub(crate) fn newest_source(&self, source: &str, prefix: &str) -> Result<Option<String>> {
        let records = self
            .command("apt-cache")
            .args(["showsrc", "--only-source", source])
            .output()
            .context("cannot run apt-cache: install apt")?;
        let records = String::from_utf8_lossy(&records.stdout).into_owned();
        Ok(records
            .lines()
            .filter_map(|line| line.strip_prefix("Version: "))
            .filter(|version| version.starts_with(prefix))
            .max_by_key(|version| numbers(version))
            .map(str::to_owned))
    }

    /// Downloads the upstream tarball of a source, and returns its path.
    pub(crate) fn tarball(&self, source: &str, version: &str) -> Result<PathBuf> {
        let downloads = self.directory.join("archives");
        let _lock = self.lock()?;
        progress::run(
            &format!("downloading the source of {source} {version}"),
            self.command("apt-get")
                .args(["source", "--download-only", "--tar-only"])
                .arg(format!("{source}={version}"))
                .current_dir(&downloads),
            0,
        )
        .context("Debian's mirror cannot be reached: check the network, then run this again")?;
        let upstream = version.rsplit_once('-').map_or(version, |(start, _)| start);
        let name = format!("{source}_{upstream}.orig.tar.");
        fs::read_dir(&downloads)?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&name))
            .map(|entry| entry.path())
            .with_context(|| {
                format!(
                    "apt-get did not store {name}* in {}: run this again",
                    downloads.display()
                )
            })
    }

    /// Downloads a package and unpacks it below `directory`.
    pub(crate) fn unpack(&self, package: &str, version: &str, directory: &Path) -> Result<()> {
        let downloads = self.directory.join("archives");
        let _lock = self.lock()?;
        progress::run(
            &format!("downloading {package} {version}"),
            self.command("apt-get")
                .args(["download", &format!("{package}={version}")])
                .current_dir(&downloads),
            0,
        )
        .context("Debian's mirror cannot be reached: check the network, then run this again")?;
        // apt writes the colon of an epoch as %3a.
        let name = format!("{package}_{}_", version.replace(':', "%3a"));
        let Some(deb) = fs::read_dir(&downloads)?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&name))
        else {
            bail!(
                "apt-get did not store {package} in {}: run this again",
                downloads.display()
            );
        };
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(deb.path()).arg(directory);
        progress::run(&format!("unpacking {package}"), &unpack, 0)?;
        fs::remove_file(deb.path())?;
        Ok(())
    }

    /// The packages that the newest version of a package depends on. Of alternatives
    /// it is the first.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let version = self.newest(package, "")?;
        let version = version.with_context(|| format!("Debian has no {package}"))?;
        let package = format!("{package}={version}");
        let record = output(self.command("apt-cache").args(["show", &package]))?;
        let depends = record
            .lines()
            .find_map(|line| line.strip_prefix("Depends: "));
        let names = depends.unwrap_or_default().split(", ");
        let names = names.filter_map(|name| name.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Downloads the newest versions of packages and all that they need, and
    /// unpacks them below `directory`.
    pub(crate) fn unpack_with_needs(&self, packages: &[String], directory: &Path) -> Result<()> {
        let mut simulate = self.command("apt-get");
        simulate.args(["install", "--simulate", "--no-install-recommends"]);
        simulate
            .args(["--target-release", self.suites[0]])
            .args(packages);
        let plan = output(&mut simulate)?;
        // Lines like "Inst libc6 (2.41-12 Debian:13.1/stable [amd64])".
        let names = plan.lines().filter_map(|line| line.strip_prefix("Inst "));
        let names: Vec<&str> = names.filter_map(|line| line.split(' ').next()).collect();
        let downloads = self.directory.join("archives");
        let _lock = self.lock()?;
        let mut download = self.command("apt-get");
        download.args(["download", "--target-release", self.suites[0]]);
        download.args(&names).current_dir(&downloads);
        progress::run(
            &format!("downloading {} packages", names.len()),
            &download,
            0,
        )
        .context("Debian's mirror cannot be reached: check the network, then run this again")?;
        for entry in fs::read_dir(&downloads)? {
            let deb = entry?.path();
            if deb.extension().is_some_and(|extension| extension == "deb") {
                output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(directory))?;
                fs::remove_file(deb)?;
            }
        }
        Ok(())
    }
}

/// Whether this machine runs Debian.
pub(crate) fn is_host() -> bool {
    release("ID").is_some_and(|id| id == "debian")
}

/// The distribution of this machine, and those that it is derived from.
pub(crate) fn families() -> Vec<String> {
    let fields = ["ID", "ID_LIKE"].map(|field| release(field).unwrap_or_default());
    let words = fields.iter().flat_map(|field| field.split_whitespace());
    words.map(str::to_owned).collect()
}

/// Whether this machine runs Debian 12.
pub(crate) fn is_bookworm() -> bool {
    is_host() && release("VERSION_CODENAME").is_some_and(|name| name == "bookworm")
}

/// A field of os-release.
fn release(field: &str) -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let line = release
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix('='))?;
    Some(line.trim_matches('"').to_owned())
}

/// The address and the keyring that this machine gets Debian from.
pub fn mirror() -> Result<(String, Option<String>)> {
    let codename = release("VERSION_CODENAME").unwrap_or_default();
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    files
        .iter()
        .filter_map(|file| Some((file, fs::read_to_string(file).ok()?)))
        .flat_map(|(file, text)| match file.extension() {
            Some(extension) if extension == "sources" => deb822(&text),
            _ => one_line(&text),
        })
        .find(|source| source.suites.contains(&codename))
        .map(|source| (source.uri, source.keyring))
        .with_context(|| format!("no package source for {codename} in /etc/apt: add one"))
}

/// The fields of an entry in /etc/apt that are used here.
#[derive(Debug, PartialEq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    keyring: Option<String>,
}

/// Sources in the one-line format: `deb [options] uri suite component...`.
fn one_line(text: &str) -> Vec<Source> {
    let parse = |line: &str| {
        let line = line.trim().strip_prefix("deb ")?.trim();
        let (options, line) = match line.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", line),
        };
        let keyring = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="));
        let mut words = line.split_whitespace();
        Some(Source {
            uri: words.next()?.to_owned(),
            suites: vec![words.next()?.to_owned()],
            keyring: keyring.map(str::to_owned),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Sources in the format of control files.
fn deb822(text: &str) -> Vec<Source> {
    let parse = |stanza: &str| {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        if !field("Types")?.split_whitespace().any(|kind| kind == "deb") {
            return None;
        }
        Some(Source {
            uri: field("URIs")?.split_whitespace().next()?.to_owned(),
            suites: field("Suites")?
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            keyring: field("Signed-By").filter(|keyring| keyring.starts_with('/')),
        })
    };
    text.split("\n\n").filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(suites: &[&str], keyring: Option<&str>) -> Source {
        Source {
            uri: "http://deb.example.org/debian".into(),
            suites: suites.iter().map(|suite| suite.to_string()).collect(),
            keyring: keyring.map(str::to_owned),
        }
    }

    #[test]
    fn both_formats_are_read() {
        let text = "# deb http://old.example.org/debian sid main\n\
            deb-src http://deb.example.org/debian bookworm main\n\
            deb http://deb.example.org/debian bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://deb.example.org/debian trixie main contrib\n";
        assert_eq!(
            one_line(text),
            [
                source(&["bookworm"], None),
                source(&["trixie"], Some("/k.gpg"))
            ]
        );
        let text = "Types: deb deb-src\n# comment\nURIs: http://deb.example.org/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n\
            Types: deb-src\nURIs: http://deb.example.org/debian\nSuites: sid\n";
        assert_eq!(
            deb822(text),
            [source(&["bookworm", "bookworm-updates"], Some("/k.gpg"))]
        );
    }
}
