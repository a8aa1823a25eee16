// SPDX-License-Identifier: GPL-2.0

//! Which heaps there are, which suit a device, and in which order they are offered.

use crate::policy::{
    CacheableAlias, Constraints, Dma, Heap, Import, MAX_REGIONS, Mode, Pieces, Refusal, Region,
    RegionSet, accepts, heaps, pieces_of_drm_driver,
};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use std::collections::BTreeSet;

/// All regions of a machine with memory beyond 4 GiB and three contiguous areas.
const REGIONS: [Region; 5] = [
    Region::System,
    Region::Dma32,
    Region::Area(0),
    Region::Area(1),
    Region::Area(2),
];

const ARM64: CacheableAlias = CacheableAlias(true);
const X86: CacheableAlias = CacheableAlias(false);

fn set(regions: &[Region]) -> RegionSet {
    let mut set = RegionSet::default();
    for region in regions {
        set.insert(*region);
    }
    set
}

/// A device that snoops, reaches everything, and takes any pieces.
fn friendly() -> Constraints {
    Constraints {
        import: Import::ByDma,
        snoops: true,
        address_bits: 64,
        iommu: false,
        pieces: Pieces::Any,
        reached: set(&REGIONS),
        own: None,
    }
}

fn all(regions: &[Region]) -> Vec<Heap> {
    regions.iter().copied().flat_map(heaps).collect()
}

fn name(heap: &Heap) -> String {
    let region = match heap.region {
        Region::System => "system".to_owned(),
        Region::Dma32 => "system-dma32".to_owned(),
        Region::Area(0) => "default_cma_region".to_owned(),
        Region::Area(number) => format!("area{number}"),
    };
    region + heap.suffix()
}

/// What the links do: all heaps that suit each node, the best first.
fn order(nodes: &[Constraints], heaps: &[Heap], alias: CacheableAlias) -> Vec<Heap> {
    let all = Constraints::of_all(nodes.iter().copied());
    let mut suitable: Vec<_> = heaps
        .iter()
        .copied()
        .filter(|heap| nodes.iter().all(|node| node.suits(*heap, alias).is_ok()))
        .collect();
    suitable.sort_by_key(|heap| all.place(*heap));
    suitable
}

fn names(nodes: &[Constraints], regions: &[Region], alias: CacheableAlias) -> Vec<String> {
    order(nodes, &all(regions), alias)
        .iter()
        .map(name)
        .collect()
}

const USUAL: [Region; 2] = [Region::System, Region::Area(0)];

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
    assert_eq!(names(&[friendly()], &USUAL, ARM64), expected);
    let uncached = ["system-uncached", "default_cma_region-uncached"];
    assert_eq!(
        names(&[friendly()], &USUAL, X86),
        [&expected[..], &uncached].concat()
    );
}

#[test]
fn one_that_does_not_gets_maintained_heaps_first_and_uncached_ones_last() {
    let expected = [
        "system-noncoherent",
        "default_cma_region-noncoherent",
        "system",
        "default_cma_region",
        "system-uncached",
        "default_cma_region-uncached",
    ];
    let device = Constraints {
        snoops: false,
        ..friendly()
    };
    for alias in [ARM64, X86] {
        assert_eq!(names(&[device], &USUAL, alias), expected, "{alias:?}");
    }
}

/// So that the next device need not snoop.
#[test]
fn a_device_whose_work_the_cpu_does_gets_all_heaps_strict_ones_last() {
    let expected = [
        "system-noncoherent",
        "default_cma_region-noncoherent",
        "system",
        "default_cma_region",
        "system-uncached",
        "default_cma_region-uncached",
        "system-coherent",
        "default_cma_region-coherent",
    ];
    let camera = Constraints {
        import: Import::ByCpu,
        snoops: false,
        address_bits: 0,
        pieces: Pieces::Unknown,
        reached: RegionSet::default(),
        ..friendly()
    };
    for alias in [ARM64, X86] {
        assert_eq!(names(&[camera], &USUAL, alias), expected, "{alias:?}");
    }
}

