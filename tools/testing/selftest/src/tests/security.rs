// SPDX-License-Identifier: GPL-2.0

//! Which information and which access the module gives, and to whom.

use super::Test;
use crate::expect::expect_errno;
use crate::heap::{Buffer, Heap};
use crate::ioctl;
use crate::links::{KernelLog, Uevents, linked_devices};
use crate::options::{Options, is_ours};
use crate::process::in_fork;
use crate::query::{self, QUERY, Query};
use crate::reach::allocates;
use crate::rules::Rules;
use anyhow::{Context as _, Result, ensure};
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub const TESTS: &[Test] = &[
    Test::new(
        "security.addresses",
        "no file, answer, message or event contains an address of the kernel",
        addresses,
    ),
    Test::new(
        "security.modes",
        "users other than root can open only what modes allow, and can change nothing",
        modes,
    ),
    Test::new(
        "security.descriptors",
        "a query answers only about descriptors of the calling process",
        descriptors,
    ),
];

const MODULE: &str = "/sys/module/dmabuf_coherency";

/// The lowest address of the kernel on both architectures, with the largest range of user space.
const KERNEL: u64 = 0xffff_0000_0000_0000;

/// Finds addresses of the kernel: 16 digits or more, or the eight bytes themselves.
fn addresses_in(told: &[u8]) -> BTreeSet<u64> {
    let words = told.split(|byte| !byte.is_ascii_hexdigit());
    let words = words.filter_map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        [16, 10].into_iter().find_map(|radix| {
            let number = u64::from_str_radix(word, radix).ok()?;
            (word.len() >= 16).then_some(number)
        })
    });
    let bytes = told
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("a chunk of 8 bytes")));
    words.chain(bytes).filter(|word| *word >= KERNEL).collect()
}

/// The files below a directory of sysfs. Symbolic links are not followed.
fn files_below(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files_below(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn our_heaps() -> Result<Vec<String>> {
    let mut heaps = Vec::new();
    for entry in fs::read_dir("/sys/class/dma_heap")? {
        heaps.push(entry?.file_name().to_string_lossy().into_owned());
    }
    heaps.retain(|heap| is_ours(heap));
    ensure!(
        !heaps.is_empty(),
        "expected heaps of the module: is it loaded?"
    );
    Ok(heaps)
}

/// All files that the module makes.
fn files() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![
        PathBuf::from(MODULE),
        PathBuf::from("/sys/class/misc/dmabuf_coherency"),
    ];
    for heap in our_heaps()? {
        directories.push(Path::new("/sys/class/dma_heap").join(heap));
    }
    for device in linked_devices()? {
        directories.push(device.join("dma_heaps"));
    }
    for directory in directories {
        files_below(&fs::canonicalize(directory)?, &mut found)?;
    }
    Ok(found)
}

/// Whether the kernel itself shows root the addresses of the module in this file.
fn is_for_root(path: &Path) -> bool {
    path.starts_with(Path::new(MODULE).join("sections"))
}

fn addresses(options: &Options) -> Result<()> {
    let mut told: Vec<(String, Vec<u8>)> = Vec::new();
    let mut sections = Vec::new();
    for path in files()? {
        // Some can only be written.
        let Ok(text) = fs::read(&path) else {
            continue;
        };
        if is_for_root(&path) {
            let mode = fs::metadata(&path)?.mode();
            ensure!(mode & 0o077 == 0, "{} has mode {mode:o}", path.display());
            sections.extend(text);
        } else {
            told.push((path.display().to_string(), text));
        }
    }
    ensure!(
        !addresses_in(&sections).is_empty(),
        "expected to find the addresses in {MODULE}/sections, but found none"
    );

    let uevents = Uevents::listen()?;
    let rules = Rules::save()?;
    rules.set("vgem=system")?;
    drop(rules);
    for event in uevents.drain_whole()? {
        told.push(("an event".into(), event.into_bytes()));
    }
    for line in KernelLog::open()?.lines()? {
        if line.contains("dmabuf_coherency") || line.contains("DMA heap") {
            told.push(("the kernel's log".into(), line.into_bytes()));
        }
    }
    let node = query::open()?;
    for heap in our_heaps()? {
        if !allocates(&heap)? {
            continue;
        }
        let buffer = Heap::open(&heap)?.alloc(1)?;
        let fdinfo = format!("/proc/self/fdinfo/{}", buffer.as_fd().as_raw_fd());
        told.push((format!("fdinfo of {heap}"), fs::read(fdinfo)?));
        told.push((format!("the answer about {heap}"), ask(&node, &buffer)?));
    }

    println!(
        "looked at {} files, answers, messages and events",
        told.len()
    );
    let found = told
        .iter()
        .map(|(what, told)| (what, addresses_in(told)))
        .find(|(_, addresses)| !addresses.is_empty());
    ensure!(
        found.is_none(),
        "expected no address of the kernel, found {found:x?}"
    );
    options.need_our_heap()
}

/// The bytes of an answer.
fn ask(node: &OwnedFd, buffer: &Buffer) -> Result<Vec<u8>> {
    let answer = Query::about(buffer.as_fd().as_raw_fd()).answer(node)?;
    let words = [answer.properties, answer.reserved];
    let mut bytes = words.map(u64::to_le_bytes).concat();
    bytes.extend(answer.heap);
    Ok(bytes)
}

/// Runs `body` as the user nobody, in a fork. Fails if `body` fails.
fn as_nobody(body: impl FnOnce() -> Result<()>) -> Result<()> {
    const NOBODY: u32 = 65534;
    let good = in_fork(|| {
        // SAFETY: These change only the user and groups of this process, which is a fork.
        let changed = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(NOBODY) == 0
                && libc::setuid(NOBODY) == 0
        };
        let result = if changed {
            body()
        } else {
            Err(anyhow::anyhow!("cannot become nobody"))
        };
        if let Err(error) = &result {
            println!("{error:#}");
        }
        result.is_ok()
    })?;
    ensure!(good, "see above");
    Ok(())
}

