// SPDX-License-Identifier: GPL-2.0

//! The packages for Debian. The test does what a person does with them, in a fresh
//! Debian 13, and in a guest that boots that Debian with its own kernel.

use crate::command::{done, make, output, unless_done};
use crate::group::Group;
use crate::results::{Case, Verdict};
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

const SUITE: &str = "trixie";

/// Programs that the test needs. It also needs root.
const PROGRAMS: [&str; 6] = [
    "debootstrap",
    "dh_dkms",
    "dpkg-buildpackage",
    "lintian",
    "mke2fs",
    "qemu-system-x86_64",
];

/// Large directories that only builds need.
const FOR_BUILDS: [&str; 3] = ["usr/src", "usr/lib/llvm-19", "usr/lib/rustlib"];

/// The version that the packages are upgraded to.
const NEXT: &str = "999.0.0";

/// Runs in the guest when it is up. A member of the group video allocates.
const REPORT: &str = r#"#!/bin/sh
exec >/dev/ttyS1 2>&1
udevadm settle
systemctl is-active systemd-modules-load
cat /sys/module/dmabuf_coherency/version
stat -c '%G %a' /dev/dma_heap/system-coherent
setpriv --reuid nobody --regid nogroup --groups video \
	dmaheap alloc --heap system-coherent --size 1M -- sh -c 'echo $DMABUF_SIZE'
"#;

/// Runs a command in a root, with /proc, and with a directory for what apt downloads.
const ENTER: &str = r#"root=$1; mount -t proc none "$root/proc" &&
mount --bind "$2" "$root/var/cache/apt/archives" && shift 2 && exec chroot "$root" "$@""#;

pub fn groups() -> Vec<Group> {
    let about = "packages for Debian, from building to purging them";
    vec![Group::new("packages", about, |_| run())]
}

fn run() -> Result<Vec<Case>> {
    if let Some(lack) = lack() {
        return Ok(vec![Case::new("set-up", Verdict::Skipped, lack)]);
    }
    let work = vm::cache_dir()?.join(format!("deb.{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let mut trial = Trial {
        root: work.join("root"),
        archives: vm::cache_dir()?.join("deb-archives"),
        work,
        cases: Vec::new(),
    };
    let end = trial.run();
    fs::remove_dir_all(&trial.work)?;
    // A step that fails ends the trial.
    if let Err(error) = end {
        trial.judge("complete", Some(format!("{error:#}")));
    }
    Ok(trial.cases)
}

/// What this machine lacks for the test.
fn lack() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("Debian's kernel has DMA heaps on amd64 only".into());
    }
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
        return Some("debootstrap and chroot need root: run this test as root".into());
    }
    let found = |program: &&str| {
        let mut places = ["/usr/bin", "/usr/sbin", "/sbin"].into_iter();
        !places.any(|place| Path::new(place).join(program).exists())
    };
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(found).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "there is no {}: apt install debootstrap debhelper dh-dkms dpkg-dev lintian \
             e2fsprogs qemu-system-x86",
            missing.join(", ")
        )
    })
}

struct Trial {
    work: PathBuf,
    root: PathBuf,
    /// Downloaded packages, kept for the next run.
    archives: PathBuf,
    cases: Vec<Case>,
}

impl Trial {
    fn judge(&mut self, name: &str, problem: Option<String>) {
        self.cases
            .push(Case::judged(format!("deb.{name}"), problem));
    }

