// SPDX-License-Identifier: GPL-2.0

//! The source of the kernel.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    arch::Arch,
    cache::{self, Item},
    debian::{self, Apt, KERNEL_SUITES, Kind, Mirror},
    progress::{self, say},
    series,
};

/// A kernel source tree.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) directory: PathBuf,
    /// Its version. For a package of Debian it is the package's version.
    pub(crate) version: String,
    /// Whether the user named it, and may change it.
    pub(crate) named: bool,
}

/// The source tree that kernels are built from, if there is one already. It is the
/// tree that the user names, or else the newest tree of the newest series in the cache.
pub(crate) fn find() -> Result<Option<Source>> {
    if let Some(directory) = env::var_os("DMABUF_COHERENCY_SOURCE") {
        let directory = std::path::absolute(directory)?;
        let version = version(&directory)?;
        if series::of(&version).is_none() {
            bail!(
                "{} is Linux {version}, and the module is not for that ({}): name another tree in \
                 DMABUF_COHERENCY_SOURCE, or unset it to use Debian's source",
                directory.display(),
                series::sentence()
            );
        }
        return Ok(Some(Source {
            directory,
            version,
            named: true,
        }));
    }
    let newest = cache::complete("source")?
        .into_iter()
        .filter(|key| series::of(key) == Some(series::newest()))
        .max_by_key(|key| numbers(key));
    newest.map(open).transpose()
}

/// The source tree that kernels are built from. Downloads it if there is none.
pub(crate) fn get() -> Result<Source> {
    if let Some(source) = find()? {
        return Ok(source);
    }
    if !debian::is_host() {
        bail!(
            "the kernel source comes from Debian, and this machine does not run Debian: set \
             DMABUF_COHERENCY_SOURCE to a source tree of Linux {}, or give --kernel the path of a \
             build tree",
            series::newest()
        );
    }
    Offer::find(&Mirror::of_machine()?)?.take()
}

/// The source of Debian's kernel package of this version.
pub(crate) fn of_package(abi: &str, version: &str) -> Result<PathBuf> {
    let series = series::of(abi).context("a series that the module is for")?;
    let item = Item::new("source", &cache::word(version))?;
    if !item.is_complete() {
        let apt = Apt::backports(Arch::X86_64)?;
        let package = format!("linux-source-{series}");
        make(version, |directory| {
            unpack_package(&apt, &package, version, directory)
        })?;
    }
    Ok(item.path().to_owned())
}

/// Unpacks a package that contains the source.
fn unpack_package(apt: &Apt, package: &str, version: &str, directory: &Path) -> Result<()> {
    let deb = directory.join(".deb");
    apt.unpack(package, version, &deb)?;
    unpack(&deb.join(format!("usr/src/{package}.tar.xz")), directory)?;
    Ok(fs::remove_dir_all(deb)?)
}

