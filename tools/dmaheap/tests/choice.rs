// SPDX-License-Identifier: MIT OR GPL-2.0

//! The choice of a heap over made-up trees of sysfs.

mod tree;

use dmaheap::{Error, Reason, Requirement, Unfit};
use std::fs;
use tree::{OTHERS, SNOOPING, Tree};

/// What the choice must be for devices with these links.
struct Row {
    what: &'static str,
    orders: &'static [&'static str],
    /// All that fit, best first.
    fits: &'static [&'static str],
}

const TABLE: &[Row] = &[
    Row {
        what: "one device gets the first of its order",
        orders: &[SNOOPING],
        fits: &[
            "system-coherent",
            "default_cma_region-coherent",
            "system-noncoherent",
            "default_cma_region-noncoherent",
            "system",
            "default_cma_region",
        ],
    },
    Row {
        what: "devices that do not snoop keep the strict heaps away",
        orders: &[SNOOPING, OTHERS],
        fits: &[
            "system-noncoherent",
            "default_cma_region-noncoherent",
            "system",
            "default_cma_region",
        ],
    },
    Row {
        what: "nothing in common",
        orders: &["system-coherent", "system-uncached"],
        fits: &[],
    },
    Row {
        what: "rules may contradict: the best worst place wins",
        orders: &[
            "system system-noncoherent system-uncached",
            "system system-noncoherent system-uncached",
            "system-uncached system-noncoherent system",
        ],
        // Worst places 1, 2, 2; sums 3, 2, 4.
        fits: &["system-noncoherent", "system", "system-uncached"],
    },
    Row {
        what: "then the smallest sum",
        orders: &[
            "reserved system default_cma_region",
            "default_cma_region reserved system",
            "reserved system default_cma_region",
        ],
        // Worst places 1, 2, 2; sums 1, 4, 4; then the one that is not contiguous.
        fits: &["reserved", "system", "default_cma_region"],
    },
    Row {
        what: "contiguous memory is scarce",
        orders: &["default_cma_region system", "system default_cma_region"],
        fits: &["system", "default_cma_region"],
    },
    Row {
        what: "then the first by name",
        orders: &["system-noncoherent system", "system system-noncoherent"],
        fits: &["system", "system-noncoherent"],
    },
    Row {
        what: "heaps that do not fit take no place",
        orders: &[
            "system-noncoherent system-coherent system",
            "system system-noncoherent",
        ],
        // Were it not so, system would be third for somebody.
        fits: &["system", "system-noncoherent"],
    },
    Row {
        what: "links to heaps that are gone by now are passed over",
        orders: &["nonesuch system", "nonesuch system"],
        fits: &["system"],
    },
];

#[test]
fn the_table_of_choices() {
    for row in TABLE {
        let tree = Tree::new();
        for (number, order) in (0..).zip(row.orders) {
            tree.vivid(number, order);
        }
        let devices = tree.system().devices().unwrap();
        let choice = tree.system().choose(&devices).unwrap();
        let fits: Vec<_> = choice
            .fits()
            .iter()
            .map(|fit| fit.heap.name.as_str())
            .collect();
        assert_eq!(fits, row.fits, "{}", row.what);
        match row.fits.first() {
            Some(best) => assert_eq!(choice.best().unwrap().name, *best, "{}", row.what),
            None => assert_eq!(choice.best(), Err(Unfit::NoneFits), "{}", row.what),
        }
    }
}

