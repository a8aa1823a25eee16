// SPDX-License-Identifier: MIT OR GPL-2.0

//! Made-up machines: trees with `sys`, `dev` and `proc` in them.

// Not every test program uses all of it.
#![allow(dead_code)]

use dmaheap::{Choice, Requirement, System};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub struct Tree(TempDir);

/// The orders that the module gives by default.
pub const SNOOPING: &str = "system-coherent default_cma_region-coherent system-noncoherent \
    default_cma_region-noncoherent system default_cma_region";
pub const OTHERS: &str = "system-noncoherent default_cma_region-noncoherent system \
    default_cma_region system-uncached default_cma_region-uncached";

impl Tree {
    /// A machine without anything.
    pub fn empty() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    /// A machine with a device tree, the kernel's heaps and no module.
    pub fn without_module() -> Self {
        Self::empty().with_kernel()
    }

    /// The same with the module and its heaps.
    pub fn new() -> Self {
        Self::without_module().with_module()
    }

    /// The same, which costs little although there are very many files in it.
    pub fn in_memory() -> Self {
        let directory = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new());
        let tree = Self(directory.expect("a temporary directory"));
        tree.with_kernel().with_module()
    }

    fn with_kernel(self) -> Self {
        let tree = self;
        tree.file("proc/sys/kernel/arch", "aarch64\n");
        tree.directory("sys/firmware/devicetree/base");
        for heap in ["system", "default_cma_region", "reserved"] {
            tree.heap(heap);
        }
        tree
    }

    fn with_module(self) -> Self {
        let tree = self;
        tree.file("sys/module/dmabuf_coherency/parameters/links", "\n");
        for mode in ["coherent", "noncoherent", "uncached"] {
            tree.module_heap("system", mode, false, 16 << 30);
            tree.module_heap("default_cma_region", mode, true, 64 << 20);
        }
        tree
    }

    pub fn system(&self) -> System {
        System::at(self.0.path())
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(path)
    }

    pub fn directory(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn file(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) {
        let (path, target) = (self.path(path), self.path(target));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    /// A heap of which nothing is known. A file, such as its node is here, has device number 0:0.
    pub fn heap(&self, name: &str) -> PathBuf {
        let device = format!("sys/devices/virtual/dma_heap/{name}");
        let path = self.directory(&device);
        self.number(name, "0:0");
        self.link(format!("sys/class/dma_heap/{name}"), &device);
        self.file(format!("dev/dma_heap/{name}"), "");
        path
    }

    /// Gives a heap this device number.
    pub fn number(&self, heap: &str, number: &str) {
        let path = format!("sys/devices/virtual/dma_heap/{heap}/dev");
        self.file(path, &format!("{number}\n"));
    }

    /// A heap of the module.
    pub fn module_heap(&self, region: &str, mode: &str, contiguous: bool, capacity: u64) {
        let heap = self.heap(&format!("{region}-{mode}"));
        let mapping = match mode {
            "uncached" => "write-combining",
            _ => "write-back",
        };
        for (file, value) in [
            ("dma_coherent", u8::from(mode == "coherent").to_string()),
            ("cpu_mapping", mapping.into()),
            ("contiguous", u8::from(contiguous).to_string()),
            ("capacity", capacity.to_string()),
            ("refused", "0".into()),
            ("buffers", "2".into()),
            ("bytes", "8192".into()),
            ("limit", "0".into()),
        ] {
            fs::write(heap.join(file), format!("{value}\n")).unwrap();
        }
    }

    /// A device below `sys/devices`, without links. `path` ends in its name.
    pub fn device(&self, bus: &str, driver: &str, path: &str) -> Device<'_> {
        let path = format!("sys/devices/{path}");
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
        self.file(format!("{path}/uevent"), "");
        self.directory(format!("sys/bus/{bus}"));
        self.link(format!("{path}/subsystem"), format!("sys/bus/{bus}"));
        self.link(format!("sys/bus/{bus}/devices/{name}"), &path);
        if !driver.is_empty() {
            let directory = format!("sys/bus/{bus}/drivers/{driver}");
            self.directory(&directory);
            self.link(format!("{path}/driver"), &directory);
            self.link(format!("{directory}/{name}"), &path);
        }
        Device {
            tree: self,
            path: path.clone(),
        }
    }

    /// `vivid.N`, with these links; it does not snoop, and takes any memory.
    pub fn vivid(&self, number: u32, order: &str) -> Device<'_> {
        self.device("platform", "vivid", &format!("platform/vivid.{number}"))
            .node("video4linux", &format!("video{number}"), (81, number))
            .links(order)
            .constraints("0 64 0 any")
    }

    /// A PCI display, with these links; it snoops, and takes any memory.
    pub fn card(&self, number: u32, order: &str) -> Device<'_> {
        self.device(
            "pci",
            "bochs-drm",
            &format!("pci0000:00/0000:00:0{number}.0"),
        )
        .node("drm", &format!("card{number}"), (226, number))
        .links(order)
        .constraints("1 64 0 any")
    }

    /// Chooses for devices by their handles.
    pub fn choose(&self, handles: &[&str]) -> Choice {
        self.choose_for(handles, Requirement::default())
    }

    pub fn choose_for(&self, handles: &[&str], requirement: Requirement) -> Choice {
        let system = self.system();
        let devices: Vec<_> = handles
            .iter()
            .map(|handle| system.device(handle).expect(handle))
            .collect();
        system.choose_for(&devices, requirement).expect("heaps")
    }
}

pub struct Device<'a> {
    tree: &'a Tree,
    pub path: String,
}

impl Device<'_> {
    /// With a node of a class.
    pub fn node(self, class: &str, name: &str, (major, minor): (u32, u32)) -> Self {
        let (tree, device) = (self.tree, &self.path);
        let path = format!("{device}/{class}/{name}");
        let directory = if class == "drm" { "dri/" } else { "" };
        tree.file(format!("{path}/dev"), &format!("{major}:{minor}\n"));
        tree.file(
            format!("{path}/uevent"),
            &format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={directory}{name}\n"),
        );
        tree.link(format!("{path}/device"), device);
        if class == "drm" {
            tree.link(format!("{device}/drm/controlD{}", 64 + minor), &path);
        }
        tree.directory(format!("sys/class/{class}"));
        tree.link(format!("{path}/subsystem"), format!("sys/class/{class}"));
        tree.link(format!("sys/class/{class}/{name}"), &path);
        tree.link(format!("sys/dev/char/{major}:{minor}"), &path);
        self
    }

    /// With these values of `snoops`, `address_bits`, `iommu` and `pieces`.
    pub fn constraints(self, values: &str) -> Self {
        let names = ["snoops", "address_bits", "iommu", "pieces"];
        for (name, value) in names.iter().zip(values.split(' ')) {
            let path = format!("{}/dma_heaps/{name}", self.path);
            self.tree.file(path, &format!("{value}\n"));
        }
        self
    }

    /// With links to heaps, best first.
    pub fn links(self, order: &str) -> Self {
        let all = format!("{}/dma_heaps", self.path);
        self.tree
            .file(format!("{all}/order"), &format!("{order}\n"));
        for heap in order.split_whitespace() {
            let target = format!("sys/devices/virtual/dma_heap/{heap}");
            self.tree.link(format!("{all}/{heap}"), target);
        }
        self
    }
}
