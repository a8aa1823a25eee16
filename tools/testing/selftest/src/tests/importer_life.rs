// SPDX-License-Identifier: GPL-2.0

//! Devices that make wrong requests, or are closed in the middle of something. They are
//! those of the module `dmabuf_importer`.

use super::Test;
use crate::bufinfo;
use crate::expect::expect_errno;
use crate::heap::Buffer;
use crate::ioctl;
use crate::mapping::page_size;
use crate::memory::eventually;
use crate::options::Options;
use crate::process::in_fork;
use crate::reach::{accepted_by, suitable};
use crate::test_importer::{
    self, Attachment, Direction, Importer, Kind, Mapped, RawSetup, SCATTERED,
};
use anyhow::{Result, ensure};
use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::io::Errno;
use rustix::process::Signal;
use std::fs::{self, File};
use std::time::Duration;

const MIB: usize = 1 << 20;

pub const TESTS: &[Test] = &[
    Test::new(
        "importer.bad_input",
        "wrong requests are refused, and harm nothing",
        bad_input,
    ),
    Test::new(
        "importer.left_open",
        "closing a device undoes its attachments, mappings and brackets",
        left_open,
    ),
    Test::new(
        "importer.killed",
        "killing a process undoes what its device was doing",
        killed,
    ),
];

fn bad_input(options: &Options) -> Result<()> {
    let importer = Importer::open()?;
    let buffer = options.control()?.alloc(2 * page_size())?;
    let size = buffer.size() as u64;
    let seen = importer.attach(&buffer, Kind::Static);
    expect_errno("attaching before anything is set up", seen, Errno::NODEV)?;
    expect_errno(
        "a mask before anything is set up",
        importer.set_mask(64),
        Errno::NODEV,
    )?;
    let good = RawSetup {
        mask_bits: 64,
        ..RawSetup::default()
    };
    for bad in [
        RawSetup { flags: 8, ..good },
        // Edu snoops as the firmware says.
        RawSetup { flags: 5, ..good },
        RawSetup { flags: 2, ..good },
        RawSetup {
            mask_bits: 0,
            ..good
        },
        RawSetup {
            mask_bits: 65,
            ..good
        },
        RawSetup {
            segment_boundary: 0x1000,
            ..good
        },
    ] {
        expect_errno("a wrong set-up", importer.raw_setup(&bad), Errno::INVAL)?;
    }
    // SAFETY: Nothing can be read or written at address 0.
    let seen = unsafe { ioctl::at_address(&importer, test_importer::SETUP, 0) };
    expect_errno("a set-up at a null pointer", seen, Errno::FAULT)?;
    // SAFETY: The module knows no such ioctl.
    let seen = unsafe { ioctl::at_address(&importer, rustix::ioctl::opcode::none(0xf7, 99), 0) };
    expect_errno("an unknown ioctl", seen, Errno::NOTTY)?;
    importer.raw_setup(&good)?;
    expect_errno("a second set-up", importer.raw_setup(&good), Errno::BUSY)?;

    // SAFETY: Nobody owns this number. The kernel must refuse it.
    let closed = unsafe { BorrowedFd::borrow_raw(1_000_000) };
    let file = File::open("/dev/null")?;
    for (fd, errno) in [(closed, Errno::BADF), (file.as_fd(), Errno::INVAL)] {
        for kind in Kind::ALL {
            expect_errno("attaching to no dma-buf", importer.attach(fd, kind), errno)?;
        }
        expect_errno("vmap of no dma-buf", importer.vmap(fd), errno)?;
        expect_errno("a query of no dma-buf", importer.query(fd), errno)?;
        let seen = importer.begin_cpu_access(fd, Direction::ToDevice);
        expect_errno("a bracket of no dma-buf", seen, errno)?;
    }

    let attachment = importer.attach(&buffer, Kind::Static)?;
    let seen = importer.raw_map(attachment, 3);
    expect_errno("mapping in no direction", seen, Errno::INVAL)?;
    let seen = importer.map(Attachment(attachment.0 + 1), Direction::ToDevice);
    expect_errno("mapping nothing", seen, Errno::NOENT)?;
    let mapped = importer.map(attachment, Direction::Bidirectional)?;
    let vmap = importer.vmap(&buffer)?;
    for (offset, len) in [
        (size, 1),
        (size - 1, 2),
        (0, buffer.size() + 1),
        (u64::MAX, 1),
        (1 << 40, 8),
    ] {
        let what = format!("{len} bytes at {offset:#x} of {size}");
        let bytes = vec![0; len];
        expect_errno(&what, importer.read(&mapped, offset, len), Errno::INVAL)?;
        expect_errno(&what, importer.write(&mapped, offset, &bytes), Errno::INVAL)?;
        expect_errno(&what, importer.kread(&vmap, offset, len), Errno::INVAL)?;
        expect_errno(&what, importer.kwrite(&vmap, offset, &bytes), Errno::INVAL)?;
    }
    importer.write(&mapped, size, &[])?;
    importer.kwrite(&vmap, size, &[])?;
    expect_errno(
        "unmapping an attachment",
        importer.unmap(&Mapped {
            handle: attachment.0,
            ..mapped
        }),
        Errno::NOENT,
    )
}

