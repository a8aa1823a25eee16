// SPDX-License-Identifier: GPL-2.0

//! Which heaps there are, and in which order they are offered.

use crate::policy::{HEAPS, Mode, Region, default_order, mode};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The default order for a device that may use strict heaps, or may not.
fn order(strict: bool) -> Vec<&'static str> {
    default_order(strict).collect()
}

fn names() -> Vec<&'static str> {
    let names = HEAPS.iter().map(|heap| heap.name.to_str());
    names.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_device_that_snoops_gets_strict_heaps_first() {
    let expected = [
        "system-coherent",
        "default_cma_region-coherent",
        "system-noncoherent",
        "default_cma_region-noncoherent",
        "system",
        "default_cma_region",
    ];
    assert_eq!(order(true), expected);
}

#[test]
fn any_other_device_gets_maintained_heaps_first_and_uncached_ones_last() {
    let expected = [
        "system-noncoherent",
        "default_cma_region-noncoherent",
        "system",
        "default_cma_region",
        "system-uncached",
        "default_cma_region-uncached",
    ];
    assert_eq!(order(false), expected);
}

#[test]
fn only_devices_that_may_use_strict_heaps_are_offered_any() {
    assert!(order(false).iter().all(|heap| mode(heap) != Mode::Strict));
    assert!(order(true).iter().all(|heap| mode(heap) != Mode::Uncached));
}

#[test]
fn no_heap_stands_twice_in_an_order() {
    for strict in [false, true] {
        let order = order(strict);
        let once: BTreeSet<_> = order.iter().collect();
        assert_eq!(once.len(), order.len(), "strict {strict}");
    }
}

/// So that two devices agree on what suits both best.
#[test]
fn the_orders_do_not_contradict_each_other() {
    let (first, second) = (order(true), order(false));
    let shared = |a: &[&'static str], b: &[&'static str]| -> Vec<_> {
        a.iter().filter(|heap| b.contains(heap)).copied().collect()
    };
    assert_eq!(shared(&first, &second), shared(&second, &first));
    assert!(!shared(&first, &second).is_empty());
}

#[test]
fn every_heap_is_offered_to_some_device() {
    let offered: BTreeSet<_> = order(true).into_iter().chain(order(false)).collect();
    assert_eq!(offered, names().into_iter().collect());
}

/// What the names promise is what files in sysfs say.
#[test]
fn names_and_attributes_agree() {
    for heap in HEAPS {
        let name = heap.name.to_str().unwrap();
        let what = format!("{heap:?}");
        assert_eq!(mode(name), heap.mode, "{what}");
        assert_eq!(
            heap.is_dma_coherent(),
            name.ends_with("-coherent"),
            "{what}"
        );
        assert_eq!(
            heap.cpu_mapping().name() == "write-combining",
            name.ends_with("-uncached"),
            "{what}"
        );
        assert_eq!(
            heap.is_contiguous(),
            name.starts_with("default_cma"),
            "{what}"
        );
        assert_eq!(
            heap.is_contiguous(),
            heap.region == Region::DefaultCma,
            "{what}"
        );
        assert_eq!(heap.in_tree, !name.contains('-'), "{what}");
    }
}

#[test]
fn names_are_what_a_rule_can_say() {
    let names = names();
    let once: BTreeSet<_> = names.iter().collect();
    assert_eq!(once.len(), names.len());
    for name in names {
        assert!(!name.is_empty() && !name.contains([',', '=', ':', ' ', '\n']));
    }
}

proptest! {
    /// A mistake here would refuse devices that another driver's heap takes.
    #[test]
    fn other_heaps_are_taken_to_be_maintained(name in "\\PC*") {
        prop_assume!(!names().contains(&name.as_str()));
        prop_assert_eq!(mode(&name), Mode::Maintained);
    }
}