    fn run(&mut self) -> Result<()> {
        let source = vm::checkout();
        let version = version(source)?;
        let now = build(source, &self.work.join("now"))?;
        self.judge("build", None);
        for package in &now {
            let output = output(
                Command::new("lintian")
                    .args(["--fail-on", "error,warning"])
                    .arg(package),
            )?;
            let name = package.file_name().unwrap_or_default().to_string_lossy();
            self.judge(&format!("lintian.{name}"), unless_done(&output));
        }

        // The next version is built from an archive, without git.
        let unpacked = self.work.join("source");
        fs::create_dir_all(&unpacked)?;
        let archive = format!("now/dmabuf-coherency-{version}.tar.xz");
        done(
            Command::new("tar")
                .args(["--strip-components=1", "-xf"])
                .arg(self.work.join(archive))
                .arg("-C")
                .arg(&unpacked),
        )?;
        release(&unpacked, &version)?;
        let next = build(&unpacked, &self.work.join("next"))?;
        self.judge("build_next", None);

        self.bootstrap()?;
        let install = |packages: &[PathBuf]| -> Result<Vec<String>> {
            let mut arguments = vec!["apt-get".to_owned(), "install".into(), "-y".into()];
            for package in packages {
                let name = package.file_name().context("a package without a name")?;
                fs::copy(package, self.root.join(name))?;
                arguments.push(format!("/{}", name.to_string_lossy()));
            }
            Ok(arguments)
        };
        let (install_now, install_next) = (install(&now)?, install(&next)?);
        self.install(&install_now)?;
        self.judge("install", None);
        self.installed(&version)?;
        self.boot("boot", &version)?;

        self.install(&install_next)?;
        self.judge("upgrade", None);
        self.installed(NEXT)?;
        self.boot("boot_upgraded", NEXT)?;

        let names = [
            "dmabuf-coherency-dkms",
            "dmabuf-coherency-dev",
            "dmaheap",
            "libdmaheap-dev",
            "libdmaheap0",
        ];
        self.enter(&[&["apt-get", "remove", "-y"], &names[..]].concat())?;
        self.judge("remove", None);
        let left = self.enter(&["dkms", "status", "dmabuf-coherency"])?;
        self.judge("remove.dkms", unless_equal(left.trim(), ""));
        // Purging must leave no file behind.
        self.enter(&[&["dpkg", "--purge"], &names[..]].concat())?;
        self.judge("purge", None);
        let left = self.enter(&[
            "find",
            "/",
            "-xdev",
            "(",
            "-name",
            "*dmabuf?coherency*",
            "-o",
            "-name",
            "*dmaheap*",
            ")",
            "!",
            "-name",
            "*.deb",
        ])?;
        self.judge("purge.nothing_left", unless_equal(&left, ""));
        Ok(())
    }

    /// Makes a Debian with the newest kernel of its backports, as our documentation says.
    fn bootstrap(&self) -> Result<()> {
        let (mirror, keyring) = vm::debian_mirror()?;
        let signed = keyring.as_ref().map(|path| format!("--keyring={path}"));
        fs::create_dir_all(self.archives.join("partial"))?;
        done(
            Command::new("debootstrap")
                .args(signed)
                .args(["--variant=minbase", SUITE])
                .arg(&self.root)
                .arg(&mirror),
        )?;
        let backports = format!("deb {mirror} {SUITE}-backports main\n");
        fs::write(
            self.root.join("etc/apt/sources.list.d/backports.list"),
            backports,
        )?;
        // It need not survive a crash of this machine.
        fs::write(
            self.root.join("etc/dpkg/dpkg.cfg.d/unsafe-io"),
            "force-unsafe-io\n",
        )?;
        self.enter(&["apt-get", "update"])?;
        self.enter(&["apt-get", "install", "-y", "systemd-sysv"])?;
        let backports = format!("{SUITE}-backports");
        self.enter(&[
            "apt-get",
            "install",
            "-y",
            "-t",
            &backports,
            "linux-image-amd64",
            "linux-headers-amd64",
        ])?;
        Ok(())
    }

    /// Installs packages. If DKMS cannot build the module, it prints only the path of the log, so
    /// the error shows the log.
    fn install(&self, command: &[String]) -> Result<String> {
        self.enter(command).map_err(|error| {
            let log = "tail -n 40 /var/lib/dkms/dmabuf-coherency/*/build/make.log";
            let log = self.enter(&["sh", "-c", log]).unwrap_or_default();
            error.context(log)
        })
    }