fn make(version: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Source> {
    cache::need_space(2300, "the kernel source")?;
    let key = cache::word(version);
    Item::new("source", &key)?.make(make)?;
    open(key)
}

fn unpack(tarball: &Path, directory: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--strip-components=1", "-C"]).arg(directory);
    tar.arg("-xf").arg(tarball);
    progress::run("unpacking the kernel source", &tar, 0)
}

/// A place that offers the source of a kernel.
struct Offer {
    apt: Apt,
    kind: Kind,
    suite: &'static str,
    series: &'static str,
    version: String,
}

/// The source package of Debian's kernel.
const SOURCE: &str = "linux";

impl Offer {
    /// Looks for the newest series first. It looks for a package with Debian's source, and
    /// then for the upstream tarball, which stays in the archive for longer.
    fn find(mirror: &Mirror) -> Result<Self> {
        let mut trouble = None;
        for series in series::all() {
            for kind in [Kind::Packages, Kind::Sources] {
                for suite in &KERNEL_SUITES {
                    match Self::look(mirror, suite, series, kind) {
                        Ok(Some(offer)) => {
                            offer.announce();
                            return Ok(offer);
                        }
                        Ok(None) => {}
                        Err(error) => trouble = Some(error),
                    }
                }
            }
        }
        let advice = format!(
            "no suite of Debian has the source of a kernel that the module supports ({}): set \
             DMABUF_COHERENCY_SOURCE to a source tree of such a kernel",
            series::sentence()
        );
        Err(match trouble {
            Some(error) => error.context(advice),
            None => anyhow!(advice),
        })
    }

    fn look(
        mirror: &Mirror,
        suite: &'static &'static str,
        series: &'static str,
        kind: Kind,
    ) -> Result<Option<Self>> {
        let apt = Apt::suite(mirror, suite, kind)?;
        let version = match kind {
            Kind::Packages => apt.newest(&format!("linux-source-{series}"), "")?,
            Kind::Sources => apt.newest_source(SOURCE, &format!("{series}."))?,
        };
        Ok(version.map(|version| Self {
            apt,
            kind,
            suite,
            series,
            version,
        }))
    }

    /// Describes the offer, and says why it is not a better one.
    fn describe(&self) -> String {
        let Self {
            suite,
            series,
            version,
            ..
        } = self;
        let newest = series::newest();
        let why = match self.kind {
            Kind::Packages if *series == newest => String::new(),
            Kind::Packages => format!(", as Debian no longer has that of {newest}"),
            Kind::Sources => format!(", as no suite has a package linux-source-{series}"),
        };
        match self.kind {
            Kind::Packages => format!("linux-source-{series} {version} of {suite}{why}"),
            Kind::Sources => format!("the tarball of {SOURCE} {version} of {suite}{why}"),
        }
    }

    fn announce(&self) {
        say(&format!("the kernel source is {}", self.describe()));
    }

    /// Downloads and unpacks the source into the cache.
    fn take(&self) -> Result<Source> {
        make(&self.version, |directory| self.unpack(directory))
    }

    fn unpack(&self, directory: &Path) -> Result<()> {
        let Self {
            apt,
            series,
            version,
            ..
        } = self;
        match self.kind {
            Kind::Packages => {
                let package = format!("linux-source-{series}");
                unpack_package(apt, &package, version, directory)
            }
            Kind::Sources => {
                let tarball = apt.tarball(SOURCE, version)?;
                unpack(&tarball, directory)?;
                Ok(fs::remove_file(tarball)?)
            }
        }
    }
}

fn open(key: String) -> Result<Source> {
    let directory = Item::new("source", &key)?.path().to_owned();
    Ok(Source {
        directory,
        version: key,
        named: false,
    })
}

/// The version in the Makefile of a source tree.
fn version(directory: &Path) -> Result<String> {
    let makefile = fs::read_to_string(directory.join("Makefile")).with_context(|| {
        format!(
            "{} is not a kernel source tree, as it has no Makefile: name another",
            directory.display()
        )
    })?;
    let value = |name: &str| {
        let mut lines = makefile.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))
            .map(str::trim)
    };
    match (value("VERSION"), value("PATCHLEVEL"), value("SUBLEVEL")) {
        (Some(version), Some(patch), Some(sub)) => Ok(format!("{version}.{patch}.{sub}")),
        _ => bail!(
            "{} is not a kernel source tree, as its Makefile has no version: name another",
            directory.display()
        ),
    }
}