/// Fails unless others can do exactly what the mode allows them.
fn expect_mode(path: &Path, metadata: &Metadata) -> Result<()> {
    let mode = metadata.permissions().mode();
    for (what, bit, opened) in [
        ("read", 0o4, File::options().read(true).open(path)),
        ("written", 0o2, File::options().write(true).open(path)),
    ] {
        let denied = opened
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()));
        ensure!(
            denied == (mode & bit == 0),
            "{} has mode {mode:o}, but opening it to be {what} ended with {opened:?}",
            path.display()
        );
    }
    Ok(())
}

fn modes(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let mut found = files()?;
    for heap in our_heaps()? {
        found.push(Heap::path(&heap));
    }
    let found: Vec<_> = found
        .into_iter()
        .map(|path| fs::metadata(&path).map(|metadata| (path, metadata)))
        .collect::<std::io::Result<_>>()?;
    for (path, metadata) in &found {
        let mode = metadata.permissions().mode();
        ensure!(
            metadata.uid() == 0 && mode & 0o002 == 0,
            "{} may be written by others: mode {mode:o}, owner {}",
            path.display(),
            metadata.uid()
        );
    }
    as_nobody(|| {
        found
            .iter()
            .try_for_each(|(path, metadata)| expect_mode(path, metadata))
    })?;
    // udev rules may open the node to all users. Its mode alone decides.
    let node = Path::new("/dev/dmabuf_coherency");
    let before = fs::metadata(node)?.permissions();
    let result = [0o600, 0o666].into_iter().try_for_each(|mode| {
        fs::set_permissions(node, fs::Permissions::from_mode(mode))?;
        let metadata = fs::metadata(node)?;
        as_nobody(|| expect_mode(node, &metadata))
    });
    fs::set_permissions(node, before)?;
    result
}

fn descriptors(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let node = query::open()?;
    let buffer = options.heap()?.alloc(1)?;
    let number = buffer.as_fd().as_raw_fd();
    let null = File::open("/dev/null")?;
    Query::about(number).answer(&node)?;
    as_nobody(|| {
        Query::about(number).answer(&node)?;
        drop(buffer);
        for (fd, expected) in [
            (number, Errno::BADF),
            (-1, Errno::BADF),
            (i32::MAX, Errno::BADF),
            (null.as_raw_fd(), Errno::INVAL),
            (node.as_raw_fd(), Errno::INVAL),
        ] {
            let mut question = Query::about(fd);
            let before = question;
            let address = (&raw mut question).expose_provenance();
            // SAFETY: The kernel writes to `question`, no more than the size that it has.
            let seen = unsafe { ioctl::at_address(&node, QUERY, address) };
            expect_errno(&format!("asking about descriptor {fd}"), seen, expected)?;
            ensure!(question == before, "{fd}: the answer was written to");
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::addresses_in;

    #[test]
    fn addresses_are_found() {
        for told in [
            &b"at ffffffffc0a01000 it"[..],
            b"0xffff800012345678\n",
            b"18446603336221196288",
            b"\x00\x10\xa0\xc0\xff\xff\xff\xff",
        ] {
            assert_eq!(addresses_in(told).len(), 1, "{told:?}");
        }
    }

    #[test]
    fn other_numbers_are_none() {
        for told in [
            &b"4096 18446462598732840959"[..],
            b"MODALIAS=pci:v00001234d00001111sv00001AF4sd00001100bc03sc80i00",
            b"00000000c0a01000",
            b"4FB9F9D5A2C5A3B5A1E2D3C",
            b"\x00\x10\xa0\xc0\xff\xff\x00\x00",
        ] {
            assert!(addresses_in(told).is_empty(), "{told:?}");
        }
    }
}