#[test]
fn one_piece_means_contiguous_heaps_unless_there_is_an_iommu() {
    for pieces in [Pieces::One, Pieces::Unknown] {
        let device = Constraints {
            pieces,
            ..friendly()
        };
        assert_eq!(
            names(&[device], &REGIONS[..3], ARM64),
            [
                "default_cma_region-coherent",
                "default_cma_region-noncoherent",
                "default_cma_region"
            ],
            "{pieces:?}"
        );
        let behind = Constraints {
            iommu: true,
            ..device
        };
        assert_eq!(
            names(&[behind], &REGIONS, ARM64),
            names(&[friendly()], &REGIONS, ARM64),
            "{pieces:?}"
        );
    }
}

#[test]
fn an_area_of_its_own_comes_first() {
    let own = Some(Region::Area(2));
    let device = Constraints { own, ..friendly() };
    let order = names(&[device], &REGIONS, ARM64);
    assert_eq!(order[..2], ["area2-coherent", "system-coherent"]);
    let display = Constraints {
        pieces: Pieces::One,
        snoops: false,
        ..device
    };
    let order = names(&[display], &REGIONS, ARM64);
    assert_eq!(
        order[..2],
        ["area2-noncoherent", "default_cma_region-noncoherent"]
    );
}

#[test]
fn a_device_with_32_bits_gets_what_it_reaches() {
    let device = Constraints {
        address_bits: 32,
        reached: set(&[Region::Dma32, Region::Area(0)]),
        ..friendly()
    };
    let order = names(&[device], &REGIONS, ARM64);
    assert_eq!(
        order[..2],
        ["system-dma32-coherent", "default_cma_region-coherent"]
    );
    assert!(!order.iter().any(|heap| heap == "system"));
}

#[test]
fn every_refusal_is_met() {
    let heap = |region, mode| Heap {
        region,
        mode,
        in_tree: false,
    };
    let system = |mode| heap(Region::System, mode);
    let noncoherent = Constraints {
        snoops: false,
        ..friendly()
    };
    let one = Constraints {
        pieces: Pieces::One,
        ..friendly()
    };
    let unknown = Constraints {
        pieces: Pieces::Unknown,
        ..friendly()
    };
    let far = Constraints {
        reached: set(&[Region::Area(0)]),
        ..friendly()
    };
    let maskless = Constraints {
        address_bits: 0,
        ..friendly()
    };
    let far_noncoherent = Constraints {
        snoops: false,
        ..far
    };
    let cases = [
        (noncoherent, system(Mode::Strict), Refusal::NotSnooping),
        (friendly(), system(Mode::Uncached), Refusal::Snooping),
        (maskless, system(Mode::Strict), Refusal::NoDmaMask),
        (maskless, system(Mode::Maintained), Refusal::NoDmaMask),
        (far, system(Mode::Strict), Refusal::MayBounce),
        (far, system(Mode::Maintained), Refusal::MayBounce),
        (far_noncoherent, system(Mode::Uncached), Refusal::MayBounce),
        (one, system(Mode::Strict), Refusal::OnePiece),
        (unknown, system(Mode::Strict), Refusal::PiecesUnknown),
    ];
    for (device, heap, refusal) in cases {
        assert_eq!(
            device.suits(heap, ARM64),
            Err(refusal),
            "{device:?} {heap:?}"
        );
    }
    let reasons: BTreeSet<_> = cases
        .iter()
        .map(|(_, _, refusal)| refusal.reason())
        .collect();
    assert_eq!(reasons.len(), 6);
    for (device, mode) in [
        (noncoherent, Mode::Maintained),
        (noncoherent, Mode::Uncached),
        (friendly(), Mode::Strict),
        (far, Mode::Strict),
        (one, Mode::Strict),
        (unknown, Mode::Strict),
    ] {
        assert_eq!(
            device.suits(heap(Region::Area(0), mode), ARM64),
            Ok(()),
            "{device:?} {mode:?}"
        );
    }
}

