// SPDX-License-Identifier: MIT OR GPL-2.0

//! From handles to devices, over made-up trees of sysfs.

mod tree;

use dmaheap::{Constraints, CpuMapping, Error, Exporter, Pieces, Result};
use std::fs::{self, File};
use tree::{OTHERS, SNOOPING, Tree};

/// A machine with a few devices. /dev/null plays the node of the camera.
fn machine() -> Tree {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    tree.vivid(1, OTHERS);
    tree.card(2, SNOOPING);
    // The device of each module that makes one, most of which import nothing.
    tree.device("faux", "faux_driver", "faux/dmabuf_coherency");
    tree.device("faux", "faux_driver", "faux/vgem")
        .node("drm", "card8", (226, 8));
    tree.device("faux", "", "mem/zero");
    tree.file("sys/devices/mem/zero/dev", "1:5\n");
    tree.link("sys/dev/char/1:5", "sys/devices/mem/zero");
    tree.device("faux", "faux_driver", "faux/vkms")
        .node("drm", "card9", (226, 9))
        .links(OTHERS);
    let usb = tree.device("usb", "usb", "pci0000:00/usb1/1-1");
    tree.file(format!("{}/uevent", usb.path), "DEVTYPE=usb_device\n");
    tree.link("sys/dev/char/189:3", &usb.path);
    tree.device("usb", "uvcvideo", "pci0000:00/usb1/1-1/1-1:1.0")
        .node("video4linux", "video7", (1, 3))
        .links(OTHERS);
    tree.device("usb", "uvcvideo", "pci0000:00/usb1/1-1/1-1:1.1");
    tree.device("pci", "virtio-pci", "pci0000:00/0000:00:03.0")
        .node("drm", "card3", (226, 3))
        .links(SNOOPING);
    tree.device("virtio", "virtio_gpu", "pci0000:00/0000:00:03.0/virtio0");
    tree.device("media", "", "platform/vivid.0/media0");
    tree.link("sys/bus/pci/drivers/bochs-drm/module", "sys/module/bochs");
    tree
}

fn name(tree: &Tree, handle: &str) -> Result<String> {
    Ok(tree.system().device(handle)?.name)
}

#[test]
fn every_handle_leads_to_its_device() {
    let tree = machine();
    let path = |path: &str| tree.path(path).display().to_string();
    let handles: &[(&str, String, &str)] = &[
        ("a node", "/dev/null".into(), "1-1:1.0"),
        ("a node's name", "video0".into(), "vivid.0"),
        ("a device's name", "vivid.1".into(), "vivid.1"),
        ("a PCI address", "0000:00:02.0".into(), "0000:00:02.0"),
        ("a short PCI address", "00:02.0".into(), "0000:00:02.0"),
        ("a USB interface", "1-1:1.0".into(), "1-1:1.0"),
        (
            "a USB device, whose interface it is",
            "1-1".into(),
            "1-1:1.0",
        ),
        ("a driver", "virtio-pci".into(), "0000:00:03.0"),
        (
            "a driver, one of whose interfaces has a node",
            "uvcvideo".into(),
            "1-1:1.0",
        ),
        (
            "a driver of a virtio device",
            "virtio_gpu".into(),
            "0000:00:03.0",
        ),
        ("a virtio device", "virtio0".into(), "0000:00:03.0"),
        ("a media controller", "media0".into(), "vivid.0"),
        ("a module", "bochs".into(), "0000:00:02.0"),
        (
            "a class device",
            path("sys/class/drm/card2"),
            "0000:00:02.0",
        ),
        (
            "a link of a class device",
            path("sys/class/drm/card2/device"),
            "0000:00:02.0",
        ),
        (
            "a device's directory",
            path("sys/devices/platform/vivid.1"),
            "vivid.1",
        ),
        ("by number", path("sys/dev/char/81:1"), "vivid.1"),
        (
            "a USB device by number",
            path("sys/dev/char/189:3"),
            "1-1:1.0",
        ),
    ];
    for (what, handle, expected) in handles {
        assert_eq!(
            name(&tree, handle).expect(what),
            *expected,
            "{what}: {handle}"
        );
    }
    let open = File::open("/dev/null").unwrap();
    let device = tree.system().device_of_fd(&open).unwrap();
    assert_eq!(device.name, "1-1:1.0");
    assert_eq!(device.driver.as_deref(), Some("uvcvideo"));
    assert_eq!(device.snooping.snoops, None);
    assert_eq!(device.best_heap(), Some("system-noncoherent"));
    assert_eq!(device.nodes, [tree.path("dev/video7")]);
}

