// SPDX-License-Identifier: MIT OR GPL-2.0

//! The choice of a heap over made-up trees of sysfs.

mod tree;

use dmaheap::{Choice, Error, Reason, Requirement, Unfit};
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
        // Worst places 2, 3, 3; sums 6, 5, 7.
        fits: &["system-noncoherent", "system", "system-uncached"],
    },
    Row {
        what: "then the smallest sum",
        orders: &[
            "reserved system default_cma_region",
            "default_cma_region reserved system",
            "reserved system default_cma_region",
        ],
        // Worst places 2, 3, 3; sums 4, 7, 7; then the one that is not contiguous.
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

fn explanation(choice: &Choice) -> Vec<String> {
    let objections = choice.objections().iter();
    objections.map(ToString::to_string).collect()
}

#[test]
fn every_heap_that_fell_out_is_explained() {
    let tree = Tree::new();
    tree.device("platform", "camera", "platform/1c00000.camera")
        .node("video4linux", "video0", (81, 0))
        .links(OTHERS)
        .constraints("0 64 0 any");
    tree.card(2, SNOOPING);
    let said = explanation(&tree.choose(&["video0", "card2"]));
    let uncached = "0000:00:02.0 snoops the CPU caches, which speculation may fill from this \
                    uncached memory";
    let expected = [
        "default_cma_region-coherent: 1c00000.camera does not snoop the CPU caches",
        &format!("default_cma_region-uncached: {uncached}"),
        "reserved: 0000:00:02.0 has no link to it",
        "reserved: 1c00000.camera has no link to it",
        "system-coherent: 1c00000.camera does not snoop the CPU caches",
        &format!("system-uncached: {uncached}"),
    ];
    assert_eq!(said, expected);
}

/// Why a device is not linked to a heap.
struct Why {
    /// What its files say; nothing for a module that has none.
    constraints: &'static str,
    arch: &'static str,
    rules: &'static str,
    heap: &'static str,
    reason: Reason,
}

/// A row for each reason, and rows in which something else is the reason for the lack of just that.
#[rustfmt::skip]
const REASONS: &[Why] = &[
    why("0 64 0 any", ARM, "", "system-coherent", Reason::DoesNotSnoop),
    why("1 64 0 one", ARM, "", "system-coherent", Reason::OnePiece),
    why("0 32 0 one", ARM, "vpu=system", "system-coherent", Reason::DoesNotSnoop),
    why("0 32 0 any", ARM, "", "system-noncoherent", Reason::OutOfReach),

    why("1 64 0 any", ARM, "", "system-uncached", Reason::Snoops),
    why("0 32 0 any", ARM, "", "system-uncached", Reason::OutOfReach),
    why("1 32 0 any", X86, "", "system-uncached", Reason::OutOfReach),
    why("1 32 0 one", ARM, "vpu=system", "system-uncached", Reason::Snoops),
    why("1 32 0 any", ARM, "", "system-coherent", Reason::OutOfReach),

    why("0 64 0 one", ARM, "", "system", Reason::OnePiece),
    why("0 64 1 one", ARM, "", "system", Reason::OutOfReach),
    why("0 32 0 one", ARM, "", "default_cma_region", Reason::OutOfReach),
    why("0 32 0 one", ARM, "vpu=default_cma_region", "system", Reason::OnePiece),

    why("0 64 0 unknown", ARM, "", "system", Reason::PiecesUnknown),
    why("0 64 1 unknown", ARM, "", "system", Reason::OutOfReach),
    why("0 32 0 unknown", ARM, "", "default_cma_region", Reason::OutOfReach),
    why("0 32 0 unknown", ARM, "vpu=pieces/one", "system", Reason::PiecesUnknown),

    // A device without a mask may be one that never maps, so a rule explains more.
    why("1 0 0 any", ARM, "vpu=system", "system-coherent", Reason::OutOfReach),
    why("1 0 0 any", ARM, "vpu=system", "system-noncoherent", Reason::LeftOutByRule),
    // The rule names it, and yet it is not linked.
    why("0 32 0 any", ARM, "vpu=system:system-noncoherent", "system", Reason::OutOfReach),

    why("1 64 0 any", ARM, "vpu=system", "system-noncoherent", Reason::LeftOutByRule),
    why("1 64 0 any", ARM, "vpu=pieces/any:system", "system-noncoherent", Reason::LeftOutByRule),
    why("1 64 0 any", ARM, "vpu=pieces/any", "system-noncoherent", Reason::OutOfReach),
    why("1 64 0 any", ARM, "isp=system", "system-noncoherent", Reason::OutOfReach),

    // Nobody links anything to these by default.
    why("1 64 0 any", ARM, "", "vendor", Reason::NotOffered),
    why("1 64 0 one", ARM, "", "vendor", Reason::OnePiece),
    why("1 64 0 any", ARM, "", "reserved", Reason::NotOffered),
    why("1 64 0 any", ARM, "vpu=system", "reserved", Reason::LeftOutByRule),

    // An older module: there is what is seen from outside, and no more.
    why("", ARM, "", "system-coherent", Reason::DoesNotSnoop),
    why("", ARM, "", "system", Reason::NotOffered),
    why("", ARM, "vpu=reserved", "system", Reason::LeftOutByRule),
];

const ARM: &str = "aarch64";
const X86: &str = "x86_64";

const fn why(
    constraints: &'static str,
    arch: &'static str,
    rules: &'static str,
    heap: &'static str,
    reason: Reason,
) -> Why {
    Why {
        constraints,
        arch,
        rules,
        heap,
        reason,
    }
}

#[test]
fn the_table_of_reasons() {
    for row in REASONS {
        let tree = Tree::new();
        tree.file("proc/sys/kernel/arch", row.arch);
        tree.file(
            "sys/module/dmabuf_coherency/parameters/links",
            &format!("{}\n", row.rules),
        );
        tree.heap("vendor");
        let vpu = tree.device("platform", "vpu", "platform/vpu.0");
        let vpu = vpu.links("default_cma_region-noncoherent");
        if !row.constraints.is_empty() {
            vpu.constraints(row.constraints);
        }
        let choice = tree.choose(&["vpu.0"]);
        let reasons: Vec<_> = choice
            .objections()
            .iter()
            .filter(|objection| objection.heap == row.heap)
            .map(|objection| objection.reason)
            .collect();
        let context = format!(
            "{:?} {} {:?} {}",
            row.constraints, row.arch, row.rules, row.heap
        );
        assert_eq!(reasons, [row.reason], "{context}");
        // Whatever the device is like, a link ends all argument.
        let mut objections = choice.objections().iter();
        assert!(
            objections.all(|objection| objection.heap != "default_cma_region-noncoherent"),
            "{context}"
        );
    }
}

#[test]
fn each_reason_has_its_sentence() {
    let tree = Tree::new();
    tree.file(
        "sys/module/dmabuf_coherency/parameters/links",
        "ruled=default_cma_region\n",
    );
    for (name, constraints) in [
        ("one", "0 64 0 one"),
        ("unknown", "0 64 0 unknown"),
        ("far", "0 32 0 any"),
        ("ruled", "0 64 0 any"),
    ] {
        tree.device("platform", name, &format!("platform/{name}.0"))
            .links("default_cma_region")
            .constraints(constraints);
    }
    tree.device("platform", "", "platform/bare");
    let devices = ["one.0", "unknown.0", "far.0", "ruled.0", "bare"];
    let said = explanation(&tree.choose(&devices));
    for sentence in [
        "system: one.0 needs each buffer in one physical piece, and this heap does not promise that",
        "system: it is not known whether unknown.0 takes a buffer in more than one physical piece. \
         If it does, say so to the module dmabuf_coherency (links=unknown=pieces/any), or let the \
         driver call dma_heap_set_device_pieces()",
        "system: far.0 does not reach all of its memory without bounce buffers",
        "system: the parameter links has a rule for ruled.0 that leaves it out",
        "system: nothing is known of bare",
    ] {
        assert!(said.contains(&sentence.into()), "{sentence}\n{said:#?}");
    }
}

/// A device to which the module links no heap, though it knows it.
#[test]
fn a_device_that_no_heap_suits_is_told_why_and_what_to_do() {
    const RESERVE: &str = "Reserve contiguous memory that it reaches (cma= on the kernel's command \
                           line, or reserved-memory in the device tree), put it behind an IOMMU, \
                           or copy to and from buffers of its own";
    for (constraints, rules, sentence) in [
        (
            "0 32 0 one",
            "",
            "no heap suits vpu.0: it needs each buffer in one physical piece, and no heap within \
             its reach promises one (32 address bits). ",
        ),
        (
            "0 64 0 one",
            "vpu=pieces/one",
            "no heap suits vpu.0: it needs each buffer in one physical piece, and no heap within \
             its reach promises one. ",
        ),
        (
            "0 64 0 unknown",
            "",
            "no heap suits vpu.0: it is not known whether it takes a buffer in more than one \
             physical piece, and no heap within its reach promises one. If it does, say so to the \
             module dmabuf_coherency (links=vpu=pieces/any), or let the driver call \
             dma_heap_set_device_pieces(). Else reserve contiguous memory",
        ),
        (
            "1 32 0 any",
            "",
            "no heap suits vpu.0: it reaches all of the memory of none without bounce buffers (32 \
             address bits). ",
        ),
        (
            "1 0 0 any",
            "",
            "no heap suits vpu.0: it reaches all of the memory of none without bounce buffers (it \
             has no DMA mask). ",
        ),
        (
            "0 64 0 any",
            "",
            "no heap suits vpu.0: it reaches all of the memory of none without bounce buffers. ",
        ),
        (
            "0 64 0 any",
            "vpu=system-coherent",
            "no heap suits vpu.0: the parameter links has a rule for it that names no heap which \
             suits it. Change the rules, or remove them as root: `echo > \
             /sys/module/dmabuf_coherency/parameters/links`, and for the next boot /etc/modprobe.d",
        ),
    ] {
        let tree = Tree::new();
        tree.file("sys/module/dmabuf_coherency/parameters/links", rules);
        tree.device("platform", "vpu", "platform/vpu.0")
            .links("")
            .constraints(constraints);
        tree.vivid(0, OTHERS);
        tree.device("platform", "", "platform/bare");
        // With other devices and without, known or not.
        for devices in [&["vpu.0"][..], &["vivid.0", "vpu.0"], &["bare", "vpu.0"]] {
            let problem = tree.choose(devices).best().unwrap_err();
            assert!(matches!(problem, Unfit::NoneSuits { .. }), "{problem}");
            let problem = problem.to_string();
            assert!(problem.starts_with(sentence), "{problem}\n{sentence}");
            if sentence.ends_with(". ") {
                assert_eq!(problem, format!("{sentence}{RESERVE}"));
            }
        }
        assert!(tree.choose(&["vivid.0"]).best().is_ok());
    }
}

#[test]
fn contiguous_memory_can_be_asked_for() {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    tree.vivid(1, "system-noncoherent system");
    let contiguous = Requirement {
        contiguous: true,
        ..Requirement::default()
    };
    let choice = tree.choose_for(&["vivid.0"], contiguous);
    assert_eq!(
        choice.best().unwrap().name,
        "default_cma_region-noncoherent"
    );
    let said = explanation(&choice);
    assert!(
        said.contains(&"system: it is not known to be contiguous".into()),
        "{said:?}"
    );
    let choice = tree.choose_for(&["vivid.0", "vivid.1"], contiguous);
    assert_eq!(choice.best(), Err(Unfit::NoneContiguous));
    // That there is none at all comes first.
    tree.vivid(2, "default_cma_region");
    let choice = tree.choose_for(&["vivid.1", "vivid.2"], contiguous);
    assert_eq!(choice.best(), Err(Unfit::NoneFits));
}

#[test]
fn a_buffer_must_be_within_capacity_and_limit() {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    tree.file(
        "sys/devices/virtual/dma_heap/system-noncoherent/limit",
        "4096\n",
    );
    let choose = |size| {
        let requirement = Requirement {
            size: Some(size),
            ..Requirement::default()
        };
        tree.choose_for(&["vivid.0"], requirement)
    };
    let said = |choice: &Choice, heap: &str| {
        let prefix = format!("{heap}: ");
        let mut said = explanation(choice).into_iter();
        said.find_map(|line| Some(line.strip_prefix(&prefix)?.to_owned()))
    };
    let limit = "a buffer of this size exceeds its limit. system-noncoherent has a limit of 4096 \
                 bytes, of which 8192 are in use: root can change \
                 /sys/class/dma_heap/system-noncoherent/limit";
    let capacity = "a buffer of this size exceeds its capacity";

    let small = choose(4096);
    assert_eq!(small.best().unwrap().name, "system-noncoherent");
    assert_eq!(said(&small, "system-noncoherent"), None);
    assert_eq!(said(&small, "default_cma_region-noncoherent"), None);

    let large = choose(4097);
    assert_eq!(large.best().unwrap().name, "default_cma_region-noncoherent");
    assert_eq!(said(&large, "system-noncoherent").as_deref(), Some(limit));
    assert_eq!(said(&large, "system"), None);

    let larger = choose((64 << 20) + 1);
    assert_eq!(larger.best().unwrap().name, "system");
    for heap in ["default_cma_region-noncoherent", "default_cma_region"] {
        assert_eq!(said(&larger, heap).as_deref(), Some(capacity), "{heap}");
    }

    let largest = (16 << 30) + 1;
    let problem = choose(largest).best().unwrap_err();
    assert_eq!(
        problem.to_string(),
        "no heap that fits all of these devices has memory for 17179869185 bytes: \
         system-noncoherent has a limit of 4096 bytes, of which 8192 are in use: root can change \
         /sys/class/dma_heap/system-noncoherent/limit"
    );
    tree.file(
        "sys/devices/virtual/dma_heap/system-noncoherent/limit",
        "0\n",
    );
    let problem = choose(largest).best().unwrap_err();
    let advice = "bytes: try a smaller buffer, or a larger contiguous region";
    assert!(problem.to_string().contains(advice), "{problem}");
}

/// What a rule is to blame for, and what it is not.
#[test]
fn rules_that_leave_out_what_fits_are_told() {
    let tree = Tree::new();
    let rules = "sys/module/dmabuf_coherency/parameters/links";
    for (name, order) in [("a", "system"), ("b", "system-noncoherent")] {
        tree.device("platform", name, &format!("platform/{name}.0"))
            .links(order)
            .constraints("0 64 0 any");
    }
    let problem = || tree.choose(&["a.0", "b.0"]).best().unwrap_err();
    assert_eq!(problem(), Unfit::NoneFits);
    for (links, devices, heap) in [
        ("a=system\n", "a.0", "system-noncoherent"),
        (
            "a=system,b=system-noncoherent\n",
            "a.0 and b.0",
            "default_cma_region",
        ),
    ] {
        tree.file(rules, links);
        let sentence = format!(
            "no heap fits all of these devices, because the parameter links has rules for \
             {devices} that leave out {heap}. Change the rules, or remove them as root"
        );
        let problem = problem().to_string();
        assert!(problem.starts_with(&sentence), "{problem}");
    }
    // The strict heap would refuse it.
    tree.file(rules, "a=system-coherent\n");
    tree.device("platform", "c", "platform/c.0")
        .links("system-coherent")
        .constraints("1 64 0 any");
    let problem = tree.choose(&["a.0", "c.0"]).best().unwrap_err();
    assert_eq!(problem, Unfit::NoneFits);
}

/// Which heaps are right for these devices if nobody brackets, and why the others are not.
#[test]
fn without_brackets_a_cached_heap_is_for_devices_that_snoop() {
    const ALL: &str = "system-noncoherent system system-uncached system-coherent";
    let tree = Tree::new();
    for (name, order, constraints) in [
        ("snoops", ALL, "1 64 0 any"),
        (
            "strict",
            "system-coherent system-noncoherent system",
            "1 64 0 any",
        ),
        (
            "does-not",
            "system-noncoherent system system-uncached",
            "0 64 0 any",
        ),
        ("older", ALL, ""),
    ] {
        let device = tree
            .device("platform", name, &format!("platform/{name}"))
            .links(order);
        if !constraints.is_empty() {
            device.constraints(constraints);
        }
    }
    let requirement = Requirement {
        without_brackets: true,
        ..Requirement::default()
    };
    let choose = |devices: &[&str]| tree.choose_for(devices, requirement);
    for (devices, fits) in [
        (
            &["snoops"][..],
            &[
                "system-noncoherent",
                "system",
                "system-uncached",
                "system-coherent",
            ][..],
        ),
        (
            &["snoops", "strict"],
            &["system-noncoherent", "system-coherent", "system"],
        ),
        (&["does-not"], &["system-uncached"]),
        (&["snoops", "does-not"], &["system-uncached"]),
        (&["older"], &["system-uncached", "system-coherent"]),
        (&["strict", "older"], &["system-coherent"]),
    ] {
        let choice = choose(devices);
        let found: Vec<_> = choice
            .fits()
            .iter()
            .map(|fit| fit.heap.name.as_str())
            .collect();
        assert_eq!(found, fits, "{devices:?}");
    }

    let choice = choose(&["strict", "does-not", "older"]);
    let said = explanation(&choice);
    for (sentence, is_said) in [
        (
            "system-noncoherent: does-not does not snoop the CPU caches, so that bytes are wrong \
             without brackets",
            true,
        ),
        (
            "system: the kernel does not say whether older snoops the CPU caches, so that bytes \
             may be wrong without brackets",
            true,
        ),
        ("system-noncoherent: strict", false),
        ("system-uncached: does-not", false),
        (
            "system-coherent: does-not does not snoop the CPU caches",
            true,
        ),
    ] {
        let found = said.iter().any(|line| line.starts_with(sentence));
        assert_eq!(found, is_said, "{sentence}\n{said:#?}");
    }
    assert_eq!(
        choice.best().unwrap_err().to_string(),
        "no heap that fits all of these devices is right without brackets, because of those that \
         are not known to snoop the CPU caches: does-not and older. Bracket each access of the CPU \
         by DMA_BUF_IOCTL_SYNC, or copy to and from a buffer of their own"
    );
    let with = tree.choose(&["strict", "does-not", "older"]);
    assert_eq!(with.best().unwrap().name, "system-noncoherent");
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
    tree.number("system-coherent", "252:0");
    let best = tree.choose(&["vivid.0"]).best().cloned().unwrap();
    assert_eq!(best.name, "default_cma_region-coherent");
    fs::remove_dir_all(tree.path("dev/dma_heap")).unwrap();
    let problem = tree.choose(&["vivid.0"]).best().unwrap_err();
    assert!(
        problem
            .to_string()
            .starts_with("system-coherent fits, but no node has"),
        "{problem}"
    );
}