/// A set has room for as many as the module makes.
#[test]
fn the_last_region_is_told_from_the_others() {
    let last = Region::Area(MAX_REGIONS - 3);
    let mut both = set(&[last]);
    assert_ne!(both, set(&REGIONS));
    both.insert(last);
    assert_eq!(both, set(&[last]));
}

/// What the core of a DRM driver says of itself, and what its source says.
#[test]
fn gpus_take_any_pieces_and_others_are_unknown() {
    for gpu in ["amdgpu", "i915", "virtio_gpu", "xe"] {
        assert_eq!(pieces_of_drm_driver(gpu), Pieces::Any, "{gpu}");
    }
    for other in ["", "rockchip", "exynos", "mediatek", "amdgpu2", "AMDGPU"] {
        assert_eq!(pieces_of_drm_driver(other), Pieces::Unknown, "{other}");
    }
}

/// What the names promise is what files in sysfs say.
#[test]
fn names_and_attributes_agree() {
    let heaps = all(&REGIONS);
    let names: Vec<_> = heaps.iter().map(name).collect();
    let once: BTreeSet<_> = names.iter().collect();
    assert_eq!(once.len(), names.len());
    for (heap, name) in heaps.iter().zip(&names) {
        let ends = |suffix| name.ends_with(suffix);
        assert_eq!(heap.is_dma_coherent(), ends("-coherent"), "{name}");
        assert_eq!(
            heap.cpu_mapping().name() == "write-combining",
            ends("-uncached"),
            "{name}"
        );
        assert_eq!(heap.in_tree, !name.contains('-'), "{name}");
        assert_eq!(heap.region.is_contiguous(), !name.starts_with("system"));
        assert!(!name.contains([',', '=', ':', '/', ' ', '\n']));
    }
}

fn import() -> impl Strategy<Value = Import> {
    select(vec![Import::ByCpu, Import::AttachOnly, Import::ByDma])
}

prop_compose! {
    fn constraints()(
        import in import(),
        snoops: bool,
        address_bits in select(vec![0_u32, 24, 32, 40, 64]),
        iommu: bool,
        pieces in select(vec![Pieces::Any, Pieces::Unknown, Pieces::One]),
        reached in subsequence(REGIONS.to_vec(), 0..=REGIONS.len()),
        own in proptest::option::of(select(REGIONS[2..].to_vec())),
    ) -> Constraints {
        let reached = set(&reached);
        Constraints { import, snoops, address_bits, iommu, pieces, reached, own }
    }
}

fn nodes() -> impl Strategy<Value = Vec<Constraints>> {
    proptest::collection::vec(constraints(), 1..4)
}

fn regions() -> impl Strategy<Value = Vec<Region>> {
    subsequence(REGIONS.to_vec(), 0..=REGIONS.len())
}

fn alias() -> impl Strategy<Value = CacheableAlias> {
    any::<bool>().prop_map(CacheableAlias)
}

/// The rule for attaching, in other words.
fn may_attach(mode: Mode, dma: Dma, alias: CacheableAlias) -> bool {
    match mode {
        Mode::Strict => dma.snoops && dma.has_mask && dma.reaches,
        Mode::Maintained => true,
        Mode::Uncached => !alias.0 || (!dma.snoops && (dma.reaches || !dma.has_mask)),
    }
}