/// The numbers in a version, for comparing.
pub(crate) fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};
    use std::{
        io::{BufRead, BufReader, Write},
        net::{TcpListener, TcpStream},
        thread,
    };

    /// A mirror of Debian on this machine. Its content can be changed at any time.
    struct Server {
        root: PathBuf,
        mirror: Mirror,
    }

    impl Server {
        fn new(name: &str) -> Self {
            let root = env::temp_dir().join(format!("{name}.{}", std::process::id()));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mirror = Mirror {
                uri: format!("http://{}/debian", listener.local_addr().unwrap()),
                options: "[trusted=yes] ".into(),
                state: root.join("state"),
            };
            fs::create_dir_all(root.join("debian/pool")).unwrap();
            let directory = root.clone();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    // apt gives up on some connections.
                    let _ = answer(&directory, stream.unwrap());
                }
            });
            let server = Self { root, mirror };
            server.has(&[], &[]);
            server
        }

        /// Makes all suites contain only these packages and the tarballs of these sources.
        /// Each package and source names its suite first.
        fn has(&self, packages: &[(&str, &str, &str)], sources: &[(&str, &str)]) {
            for suite in KERNEL_SUITES {
                let of_suite = packages.iter().filter(|(there, ..)| *there == suite);
                let lists = of_suite.map(|(_, series, version)| self.package(series, version));
                let packages: String = lists.collect();
                let of_suite = sources.iter().filter(|(there, _)| *there == suite);
                let sources: String = of_suite.map(|(_, version)| self.source(version)).collect();
                let dist = self.root.join("debian/dists").join(suite);
                let mut release = format!(
                    "Suite: {suite}\nCodename: {suite}\nArchitectures: amd64\n\
                     Components: main\nSHA256:\n"
                );
                for (path, list) in [
                    ("main/binary-amd64/Packages", packages),
                    ("main/source/Sources", sources),
                ] {
                    let file = dist.join(path);
                    fs::create_dir_all(file.parent().unwrap()).unwrap();
                    release += &format!(" {} {} {path}\n", hash(list.as_bytes()), list.len());
                    fs::write(file, list).unwrap();
                }
                fs::write(dist.join("Release"), release).unwrap();
            }
        }

        /// Writes the tarball of a source that has only a Makefile.
        fn tarball(&self, to: &Path, version: &str) {
            let tree = self.root.join("tree/linux");
            fs::create_dir_all(&tree).unwrap();
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(tree.join("Makefile"), version).unwrap();
            let mut tar = Command::new("tar");
            tar.arg("-C").arg(self.root.join("tree"));
            assert!(
                tar.arg("-cJf")
                    .arg(to)
                    .arg("linux")
                    .status()
                    .unwrap()
                    .success()
            );
        }

        fn package(&self, series: &str, version: &str) -> String {
            let name = format!("linux-source-{series}");
            let control = format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\n\
                 Maintainer: nobody\nDescription: a source\n"
            );
            let tree = self.root.join("deb");
            fs::create_dir_all(tree.join("DEBIAN")).unwrap();
            fs::write(tree.join("DEBIAN/control"), &control).unwrap();
            self.tarball(&tree.join(format!("usr/src/{name}.tar.xz")), version);
            let path = format!("pool/{name}_{version}_all.deb");
            let deb = self.root.join("debian").join(&path);
            let mut build = Command::new("dpkg-deb");
            build.arg("-b").arg(&tree).arg(&deb);
            assert!(build.output().unwrap().status.success());
            fs::remove_dir_all(tree).unwrap();
            let deb = fs::read(deb).unwrap();
            let (size, hash) = (deb.len(), hash(&deb));
            format!("{control}Filename: {path}\nSize: {size}\nSHA256: {hash}\n\n")
        }

        fn source(&self, version: &str) -> String {
            let upstream = version.split('-').next().unwrap();
            let name = format!("linux_{upstream}.orig.tar.xz");
            let tarball = self.root.join("debian/pool").join(&name);
            self.tarball(&tarball, version);
            let (dsc, tarball) = (b"", fs::read(tarball).unwrap());
            format!(
                "Package: linux\nFormat: 3.0 (quilt)\nBinary: linux-source\nArchitecture: all\n\
                 Version: {version}\nDirectory: pool\nChecksums-Sha256:\n {} {} linux_{version}.dsc\n \
                 {} {} {name}\n\n",
                hash(dsc),
                dsc.len(),
                hash(&tarball),
                tarball.len()
            )
        }

        /// Describes the source that is chosen, and returns the content of its Makefile.
        fn choose(&self) -> Result<(String, String)> {
            let offer = Offer::find(&self.mirror)?;
            let directory = self.root.join("unpacked");
            fs::create_dir_all(&directory)?;
            offer.unpack(&directory)?;
            let makefile = fs::read_to_string(directory.join("Makefile"))?;
            fs::remove_dir_all(directory)?;
            Ok((offer.describe(), makefile))
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    /// Answers one request for a file below `root`.
    fn answer(root: &Path, mut stream: TcpStream) -> Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().context("a request")??;
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).context("a path")?;
        let path = path.replace("%7e", "~").replace("%2b", "+");
        let (status, body) = match fs::read(root.join(path.trim_start_matches('/'))) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        Ok(stream.write_all(&body)?)
    }

    fn hash(content: &[u8]) -> String {
        let hash = Sha256::digest(content);
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Each place is searched if the places before it do not have the source.
    #[test]
    fn sources_are_found_where_they_are() {
        assert!(
            debian::is_host(),
            "this takes apt: run it on Debian, or leave it out by cargo test -- --skip sources_are"
        );
        let mut series = series::all();
        let (newest, older) = (series.next().unwrap(), series.next().unwrap());
        let server = Server::new("mirror");
        let [backports, .., sid, _] = KERNEL_SUITES;
        let (new, newer, old) = (
            format!("{newest}.4-1~bpo13+1"),
            format!("{newest}.12-2"),
            format!("{older}.12-1~bpo13+1"),
        );

        server.has(
            &[
                (backports, newest, &new),
                (backports, older, &old),
                (sid, newest, &newer),
            ],
            &[(sid, &newer)],
        );
        let (what, makefile) = server.choose().unwrap();
        assert_eq!(what, format!("linux-source-{newest} {new} of {backports}"));
        assert_eq!(makefile, new);

        server.has(&[(backports, older, &old), (sid, newest, &newer)], &[]);
        let (what, makefile) = server.choose().unwrap();
        assert_eq!(what, format!("linux-source-{newest} {newer} of {sid}"));
        assert_eq!(makefile, newer);

        let stays = [
            (backports, new.as_str()),
            (backports, &newer),
            (sid, "6.1.9-1"),
        ];
        server.has(&[(backports, older, &old)], &stays);
        let (what, makefile) = server.choose().unwrap();
        assert!(what.starts_with(&format!("the tarball of linux {newer} of {backports}")));
        assert!(what.contains(&format!("no suite has a package linux-source-{newest}")));
        assert_eq!(makefile, newer);

        server.has(&[(backports, older, &old)], &[(sid, "6.1.9-1")]);
        let (what, makefile) = server.choose().unwrap();
        assert!(what.starts_with(&format!("linux-source-{older} {old} of {backports}")));
        assert!(what.contains(&format!("Debian no longer has that of {newest}")));
        assert_eq!(makefile, old);

        server.has(&[], &[]);
        let error = format!("{:#}", server.choose().unwrap_err());
        assert!(error.contains("set DMABUF_COHERENCY_SOURCE"), "{error}");

        fs::remove_dir_all(server.root.join("debian")).unwrap();
        let error = format!("{:#}", server.choose().unwrap_err());
        assert!(error.contains("mirror cannot be reached"), "{error}");
    }
}