fn explanation(tree: &Tree, handles: &[&str]) -> Vec<String> {
    let choice = tree.choose(handles);
    choice
        .objections()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn every_heap_that_fell_out_is_explained() {
    let tree = Tree::new();
    tree.device("platform", "camera", "platform/1c00000.camera")
        .node("video4linux", "video0", (81, 0))
        .links(OTHERS);
    tree.card(2, SNOOPING);
    let said = explanation(&tree, &["video0", "card2"]);
    let expected = [
        "default_cma_region-coherent: 1c00000.camera does not snoop the CPU caches",
        "default_cma_region-uncached: it is slow for the CPU, and 0000:00:02.0 gains nothing by that",
        "reserved: 0000:00:02.0 has no link to it",
        "reserved: 1c00000.camera has no link to it",
        "system-coherent: 1c00000.camera does not snoop the CPU caches",
        "system-uncached: it is slow for the CPU, and 0000:00:02.0 gains nothing by that",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_snooping_device_that_is_refused_bounces() {
    let tree = Tree::new();
    tree.file("sys/firmware/devicetree/base/soc/dma-coherent", "");
    tree.file("sys/firmware/devicetree/base/soc/codec/name", "codec");
    let codec = tree
        .device("platform", "codec", "platform/codec")
        .node("video4linux", "video0", (81, 0))
        .links(OTHERS);
    tree.link(
        format!("{}/of_node", codec.path),
        "sys/firmware/devicetree/base/soc/codec",
    );
    let said = explanation(&tree, &["codec"]);
    assert!(
        said.contains(
            &"system-coherent: codec snoops, but its DMA may go through a bounce buffer, or it \
              does none"
                .into()
        ),
        "{said:?}"
    );
}

#[test]
fn a_rule_is_named_as_the_reason() {
    let tree = Tree::new();
    tree.file(
        "sys/module/dmabuf_coherency/parameters/links",
        "uvcvideo=system,vivid=system-uncached\n",
    );
    tree.vivid(0, "system-uncached");
    let choice = tree.choose(&["vivid.0"]);
    let reason = |heap| {
        let mut objections = choice.objections().iter();
        objections
            .find(|objection| objection.heap == heap)
            .unwrap()
            .reason
    };
    assert_eq!(reason("system"), Reason::LeftOutByRule);
    assert_eq!(reason("system-coherent"), Reason::DoesNotSnoop);
}

#[test]
fn contiguous_memory_can_be_asked_for() {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    let system = tree.system();
    let devices = system.devices().unwrap();
    let choice = system
        .choose_for(&devices, Requirement { contiguous: true })
        .unwrap();
    assert_eq!(
        choice.best().unwrap().name,
        "default_cma_region-noncoherent"
    );
    let said: Vec<_> = choice
        .objections()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        said.contains(&"system: it is not known to be contiguous".into()),
        "{said:?}"
    );
}

#[test]
fn a_device_without_links_makes_nothing_fit() {
    let tree = Tree::new();
    tree.vivid(0, SNOOPING);
    tree.device("platform", "", "platform/bare");
    let choice = tree.choose(&["vivid.0", "bare"]);
    assert!(choice.fits().is_empty());
    let problem = choice.best().unwrap_err().to_string();
    assert!(
        problem.starts_with("nothing is known of bare: it has no driver"),
        "{problem}"
    );
}

#[test]
fn without_the_module_that_is_what_is_said() {
    let tree = Tree::without_module();
    tree.device("platform", "vivid", "platform/vivid.0")
        .node("video4linux", "video0", (81, 0));
    let problem = tree.choose(&["video0"]).best().unwrap_err();
    assert!(
        problem
            .to_string()
            .contains("dmabuf_coherency is not loaded"),
        "{problem}"
    );
    let system = tree.system().heap("system").unwrap();
    assert_eq!(system.contiguous, Some(false));
}

#[test]
fn without_heaps_that_is_what_is_said() {
    let tree = Tree::empty();
    let system = tree.system();
    assert!(system.heaps().unwrap().is_empty());
    assert!(matches!(system.choose(&[]), Err(Error::NoHeaps)));
    assert!(matches!(system.heap("system"), Err(Error::NoHeaps)));
}

#[test]
fn no_device_gets_no_heap() {
    assert_eq!(Tree::new().choose(&[]).best(), Err(Unfit::NoDevices));
}

#[test]
fn a_heap_without_a_node_is_passed_over() {
    let tree = Tree::new();
    tree.vivid(0, SNOOPING);
    fs::remove_file(tree.path("dev/dma_heap/system-coherent")).unwrap();
    let best = tree.choose(&["vivid.0"]).best().cloned().unwrap();
    assert_eq!(best.name, "default_cma_region-coherent");
    fs::remove_dir_all(tree.path("dev/dma_heap")).unwrap();
    let problem = tree.choose(&["vivid.0"]).best().unwrap_err();
    assert!(
        problem
            .to_string()
            .starts_with("system-coherent fits, but there is no"),
        "{problem}"
    );
}