proptest! {
    #[test]
    fn attaching_follows_its_rule(
        mode in select(vec![Mode::Strict, Mode::Maintained, Mode::Uncached]),
        snoops: bool,
        has_mask: bool,
        reaches: bool,
        alias in alias(),
    ) {
        let dma = Dma { snoops, has_mask, reaches };
        prop_assert_eq!(accepts(mode, dma, alias).is_ok(), may_attach(mode, dma, alias));
    }

    /// A heap that is linked satisfies all that each node asks.
    #[test]
    fn what_is_linked_satisfies_all(nodes in nodes(), regions in regions(), alias in alias()) {
        for heap in order(&nodes, &all(&regions), alias) {
            for node in &nodes {
                if node.import == Import::ByCpu {
                    continue;
                }
                let mut with = node.reached;
                with.insert(heap.region);
                let reaches = with == node.reached;
                let dma = Dma { snoops: node.snoops, has_mask: node.address_bits > 0, reaches };
                prop_assert!(may_attach(heap.mode, dma, alias), "{node:?} {heap:?}");
                if node.import == Import::ByDma {
                    prop_assert!(reaches && dma.has_mask, "{node:?} {heap:?}");
                    prop_assert!(
                        node.pieces == Pieces::Any || node.iommu || heap.region.is_contiguous(),
                        "{node:?} {heap:?}"
                    );
                }
            }
        }
    }

    /// A rule or a driver may name at least what is linked by default.
    #[test]
    fn asking_allows_no_less(node in constraints(), alias in alias()) {
        for heap in all(&REGIONS) {
            if node.suits(heap, alias).is_ok() {
                prop_assert!(node.exclude(heap, alias).is_ok());
            }
            if node.exclude(heap, alias).is_ok() {
                prop_assert!(node.admit(heap, alias).is_ok());
            }
        }
    }

    /// No heap stands twice, and each has a place of its own, so that the order does not depend on
    /// that in which heaps and nodes were found.
    #[test]
    fn the_order_does_not_depend_on_discovery(
        nodes in nodes(),
        regions in regions(),
        turn: Index,
        alias in alias(),
    ) {
        let heaps = all(&regions);
        let expected = order(&nodes, &heaps, alias);
        let places = |nodes: &[Constraints]| -> BTreeSet<_> {
            let all = Constraints::of_all(nodes.iter().copied());
            heaps.iter().map(|heap| all.place(*heap)).collect()
        };
        prop_assert_eq!(places(&nodes).len(), heaps.len());

        let mut turned = heaps.clone();
        if !turned.is_empty() {
            let len = turned.len();
            turned.rotate_left(turn.index(len));
        }
        turned.reverse();
        prop_assert_eq!(&order(&nodes, &turned, alias), &expected);

        let mut turned = nodes;
        turned.reverse();
        prop_assert_eq!(order(&turned, &heaps, alias), expected);
    }

    /// Adding a region takes nothing away, and leaves the order of the others.
    #[test]
    fn another_region_takes_nothing_away(
        nodes in nodes(),
        regions in regions(),
        another in select(REGIONS.to_vec()),
        alias in alias(),
    ) {
        let fewer: Vec<_> = regions.iter().copied().filter(|region| *region != another).collect();
        let more: Vec<_> = fewer.iter().copied().chain([another]).collect();
        let expected = order(&nodes, &all(&fewer), alias);
        let seen: Vec<_> = order(&nodes, &all(&more), alias)
            .into_iter()
            .filter(|heap| heap.region != another)
            .collect();
        prop_assert_eq!(seen, expected);
    }

    /// A second node can only take heaps away.
    #[test]
    fn another_node_adds_nothing(nodes in nodes(), another in constraints(), alias in alias()) {
        let heaps = all(&REGIONS);
        let before = order(&nodes, &heaps, alias);
        let more: Vec<_> = nodes.iter().copied().chain([another]).collect();
        for heap in order(&more, &heaps, alias) {
            prop_assert!(before.contains(&heap));
        }
    }

    /// What is published of all nodes is as strict as the strictest of those that do DMA.
    #[test]
    fn what_is_published_holds_for_each_node(nodes in nodes()) {
        let all = Constraints::of_all(nodes.iter().copied());
        for node in nodes.iter().filter(|node| node.import != Import::ByCpu) {
            prop_assert!(!all.snoops || node.snoops);
            prop_assert!(!all.iommu || node.iommu);
            prop_assert!(all.address_bits <= node.address_bits);
            prop_assert!(all.pieces >= node.pieces);
        }
    }
}
