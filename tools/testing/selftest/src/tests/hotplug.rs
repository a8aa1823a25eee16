// SPDX-License-Identifier: GPL-2.0

//! Links while devices, drivers and whole subsystems come and go.

use super::Test;
use crate::bufinfo;
use crate::expect::skip;
use crate::heap::Heap;
use crate::hotplug::{bindings, expect_back, linked, on_pci, rescan_pci};
use crate::kernel_module::{loaded, modprobe, releases_late, rmmod, unneeded};
use crate::links;
use crate::memory::eventually;
use crate::options::Options;
use crate::usb_camera::{self, Plugged};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::time::Duration;

pub const TESTS: &[Test] = &[
    Test::new(
        "links.unbind",
        "links go when the driver is unbound, and come back when it is bound",
        unbind,
    ),
    Test::new(
        "links.pci_hotplug",
        "links go when the device is removed, and come back with the device",
        pci_hotplug,
    ),
    Test::new(
        "links.usb_camera",
        "a USB camera has links while it is plugged, and may be unplugged while in use",
        usb_camera,
    ),
    Test::new(
        "links.subsystems",
        "whole subsystems can be unloaded and loaded again",
        subsystems,
    ),
    Test::new(
        "links.subsystems_usb",
        "USB can be unloaded and loaded again, with a camera plugged each time",
        subsystems_usb,
    ),
];

fn unbind(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    for binding in bindings()? {
        let before = linked(&binding.device)?;
        for round in 1..=3 {
            binding
                .unbind()
                .with_context(|| format!("in round {round}"))?;
            binding.bind()?;
            expect_back(&binding.device, &before)?;
        }
    }
    Ok(())
}

fn pci_hotplug(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    let devices = on_pci()?;
    let before: Vec<_> = devices
        .iter()
        .map(|path| linked(path))
        .collect::<Result<_>>()?;
    for _ in 0..3 {
        for path in &devices {
            fs::write(path.join("remove"), "1")?;
            ensure!(!path.exists(), "{} is still there", path.display());
        }
        rescan_pci()?;
        for (path, before) in devices.iter().zip(&before) {
            expect_back(path, before)?;
        }
    }
    Ok(())
}

fn usb_camera(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    usb_camera::need()?;
    for round in 1..=3 {
        let (camera, links) = Plugged::insert().with_context(|| format!("in round {round}"))?;
        println!("{}: {}", camera.path().display(), links.order.join(" "));
        // The CPU writes its frames, and another device has to be able to read them.
        let first = links.first.context("no heap suits the camera")?;
        ensure!(
            !links::is_strict(&first),
            "a device that does no DMA is linked to a strict heap first: {:?}",
            links.order
        );
        let heap = Heap::path(&first);
        let frames = camera.capture(&heap, &["--frames", "20"])?.status()?;
        ensure!(frames.success(), "capturing into {first}: {frames}");

        // The camera is unplugged while its buffers are in use.
        let mut capture = camera.capture(&heap, &["--until-unplugged"])?.spawn()?;
        let used = || {
            let mut buffers = bufinfo::list()?.into_iter();
            Ok(buffers.any(|buffer| buffer.exporter == first))
        };
        let in_use = eventually(used)?;
        ensure!(in_use, "nothing is captured into {first}");
        std::thread::sleep(Duration::from_millis(500));
        camera
            .remove()
            .with_context(|| format!("in round {round}"))?;
        let captured = capture.wait()?;
        ensure!(
            captured.success(),
            "capturing until it was unplugged: {captured}"
        );
    }
    Ok(())
}

/// A driver, the modules that can be unloaded once it has no device, and the class of its device.
const STACKS: &[(&str, &[&str], &str)] = &[
    (
        "vim2m",
        &[
            "vim2m",
            "v4l2_mem2mem",
            "videobuf2_vmalloc",
            "videobuf2_v4l2",
            "videodev",
        ],
        "video4linux",
    ),
    ("vgem", &["vgem", "drm_shmem_helper", "drm"], "drm"),
];

/// Unloads those of the modules that no other module needs any more.
fn unload(modules: &[&str]) -> Result<()> {
    for module in modules.iter().filter(|module| unneeded(module)) {
        rmmod(module)?;
    }
    Ok(())
}

/// Skips a test that unloads modules which this kernel frees too early.
fn need_prompt_release() -> Result<()> {
    if releases_late() {
        return skip(
            "with CONFIG_DEBUG_KOBJECT_RELEASE the kernel reports the unloading of vim2m or usbcore, \
             even if this module is not loaded",
        );
    }
    Ok(())
}

fn subsystems(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    need_prompt_release()?;
    let mut tried = false;
    for (driver, modules, class) in STACKS {
        if modprobe(driver, &[]).is_err() {
            continue;
        }
        tried = true;
        let class_exists = || Path::new("/sys/class").join(class).exists();
        for round in 1..=5 {
            let linked = || -> Result<bool> {
                Ok(links::linked_devices()?
                    .iter()
                    .any(|path| crate::device::base_name(path).starts_with(driver)))
            };
            ensure!(
                eventually(linked)?,
                "round {round}: {driver} is loaded, but its device has no links"
            );
            let alone = links::devices_of(class)?.len() == 1;
            unload(modules)?;
            ensure!(
                !alone || !class_exists(),
                "{driver} had the only device of class {class}, but the class did not go"
            );
            println!(
                "{driver}: class {class} {}",
                if class_exists() {
                    "stays, as others use it"
                } else {
                    "has gone"
                }
            );
            ensure!(
                !linked()?,
                "{driver} is not loaded, but its device has links"
            );
            modprobe(driver, &[])?;
        }
    }
    if !tried {
        return skip("neither vim2m nor vgem can be loaded here");
    }
    Ok(())
}

/// The modules between the camera and the kernel, from the outside in.
const USB: &[&str] = &[
    "uvcvideo",
    "uvc",
    "videobuf2_vmalloc",
    "videobuf2_v4l2",
    "videodev",
    "dummy_hcd",
    "raw_gadget",
    "udc_core",
    "usbcore",
];

fn subsystems_usb(options: &Options) -> Result<()> {
    options.need_our_heap()?;
    need_prompt_release()?;
    let mut orders = Vec::new();
    for round in 1..=5 {
        usb_camera::need()?;
        let (camera, links) = Plugged::insert().with_context(|| format!("in round {round}"))?;
        orders.push(links.order);
        camera.remove()?;
        // The last program that opened the node may still hold it.
        let mut result = Ok(());
        eventually(|| {
            result = unload(USB);
            Ok(result.is_ok())
        })?;
        result?;
        ensure!(
            !loaded("usbcore") && !Path::new("/sys/bus/usb").exists(),
            "round {round}: nothing uses usbcore, but it is still there"
        );
    }
    ensure!(
        orders.iter().all(|order| *order == orders[0]),
        "the camera had other links after USB was loaded again: {orders:#?}"
    );
    Ok(())
}