/// Each bad handle gets its sentence.
#[test]
fn every_bad_handle_is_told_apart() {
    let tree = machine();
    let path = |path: &str| tree.path(path).display().to_string();
    let said = |handle: &str| name(&tree, handle).unwrap_err().to_string();
    for (handle, expected) in [
        (
            "video99",
            "there is no device video99: `dmaheap devices` lists",
        ),
        ("/dev/video99", "there is no device /dev/video99"),
        (
            "vivid",
            "vivid stands for several devices: name one of vivid.0 and vivid.1",
        ),
        (
            "faux_driver",
            "faux_driver stands for several devices: name one of vgem and vkms",
        ),
        (
            "/dev/zero",
            "/dev/zero is not a video, display or accelerator node: give a device node",
        ),
        ("/dev/full", "the device of /dev/full is gone"),
        (
            &path("sys/class/drm/card2/dev"),
            "a file, and no device node",
        ),
        (&path("sys/devices/platform"), "and not that of a device"),
        ("/tmp", "/tmp is a directory, and not that of a device"),
        ("/tmp/", "/tmp/ is a directory, and not that of a device"),
        ("", "there is no device"),
        ("..", "there is no device"),
    ] {
        assert!(
            said(handle).contains(expected),
            "{handle}: {}",
            said(handle)
        );
    }
    let directory = File::open("/tmp").unwrap();
    let problem = tree.system().device_of_fd(&directory).unwrap_err();
    assert!(matches!(problem, Error::NotADevice { .. }), "{problem}");
}

#[test]
fn a_device_that_goes_takes_its_links_along() {
    let tree = machine();
    let camera = tree.system().device("vivid.0").unwrap();
    fs::remove_dir_all(camera.path.join("dma_heaps")).unwrap();
    assert_eq!(tree.system().device("vivid.0").unwrap().order, None);
    fs::remove_dir_all(&camera.path).unwrap();
    assert!(matches!(
        tree.system().device("vivid.0"),
        Err(Error::NoSuchDevice(_))
    ));
    assert!(
        tree.system()
            .devices()
            .unwrap()
            .iter()
            .all(|device| device.name != "vivid.0")
    );
}

#[test]
fn all_devices_with_nodes_or_links_are_listed_once() {
    let tree = machine();
    tree.device("platform", "chosen", "platform/without-node")
        .links("system");
    let devices = tree.system().devices().unwrap();
    assert_eq!(devices[1].nodes, [tree.path("dev/dri/card9")]);
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    let expected = [
        "vgem",
        "vkms",
        "0000:00:02.0",
        "0000:00:03.0",
        "1-1:1.0",
        "vivid.0",
        "vivid.1",
        "without-node",
    ];
    assert_eq!(names, expected);
}

