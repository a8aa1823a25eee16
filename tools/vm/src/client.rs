// SPDX-License-Identifier: GPL-2.0

//! Unmodified programs of Debian for guests, with the libraries that they load, and
//! libcamera's libraries with our patch.

use std::{
    collections::{BTreeSet, HashMap},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    arch::Arch,
    cache::{self, Item},
    debian::{self, Apt},
    module::checkout,
    progress, root,
    toolchain::output,
};

/// Programs, and the packages that contain them. The first package gives the version.
struct Programs {
    name: &'static str,
    packages: &'static [&'static str],
    programs: &'static [&'static str],
}

/// libcamera's `cam`, which does not know our module, and udev's program that evaluates
/// rules.
const CLIENT: Programs = Programs {
    name: "client",
    packages: &["libcamera-tools", "udev"],
    programs: &["usr/bin/cam", "usr/bin/udevadm"],
};

/// The V4L2 developers' compliance test for drivers.
const V4L2: Programs = Programs {
    name: "v4l-utils",
    packages: &["v4l-utils"],
    programs: &["usr/bin/v4l2-compliance", "usr/bin/v4l2-ctl"],
};

/// The variable that names a source tree of libcamera, if Debian's mirror has no sources.
const SOURCE: &str = "DMABUF_COHERENCY_LIBCAMERA";

/// The patch that makes libcamera's allocator ask which heaps suit the devices.
const PATCH: &str = "tools/clients/libcamera.patch";

/// Gets Debian's libcamera for an architecture, and returns its directory. The
/// content of the directory belongs in the root of a guest.
pub fn libcamera(arch: Arch) -> Result<PathBuf> {
    CLIENT.get(arch).map(|(root, _)| root)
}

/// The same with `v4l2-compliance`.
pub fn v4l_utils(arch: Arch) -> Result<PathBuf> {
    V4L2.get(arch).map(|(root, _)| root)
}

impl Programs {
    /// The directory, and the version.
    fn get(&self, arch: Arch) -> Result<(PathBuf, String)> {
        let item = Item::new(self.name, arch.name())?;
        let (root, version) = (item.path().join("root"), item.path().join("version"));
        item.make(|directory| {
            if !debian::is_host() {
                bail!(
                    "{} comes from Debian's packages, and this machine does not run Debian: run \
                     this on a Debian system",
                    self.packages[0]
                );
            }
            let apt = Apt::newer(arch)?;
            let all = directory.join("all");
            for package in self.packages {
                // Programs with a Qt interface, which nobody runs here, need many packages.
                let mut needs = apt.depends(package)?;
                needs.retain(|package| !package.starts_with("libqt"));
                apt.unpack_with_needs(&needs, &all)?;
                let newest = apt.newest(package, "")?.unwrap_or_default();
                apt.unpack(package, &newest, &all)?;
                if *package == self.packages[0] {
                    fs::write(&version, newest)?;
                }
            }
            self.keep(&all, &root)?;
            Ok(fs::remove_dir_all(all)?)
        })?;
        Ok((root, fs::read_to_string(version)?))
    }

    /// Copies the programs, and the libraries that they load, from one tree to another.
    fn keep(&self, all: &Path, root: &Path) -> Result<()> {
        let mut libraries = HashMap::new();
        find_libraries(&all.join("usr/lib"), &mut libraries)?;
        let programs = self.programs.iter();
        let mut todo: Vec<PathBuf> = programs.map(|program| all.join(program)).collect();
        let mut seen = BTreeSet::new();
        while let Some(file) = todo.pop() {
            if !seen.insert(file.clone()) {
                continue;
            }
            copy(&file, &root.join(file.strip_prefix(all)?))?;
            let (needed, interpreter) = needs(&file)?;
            for name in needed {
                let Some(library) = libraries.get(&name) else {
                    bail!(
                        "{} needs {name}, which is in none of the packages that it depends on",
                        file.display()
                    );
                };
                todo.push(library.clone());
            }
            if let Some(path) = interpreter {
                let name = path.rsplit('/').next().unwrap_or_default();
                if let Some(loader) = libraries.get(name) {
                    copy(loader, &root.join(path.trim_start_matches('/')))?;
                }
            }
        }
        Ok(())
    }
}

/// Gets the source of the same version of libcamera, and Debian's compilers to build it
/// with. The source is upstream's, or the tree that `DMABUF_COHERENCY_LIBCAMERA` names.
pub fn libcamera_source(arch: Arch) -> Result<(PathBuf, PathBuf)> {
    let (_, version) = CLIENT.get(arch)?;
    let source = match env::var_os(SOURCE) {
        Some(source) => PathBuf::from(source),
        None => fetch_source(&version).with_context(|| {
            format!(
                "Debian's mirror does not give the source of libcamera {version}: set {SOURCE} to \
                 a tree of that version, from `apt source libcamera` where a mirror has it, or by \
                 its tag from libcamera's own repository"
            )
        })?,
    };
    let compilers = root::LIBCAMERA.get()?;
    root::check(&compilers)?;
    Ok((source, compilers))
}

