// SPDX-License-Identifier: MIT OR GPL-2.0

//! Nodes of heaps: which heap they are, and who may open them.

mod tree;

use dmaheap::{Access, CpuMapping, Error, Exporter};
use landlock::{
    AccessFs, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, path_beneath_rules,
};
use rustix::fs::{Access as May, AtFlags, CWD, accessat};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, capabilities, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
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

/// What a thread may do with the node of a heap, which `prepare` has changed what it may do: as
/// access(2) says, and as the library does.
fn access(tree: &Tree, prepare: impl FnOnce() + Send) -> (bool, Access) {
    let node = tree.path("dev/dma_heap/system");
    let look = || {
        prepare();
        let may = accessat(CWD, &node, May::READ_OK, AtFlags::empty()).is_ok();
        (may, tree.system().heap("system").unwrap().access)
    };
    thread::scope(|scope| scope.spawn(look).join().unwrap())
}

fn give_away(given: CapabilitySet) {
    let mut mine = capabilities(None).unwrap();
    mine.effective -= given;
    set_capabilities(None, mine).unwrap();
}

/// Of a user and of a group.
const NOBODY: u32 = 65534;

/// The group that a node is given to.
const VIDEO: u32 = 44;

/// In each case access(2) says the opposite, or cannot tell why. Needs root.
#[test]
fn permission_is_decided_by_opening() {
    if !geteuid().is_root() {
        eprintln!("left out: it needs root");
        return;
    }
    let tree = Tree::new();
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(&tree.path(""), 0o755);
    let node = tree.path("dev/dma_heap/system");
    let (user, group) = (Uid::from_raw, Gid::from_raw);

    // The bits setuid and setgid.
    mode(&node, 0o600);
    let as_set_uid = || set_thread_res_uid(user(NOBODY), Uid::ROOT, Uid::ROOT).unwrap();
    assert_eq!(access(&tree, as_set_uid), (false, Access::Allowed));
    let become_nobody = || set_thread_res_uid(user(NOBODY), user(NOBODY), user(NOBODY)).unwrap();
    let as_set_gid = |effective| {
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(group(NOBODY), group(effective), group(effective)).unwrap();
        become_nobody();
    };
    chown(&node, None, Some(VIDEO)).unwrap();
    mode(&node, 0o640);
    assert_eq!(
        access(&tree, || as_set_gid(VIDEO)),
        (false, Access::Allowed)
    );
    let of_group = Access::Denied {
        group: Some(VIDEO.to_string()),
    };
    assert_eq!(access(&tree, || as_set_gid(NOBODY)), (false, of_group));

    // What an ambient capability is for a program that is not root's.
    mode(&node, 0o600);
    let keep_one = || {
        set_keep_capabilities(true).unwrap();
        become_nobody();
        let mut mine = capabilities(None).unwrap();
        mine.effective = CapabilitySet::DAC_OVERRIDE;
        set_capabilities(None, mine).unwrap();
    };
    assert_eq!(access(&tree, keep_one), (false, Access::Allowed));

    mode(&node, 0o000);
    chown(&node, None, Some(0)).unwrap();
    let denied = Access::Denied { group: None };
    let override_modes = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    assert_eq!(access(&tree, || give_away(override_modes)), (true, denied));

    // The mode of this lets root open it, and the kernel asks for more.
    fs::remove_file(&node).unwrap();
    symlink("/proc/kmsg", &node).unwrap();
    let read_log = CapabilitySet::SYSLOG | CapabilitySet::SYS_ADMIN;
    assert_eq!(
        access(&tree, || give_away(read_log)),
        (true, Access::Forbidden)
    );
}

/// Lets this thread read no files but those below some directories; says whether the kernel can do
/// that.
fn read_only_below(directories: &[PathBuf]) -> bool {
    let read = AccessFs::ReadFile;
    let rules = Ruleset::default().handle_access(read).unwrap();
    let rules = rules.create().unwrap();
    let rules = rules.add_rules(path_beneath_rules(directories, read));
    let status = rules.unwrap().restrict_self().unwrap().ruleset;
    status != RulesetStatus::NotEnforced
}

/// access(2) knows nothing of Landlock.
#[test]
fn a_sandbox_forbids_what_the_mode_allows() {
    let tree = Tree::new();
    let sees = ["sys", "proc"].map(|name| tree.path(name));
    let mut all = sees.to_vec();
    all.push(tree.path("dev"));
    for (directories, wanted) in [(&sees[..], Access::Forbidden), (&all, Access::Allowed)] {
        let is_there = AtomicBool::new(true);
        let prepare = || is_there.store(read_only_below(directories), Ordering::Relaxed);
        let got = access(&tree, prepare);
        if !is_there.into_inner() {
            eprintln!("left out: this kernel has no Landlock");
            return;
        }
        assert_eq!(got, (true, wanted));
    }
}