#[test]
fn snooping_is_what_the_evidence_says() {
    let tree = machine();
    let firmware = "sys/firmware/devicetree/base";
    tree.file(format!("{firmware}/pcie/dma-coherent"), "");
    tree.file(format!("{firmware}/soc/dma-coherent"), "");
    tree.file(format!("{firmware}/soc/gpu/dma-noncoherent"), "");
    tree.directory(format!("{firmware}/soc/isp"));
    tree.link("sys/devices/pci0000:00/of_node", format!("{firmware}/pcie"));
    for (name, node) in [("gpu", "soc/gpu"), ("isp", "soc/isp")] {
        let device = tree.device("platform", name, &format!("platform/{name}"));
        tree.link(
            format!("{}/of_node", device.path),
            format!("{firmware}/{node}"),
        );
    }
    tree.device("pci", "plain", "pci0000:00/0000:00:05.0");
    // The links are not for this one; its own word comes first.
    tree.device("platform", "vpu", "platform/vpu")
        .links(SNOOPING)
        .constraints("0 32 0 one");
    let vpu = format!(
        "the kernel says so: {}",
        tree.path("sys/devices/platform/vpu/dma_heaps/snoops")
            .display()
    );
    for (handle, snoops, evidence) in [
        (
            "0000:00:03.0",
            Some(true),
            "it is linked to system-coherent",
        ),
        (
            "0000:00:05.0",
            Some(true),
            "dma-coherent in /pcie of the device tree",
        ),
        ("isp", Some(true), "dma-coherent in /soc of the device tree"),
        (
            "gpu",
            Some(false),
            "dma-noncoherent in /soc/gpu of the device tree",
        ),
        ("vkms", Some(false), "the device tree does not have it"),
        ("vpu", Some(false), &vpu),
        (
            "1-1:1.0",
            None,
            "USB: its driver copies the data with the CPU",
        ),
    ] {
        let snooping = tree.system().device(handle).unwrap().snooping;
        assert_eq!(
            (snooping.snoops, snooping.evidence.as_str()),
            (snoops, evidence),
            "{handle}"
        );
    }
}

#[test]
fn without_a_device_tree_the_architecture_is_the_evidence() {
    let tree = machine();
    fs::remove_dir_all(tree.path("sys/firmware")).unwrap();
    for (arch, snoops) in [
        ("aarch64", None),
        ("x86_64", Some(true)),
        ("i686", Some(true)),
        ("riscv64", None),
    ] {
        tree.file("proc/sys/kernel/arch", arch);
        let device = tree.system().device("vkms").unwrap();
        assert_eq!(device.snooping.snoops, snoops, "{arch}");
    }
}

#[test]
fn constraints_are_what_the_files_say() {
    let tree = Tree::new();
    for (values, expected, sentence) in [
        (
            "1 64 0 any",
            (true, 64, false, Pieces::Any, Pieces::Any),
            "snoops the CPU caches, reaches 64 address bits, takes any number of pieces",
        ),
        (
            "0 32 0 one",
            (false, 32, false, Pieces::One, Pieces::One),
            "does not snoop the CPU caches, reaches 32 address bits, needs one piece",
        ),
        (
            "0 40 1 one",
            (false, 40, true, Pieces::One, Pieces::Any),
            "does not snoop the CPU caches, is behind an IOMMU, needs one piece",
        ),
        (
            "1 0 0 unknown",
            (true, 0, false, Pieces::Unknown, Pieces::Unknown),
            "snoops the CPU caches, has no DMA mask, is not known to take more than one piece",
        ),
    ] {
        tree.vivid(0, OTHERS).constraints(values);
        let device = tree.system().device("vivid.0").unwrap();
        let (snoops, address_bits, iommu, pieces, physical) = expected;
        let expected = Constraints {
            snoops,
            address_bits,
            iommu,
            pieces,
        };
        assert_eq!(device.constraints, Some(expected), "{values}");
        assert_eq!(expected.physical_pieces(), physical, "{values}");
        assert_eq!(expected.to_string(), sentence);
    }
}

#[test]
fn constraints_that_are_not_all_there_are_not_known() {
    let tree = Tree::new();
    for file in ["snoops", "address_bits", "iommu", "pieces"] {
        let vivid = tree.vivid(0, OTHERS);
        let path = tree.path(&vivid.path).join("dma_heaps").join(file);
        fs::remove_file(path).unwrap();
        let device = tree.system().device("vivid.0").unwrap();
        assert_eq!(device.constraints, None, "{file}");
        assert_eq!(
            device.snooping.evidence, "the device tree does not have it",
            "{file}"
        );
    }
    tree.vivid(0, OTHERS).constraints("maybe 64 0 any");
    let device = tree.system().device("vivid.0").unwrap();
    assert_eq!(device.constraints, None);
}