/// Does everything that a device can leave behind, and returns the device's name.
fn leave_open(options: &Options, importer: &Importer, buffer: &Buffer) -> Result<String> {
    let name = importer.setup(&accepted_by(&options.heap))?;
    for kind in Kind::ALL {
        let attachment = importer.attach(buffer, kind)?;
        importer.attach(buffer, kind)?;
        importer.map(attachment, Direction::Bidirectional)?;
    }
    importer.vmap(buffer)?;
    importer.vmap(buffer)?;
    importer.begin_cpu_access(buffer, Direction::Bidirectional)?;
    Ok(name)
}

/// Fails unless both the buffer and the device are gone.
fn expect_gone(inode: u64, name: &str, when: &str) -> Result<()> {
    let gone = eventually(|| {
        let listed = bufinfo::list()?.iter().any(|listed| listed.inode == inode);
        Ok(!listed && !test_importer::sysfs(name).exists())
    })?;
    ensure!(gone, "{when}: the buffer or the device {name} still exists");
    Ok(())
}

fn left_open(options: &Options) -> Result<()> {
    drop(suitable(options)?);
    let heap = options.heap()?;
    for round in 0..100 {
        let buffer = heap.alloc([4096, MIB, SCATTERED][round % 3])?;
        let inode = buffer.inode();
        let importer = Importer::open()?;
        let name = leave_open(options, &importer, &buffer)?;
        ensure!(
            test_importer::sysfs(&name).exists(),
            "there is no device {name}"
        );
        // Either of the two may go first.
        if round % 2 == 0 {
            drop(buffer);
            let seen = bufinfo::attached(inode)?.len();
            ensure!(
                seen == 4,
                "after closing the buffer: expected 4 attachments, got {seen}"
            );
            drop(importer);
        } else {
            drop(importer);
            let seen = bufinfo::attached(inode)?;
            ensure!(
                seen.is_empty(),
                "after closing the device: {seen:?} attached"
            );
            buffer
                .map()?
                .expect_zeroed("a buffer whose device was closed")?;
            drop(buffer);
        }
        expect_gone(inode, &name, &format!("round {round}"))?;
    }
    Ok(())
}

/// The devices of the test module that exist.
fn devices() -> Result<Vec<String>> {
    let entries = fs::read_dir("/sys/devices/faux")?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let ours = |name: &Result<String>| {
        name.as_ref()
            .is_ok_and(|name| name.starts_with("dmabuf_importer."))
    };
    names.filter(ours).collect()
}

fn killed(options: &Options) -> Result<()> {
    drop(suitable(options)?);
    let heap = options.heap()?;
    for round in 0..20 {
        let buffer = heap.alloc(SCATTERED)?;
        let survived = in_fork(|| {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5 + round));
                rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)
            });
            let busy = || -> Result<()> {
                let importer = Importer::open()?;
                leave_open(options, &importer, &buffer)?;
                loop {
                    let attachment = importer.attach(&buffer, Kind::Dynamic)?;
                    let mapped = importer.map(attachment, Direction::Bidirectional)?;
                    importer.read(&mapped, 0, buffer.size())?;
                    importer.vmap(&buffer)?;
                }
            };
            println!("expected to be killed, got {:?}", busy());
            true
        })?;
        ensure!(!survived, "the fork was not killed");
        let gone = eventually(|| {
            Ok(bufinfo::attached(buffer.inode())?.is_empty() && devices()?.is_empty())
        })?;
        ensure!(
            gone,
            "round {round}: {:?} still attached, {:?} still there",
            bufinfo::attached(buffer.inode())?,
            devices()?
        );
        buffer
            .map()?
            .expect_zeroed("a buffer that only the killed process used")?;
    }
    Ok(())
}
