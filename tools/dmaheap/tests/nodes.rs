// SPDX-License-Identifier: MIT OR GPL-2.0

//! Nodes of heaps: who may open them.

mod tree;

use dmaheap::Access;
use rustix::process::{Uid, geteuid};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities, set_thread_res_uid};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::thread;
use tree::Tree;

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