    /// Runs a command in that Debian, and returns its output.
    fn enter<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<String> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", ENTER, "sh"]);
        unshare.arg(&self.root).arg(&self.archives).args(command);
        unshare.env_clear().envs([
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("LC_ALL", "C"),
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ]);
        done(&mut unshare)
    }

    /// Tests that the module of this version is installed for the kernel, and no other version.
    fn installed(&mut self, version: &str) -> Result<()> {
        let kernel = self.kernel()?;
        let seen = self.enter(&["dkms", "status", "dmabuf-coherency"])?;
        let expected = format!("dmabuf-coherency/{version}, {kernel}, x86_64: installed");
        self.judge(
            &format!("{version}.dkms"),
            unless_equal(seen.trim(), &expected),
        );
        let field = |name| self.enter(&["modinfo", "-k", &kernel, "-F", name, "dmabuf_coherency"]);
        let (seen, signer) = (field("version")?, field("signer")?);
        self.judge(
            &format!("{version}.module"),
            unless_equal(seen.trim(), version),
        );
        let unsigned = signer
            .trim()
            .is_empty()
            .then(|| "it has no signature".into());
        self.judge(&format!("{version}.signed"), unsigned);
        Ok(())
    }

    /// The release of that Debian's kernel.
    fn kernel(&self) -> Result<String> {
        let entry = fs::read_dir(self.root.join("lib/modules"))?.next();
        let entry = entry.context("no kernel has been installed")??;
        Ok(entry.file_name().to_string_lossy().into_owned())
    }

    /// Boots a copy of that Debian with its kernel. Tests that the module is loaded and works.
    fn boot(&mut self, name: &str, version: &str) -> Result<()> {
        let (disk, console, report) = (
            self.work.join("disk"),
            self.work.join("console"),
            self.work.join("report"),
        );
        let program = self.root.join("usr/local/sbin/report");
        fs::write(&program, REPORT)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        // Without these stamps the first boot takes minutes to build caches.
        for directory in ["etc", "var"] {
            fs::write(self.root.join(directory).join(".updated"), "")?;
        }
        let copy = self.work.join("copy");
        done(Command::new("cp").arg("-al").arg(&self.root).arg(&copy))?;
        for directory in FOR_BUILDS {
            fs::remove_dir_all(copy.join(directory))?;
        }
        let _ = fs::remove_file(&disk);
        done(
            Command::new("mke2fs")
                .args(["-q", "-t", "ext4", "-d"])
                .arg(&copy)
                .arg(&disk)
                .arg("4G"),
        )?;
        fs::remove_dir_all(&copy)?;
        let kernel = self.kernel()?;
        let file = |kind: &str, path: &Path| format!("{kind}:{}", path.display());
        let mut qemu = Command::new("timeout");
        qemu.args(["1800", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"])
            .args([
                "-smp",
                "2",
                "-m",
                "1G",
                "-nodefaults",
                "-display",
                "none",
                "-no-reboot",
            ])
            .arg("-kernel")
            .arg(self.root.join(format!("boot/vmlinuz-{kernel}")))
            .arg("-initrd")
            .arg(self.root.join(format!("boot/initrd.img-{kernel}")))
            .args([
                "-append",
                "root=/dev/vda rw console=ttyS0 panic=-1 apparmor=0 systemd.run=/usr/local/sbin/report \
                 systemd.run_success_action=poweroff systemd.run_failure_action=poweroff",
            ])
            .arg("-drive")
            .arg(format!("file={},format=raw,if=virtio", disk.display()))
            .args([
                "-serial",
                &file("file", &console),
                "-serial",
                &file("file", &report),
            ]);
        let outcome = output(&mut qemu)?;
        let text =
            |path| fs::read(path).map(|text| String::from_utf8_lossy(&text).replace('\r', ""));
        let expected = format!("active\n{version}\nvideo 660\n1048576\n");
        let problem = unless_equal(&text(&report)?, &expected);
        let problem = problem.or(unless_done(&outcome));
        let console = text(&console)?;
        self.judge(name, problem.map(|problem| format!("{problem}\n{console}")));
        Ok(())
    }
}

/// The version of a source tree.
fn version(source: &Path) -> Result<String> {
    let manifest = fs::read_to_string(source.join("tools/Cargo.toml"))?;
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    Ok(version.context("tools/Cargo.toml names no version")?.into())
}

/// Changes a source tree to the next version, as a release does.
fn release(source: &Path, version: &str) -> Result<()> {
    let manifest = source.join("tools/Cargo.toml");
    let line = |version: &str| format!("version = \"{version}\"");
    let text = fs::read_to_string(&manifest)?.replacen(&line(version), &line(NEXT), 1);
    fs::write(&manifest, text)?;
    let mut update = Command::new(source.join("tools/vm/cargo"));
    done(update.args(["update", "--quiet", "--workspace", "--offline"])).map(drop)
}

/// Builds the packages of a source tree.
fn build(source: &Path, out: &Path) -> Result<Vec<PathBuf>> {
    let mut make = make(source);
    make.arg("deb").arg(format!("OUT={}", out.display()));
    // The packages need the name of a builder.
    make.env_remove("DEBFULLNAME");
    done(make.env("DEBEMAIL", "packages@debian.org"))?;
    let mut packages = Vec::new();
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    packages.sort();
    Ok(packages)
}

fn unless_equal(seen: &str, expected: &str) -> Option<String> {
    (seen != expected).then(|| format!("expected {expected:?}, got {seen:?}"))
}
