// SPDX-License-Identifier: MIT OR GPL-2.0

//! Nodes of heaps: which heap they are, and who may open them.

mod tree;

use dmaheap::{Access, CpuMapping, Error, Exporter};
use rustix::process::{Uid, geteuid};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities, set_thread_res_uid};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::thread;
use tree::Tree;

#[test]
fn a_heap_is_what_its_device_number_says() {
    let tree = Tree::new();
    let node = tree.path("dev/dma_heap/system");
    fs::remove_file(&node).unwrap();
    symlink("/dev/null", &node).unwrap();
    tree.number("system-uncached", "1:3");
    let heap = tree.system().heap("system-uncached").unwrap();
    assert_eq!(heap.node, node);
    assert_eq!(heap.cpu_mapping, Some(CpuMapping::WriteCombining));
    assert!(heap.access.is_allowed());

    tree.number("system", "252:0");
    let heap = tree.system().heap("system").unwrap();
    assert_eq!((&heap.node, heap.access), (&node, Access::NoNode));
}

#[test]
fn another_name_of_a_node_is_no_other_heap() {
    let tree = Tree::new();
    let names = || -> Vec<_> {
        let heaps = tree.system().heaps().unwrap().into_iter();
        heaps.map(|heap| (heap.name, heap.node)).collect()
    };
    let before = names();
    tree.link("dev/dma_heap/linux,cma", "dev/dma_heap/system-noncoherent");
    assert_eq!(names(), before);
}

#[test]
fn a_heap_has_the_handles_of_its_node() {
    let tree = Tree::new();
    let node = tree.path("dev/dma_heap/system");
    let name = |handle: &dyn AsRef<std::ffi::OsStr>| tree.system().heap(handle).unwrap().name;
    assert_eq!(name(&"system"), "system");
    assert_eq!(name(&node), "system");

    // The number of /dev/null, which no other heap has.
    fs::remove_file(&node).unwrap();
    symlink("/dev/null", &node).unwrap();
    tree.number("system", "1:3");
    tree.link("dev/dma_heap/linux,cma", "dev/dma_heap/system");
    tree.link("elsewhere", "dev/dma_heap/system");
    for handle in ["dev/dma_heap/linux,cma", "elsewhere"] {
        assert_eq!(name(&tree.path(handle)), "system", "{handle}");
    }
    assert_eq!(name(&"linux,cma"), "system");
    assert_eq!(name(&"/dev/null"), "system");

    for handle in ["nonesuch", "/dev/zero", "/dev/dma_heap", "", "/"] {
        let problem = tree.system().heap(handle);
        assert!(matches!(problem, Err(Error::NoSuchHeap { .. })), "{handle}");
    }
}

#[test]
fn without_sysfs_a_name_tells_nothing() {
    let tree = Tree::new();
    fs::remove_dir_all(tree.path("sys")).unwrap();
    let heap = tree.system().heap("system").unwrap();
    assert_eq!(heap.exporter, Exporter::Other);
    assert_eq!((heap.cpu_mapping, heap.contiguous), (None, None));
    assert!(heap.access.is_allowed());
}

/// What a thread may do with the node of a heap, which `prepare` has changed what it may do.
fn access(tree: &Tree, prepare: impl FnOnce() + Send) -> Access {
    let look = || {
        prepare();
        tree.system().heap("system").unwrap().access
    };
    thread::scope(|scope| scope.spawn(look).join().unwrap())
}

fn give_away(given: CapabilitySet) {
    let mut mine = capabilities(None).unwrap();
    mine.effective -= given;
    set_capabilities(None, mine).unwrap();
}

/// In each case access(2) says the opposite. Needs root.
#[test]
fn permission_is_decided_by_opening() {
    if !geteuid().is_root() {
        return;
    }
    let tree = Tree::new();
    let node = tree.path("dev/dma_heap/system");
    fs::set_permissions(&node, Permissions::from_mode(0o600)).unwrap();
    let nobody = Uid::from_raw(65534);
    let as_set_uid = || set_thread_res_uid(nobody, Uid::ROOT, Uid::ROOT).unwrap();
    assert_eq!(access(&tree, as_set_uid), Access::Allowed);

    fs::set_permissions(&node, Permissions::from_mode(0o000)).unwrap();
    let override_modes = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    let denied = Access::Denied { group: None };
    assert_eq!(access(&tree, || give_away(override_modes)), denied);

    // The mode of this lets root open it, and the kernel asks for more.
    fs::remove_file(&node).unwrap();
    symlink("/proc/kmsg", &node).unwrap();
    let read_log = CapabilitySet::SYSLOG | CapabilitySet::SYS_ADMIN;
    assert_eq!(access(&tree, || give_away(read_log)), Access::Forbidden);
}