fn fetch_source(version: &str) -> Result<PathBuf> {
    let item = Item::new("libcamera-source", &cache::word(version))?;
    item.make(|directory| {
        let tarball = Apt::newer_sources()?.tarball("libcamera", version)?;
        let mut unpack = Command::new("tar");
        unpack.args(["--strip-components=1", "-xf"]).arg(&tarball);
        output(unpack.arg("-C").arg(directory))?;
        Ok(fs::remove_file(tarball)?)
    })?;
    Ok(item.path().to_owned())
}

/// Builds libcamera's libraries with our patch, and returns their directory. `cam` loads
/// them in place of Debian's.
pub fn patched_libcamera(arch: Arch) -> Result<PathBuf> {
    let (original, compilers) = libcamera_source(arch)?;
    let (_, version) = CLIENT.get(arch)?;
    let patch = fs::read(checkout().join(PATCH)).context(PATCH)?;
    let version = cache::word(&version);
    let key = format!("{arch}-{version}-{}", cache::key([&patch[..]]));
    let item = Item::new("patched-libcamera", &key)?;
    let libraries = item.path().join("lib");
    item.make(|directory| {
        cache::need_space(1000, "libcamera")?;
        let [source, build, installed] =
            ["source", "build", "installed"].map(|name| directory.join(name));
        for leftover in [&source, &build, &installed] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)?;
            }
        }
        output(Command::new("cp").arg("-r").args([&original, &source]))?;
        let inside = |program: &str| root::command(&compilers, program);
        let mut apply = inside("patch")?;
        apply
            .args(["--batch", "--fuzz=0", "-p1", "-d"])
            .arg(&source);
        apply.arg("-i").arg(checkout().join(PATCH));
        let context = || format!("{PATCH} does not apply to libcamera {version}: update the patch");
        output(&mut apply).with_context(context)?;

        let triplet = format!("{}-linux-gnu", arch.gnu());
        let machine = directory.join("machine");
        fs::write(&machine, describe(arch, &triplet))?;
        let mut meson = inside("meson")?;
        meson.arg("setup").arg("--cross-file").arg(machine);
        meson
            .args(MESON_OPTIONS)
            .arg(format!("-Dlibdir=lib/{triplet}"));
        progress::run(
            &format!("configuring libcamera {version} for {arch}"),
            meson.args([&build, &source]),
            0,
        )?;
        let mut install = inside("meson")?;
        install.arg("install").arg("--destdir").arg(&installed);
        progress::run(
            &format!("building libcamera {version} for {arch}"),
            install.arg("-C").arg(&build),
            0,
        )?;
        let mut found = HashMap::new();
        find_libraries(&installed.join("usr/lib").join(triplet), &mut found)?;
        for (name, library) in found {
            copy(&library, &libraries.join(name))?;
        }
        for done in [source, build, installed] {
            fs::remove_dir_all(done)?;
        }
        Ok(())
    })?;
    Ok(libraries)
}

/// Debian's paths, and only what `cam` needs for the cameras of guests. The build is not
/// optimized: tests need a fast build more than a fast program.
const MESON_OPTIONS: [&str; 8] = [
    "--prefix=/usr",
    "--sysconfdir=/etc",
    "--buildtype=plain",
    "-Dauto_features=disabled",
    "-Dudev=enabled",
    "-Dpipelines=uvcvideo,virtual",
    "-Dipas=[]",
    "-Dwerror=false",
];

/// meson's cross file for an architecture.
fn describe(arch: Arch, triplet: &str) -> String {
    let cpu = arch.gnu();
    format!(
        "[binaries]\n\
         c = '{triplet}-gcc'\n\
         cpp = '{triplet}-g++'\n\
         ar = '{triplet}-ar'\n\
         strip = '{triplet}-strip'\n\
         pkg-config = 'pkg-config'\n\
         [properties]\n\
         pkg_config_libdir = '/usr/lib/{triplet}/pkgconfig:/usr/share/pkgconfig'\n\
         [host_machine]\n\
         system = 'linux'\n\
         cpu_family = '{cpu}'\n\
         cpu = '{cpu}'\n\
         endian = 'little'\n"
    )
}

/// Copies a file, or the target of a symbolic link.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to)?;
    Ok(())
}

/// Notes all shared libraries in a directory, and below it, by name.
fn find_libraries(directory: &Path, libraries: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            find_libraries(&entry.path(), libraries)?;
        } else if name.contains(".so") {
            libraries.entry(name).or_insert(entry.path());
        }
    }
    Ok(())
}

/// The names of the libraries that a program or library loads, and the path of the
/// program's dynamic loader.
fn needs(file: &Path) -> Result<(Vec<String>, Option<String>)> {
    let dynamic = output(Command::new("readelf").args(["-W", "-d", "-l"]).arg(file))?;
    let mut needed = Vec::new();
    let mut interpreter = None;
    for line in dynamic.lines() {
        // "... (NEEDED) Shared library: [libc.so.6]"
        if let Some((_, name)) = line.split_once("Shared library: [") {
            needed.push(name.trim_end_matches(']').to_owned());
        }
        // "[Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]"
        if let Some((_, path)) = line.split_once("program interpreter: ") {
            interpreter = Some(path.trim_end_matches(']').to_owned());
        }
    }
    Ok((needed, interpreter))
}