#[test]
fn a_rule_is_the_heaps_that_it_names() {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    for (rules, expected) in [
        ("", None),
        ("uvcvideo=system", None),
        ("viv=system,vivid.0=system", None),
        (
            "uvcvideo=system,vivid=system-uncached:system",
            Some(&["system-uncached", "system"][..]),
        ),
        ("vivid=pieces/any", None),
        ("vivid=pieces/one,uvcvideo=system", None),
        ("vivid=pieces/any:system", Some(&["system"][..])),
    ] {
        tree.file(
            "sys/module/dmabuf_coherency/parameters/links",
            &format!("{rules}\n"),
        );
        let rule = tree.system().device("vivid.0").unwrap().rule;
        let rule: Option<Vec<_>> = rule
            .as_ref()
            .map(|heaps| heaps.iter().map(String::as_str).collect());
        assert_eq!(rule.as_deref(), expected, "{rules}");
    }
}

#[test]
fn heaps_tell_what_they_are() {
    let tree = Tree::new();
    let heap = tree.system().heap("default_cma_region-uncached").unwrap();
    assert_eq!(heap.exporter, Exporter::Module);
    assert_eq!(heap.dma_coherent, Some(false));
    assert_eq!(heap.contiguous, Some(true));
    assert_eq!(heap.cpu_mapping, Some(CpuMapping::WriteCombining));
    assert_eq!(
        (heap.buffers, heap.bytes, heap.limit),
        (Some(2), Some(8192), None)
    );
    assert_eq!(heap.capacity, Some(64 << 20));
    assert!(heap.access.is_allowed());
    tree.file(
        "sys/devices/virtual/dma_heap/default_cma_region-uncached/limit",
        "4096\n",
    );
    let heap = tree.system().heap("default_cma_region-uncached").unwrap();
    assert_eq!(heap.limit, Some(4096));
    assert_eq!(
        tree.system().heap("system").unwrap().exporter,
        Exporter::Kernel
    );
    tree.heap("vendor");
    let vendor = tree.system().heap("vendor").unwrap();
    assert_eq!(
        (vendor.exporter, vendor.dma_coherent),
        (Exporter::Other, None)
    );
    let problem = tree.system().heap("nonesuch").unwrap_err().to_string();
    assert!(problem.starts_with("there is no heap nonesuch: there are default_cma_region, "));
}

#[test]
fn heaps_of_the_kernel_are_known_by_those_beside_them() {
    let tree = Tree::new();
    let heap = |name: &str| {
        let heap = tree.system().heap(name).unwrap();
        (heap.exporter, heap.contiguous, heap.capacity)
    };
    let known = (Exporter::Kernel, Some(true), Some(64 << 20));
    assert_eq!(heap("default_cma_region"), known);
    // Another name of that region, beside which there is none.
    assert_eq!(heap("reserved"), (Exporter::Kernel, Some(true), None));

    tree.module_heap("camera", "noncoherent", true, 8 << 20);
    tree.heap("camera");
    let camera = (Exporter::Kernel, Some(true), Some(8 << 20));
    assert_eq!(heap("camera"), camera);

    // What is beside it is another driver's.
    tree.heap("vendor");
    tree.heap("vendor-noncoherent");
    assert_eq!(heap("vendor"), (Exporter::Other, None, None));
}

#[test]
fn uncached_heaps_refuse_devices_that_snoop_except_on_x86() {
    let tree = Tree::new();
    let refuses = |name: &str| tree.system().heap(name).unwrap().refuses_snooping;
    for (arch, uncached) in [("aarch64", true), ("x86_64", false)] {
        tree.file("proc/sys/kernel/arch", arch);
        assert_eq!(refuses("system-uncached"), Some(uncached), "{arch}");
        assert_eq!(refuses("system-noncoherent"), Some(false), "{arch}");
        assert_eq!(refuses("system-coherent"), Some(false), "{arch}");
        assert_eq!(refuses("system"), Some(false), "{arch}");
    }
    tree.heap("vendor");
    assert_eq!(refuses("vendor"), None);
}
