// SPDX-License-Identifier: MIT OR GPL-2.0

//! The laws of the choice: over any links that devices may have, and over those that the module
//! makes for any constraints.

use dmaheap::{
    Choice, Constraints, CpuMapping, Device, Exporter, Heap, Objection, Pieces, Reason,
    Requirement, choose,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

const NAMES: [&str; 6] = ["a", "b", "c", "system", "default_cma_region", "gone"];

/// A number of bytes: three heaps and a buffer may differ in it.
fn bytes() -> impl Strategy<Value = Option<u64>> {
    select(vec![None, Some(1), Some(2), Some(3)])
}

/// A heap with any properties; the last name is left out.
fn heaps() -> impl Strategy<Value = Vec<Heap>> {
    let known = || any::<Option<bool>>();
    vec(
        (known(), known(), known(), any::<bool>(), bytes(), bytes()),
        NAMES.len() - 1,
    )
    .prop_map(|properties| {
        let named = NAMES.iter().zip(properties);
        named
            .map(|(name, properties)| {
                let (coherent, refuses_snooping, contiguous, cached, capacity, limit) = properties;
                let mut heap = Heap::new(*name, format!("/dev/dma_heap/{name}"));
                heap.dma_coherent = coherent;
                heap.refuses_snooping = refuses_snooping;
                heap.contiguous = contiguous;
                heap.cpu_mapping = (!cached).then_some(CpuMapping::WriteCombining);
                (heap.capacity, heap.limit) = (capacity, limit);
                heap
            })
            .collect()
    })
}

/// Links in any order, or none.
fn order() -> impl Strategy<Value = Option<Vec<String>>> {
    let some = subsequence(NAMES.to_vec(), 0..=NAMES.len()).prop_shuffle();
    let some = some.prop_map(|names| Some(names.into_iter().map(str::to_owned).collect()));
    prop_oneof![9 => some, 1 => Just(None)]
}

fn constraints() -> impl Strategy<Value = Constraints> {
    let pieces = select(vec![Pieces::One, Pieces::Any, Pieces::Unknown]);
    let address_bits = select(vec![0, 32, 64]);
    let all = (any::<bool>(), address_bits, any::<bool>(), pieces);
    all.prop_map(|(snoops, address_bits, iommu, pieces)| Constraints {
        snoops,
        address_bits,
        iommu,
        pieces,
    })
}

fn device() -> impl Strategy<Value = Device> {
    (order(), proptest::option::of(constraints())).prop_map(|(order, constraints)| {
        let mut device = Device::new("d", "/sys/d", order);
        device.constraints = constraints;
        device
    })
}

/// Devices with names and paths of their own.
fn numbered(devices: Vec<Device>) -> Vec<Device> {
    let numbered = devices.into_iter().enumerate();
    numbered
        .map(|(number, mut device)| {
            device.name = format!("d{number}");
            device.path = format!("/sys/d{number}").into();
            device
        })
        .collect()
}

fn devices() -> impl Strategy<Value = Vec<Device>> {
    vec(device(), 1..5).prop_map(numbered)
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let all = (any::<bool>(), bytes(), any::<bool>());
    all.prop_map(|(contiguous, size, without_brackets)| Requirement {
        contiguous,
        size,
        without_brackets,
    })
}

/// Whether a heap is linked to a device.
fn linked(heap: &Heap, device: &Device) -> bool {
    let order = device.order.as_ref();
    order.is_some_and(|order| order.contains(&heap.name))
}

/// What a requirement asks of a heap that all devices are linked to.
fn meets(heap: &Heap, devices: &[Device], requirement: Requirement) -> bool {
    let size = requirement.size.unwrap_or(0);
    let cached = heap.cpu_mapping != Some(CpuMapping::WriteCombining);
    let maintained = cached && heap.dma_coherent != Some(true);
    let snoops = |device: &Device| device.constraints.is_some_and(|known| known.snoops);
    (!requirement.contiguous || heap.contiguous == Some(true))
        && size <= heap.capacity.unwrap_or(u64::MAX)
        && size <= heap.limit.unwrap_or(u64::MAX)
        && !(requirement.without_brackets && maintained && !devices.iter().all(snoops))
}

/// What a region is like of which there are heaps: contiguous, and where 32-bit devices reach.
#[derive(Clone, Copy, Debug)]
struct Region {
    name: &'static str,
    contiguous: bool,
    low: bool,
}

const REGIONS: [Region; 4] = [
    region("system", false, false),
    region("system-dma32", false, true),
    region("default_cma_region", true, true),
    region("camera", true, false),
];

const fn region(name: &'static str, contiguous: bool, low: bool) -> Region {
    Region {
        name,
        contiguous,
        low,
    }
}

/// The heaps of the module and of the kernel on these regions.
fn heaps_of(regions: &[Region], x86: bool) -> Vec<(Heap, Region)> {
    let modes = ["-coherent", "-noncoherent", "-uncached", ""];
    let all = regions
        .iter()
        .flat_map(|region| modes.map(|mode| (region, mode)));
    all.filter(|(region, mode)| !mode.is_empty() || region.name != "system-dma32")
        .map(|(region, mode)| {
            let name = format!("{}{mode}", region.name);
            let mut heap = Heap::new(&name, format!("/dev/dma_heap/{name}"));
            let uncached = mode == "-uncached";
            heap.exporter = match mode {
                "" => Exporter::Kernel,
                _ => Exporter::Module,
            };
            heap.dma_coherent = Some(mode == "-coherent");
            heap.refuses_snooping = Some(uncached && !x86);
            heap.contiguous = Some(region.contiguous);
            heap.cpu_mapping = Some(match uncached {
                true => CpuMapping::WriteCombining,
                false => CpuMapping::WriteBack,
            });
            (heap, *region)
        })
        .collect()
}

/// Why the module does not link a device to a heap, as its documentation has it.
fn why_not(heap: &Heap, region: Region, needs: Constraints) -> Option<Reason> {
    let reaches =
        needs.iommu || needs.address_bits == 64 || (needs.address_bits == 32 && region.low);
    let no_mask = needs.address_bits == 0;
    if heap.dma_coherent == Some(true) && !needs.snoops {
        Some(Reason::DoesNotSnoop)
    } else if heap.refuses_snooping == Some(true) && needs.snoops {
        Some(Reason::Snoops)
    } else if !region.contiguous && !needs.iommu && needs.pieces == Pieces::One {
        Some(Reason::OnePiece)
    } else if !region.contiguous && !needs.iommu && needs.pieces == Pieces::Unknown {
        Some(Reason::PiecesUnknown)
    } else if !reaches || (heap.dma_coherent == Some(true) && no_mask) {
        Some(Reason::OutOfReach)
    } else {
        None
    }
}

/// A device as the module links it, in an order of its own.
fn link(heaps: &[(Heap, Region)], needs: Constraints, first: Index) -> Device {
    let suits = heaps
        .iter()
        .filter(|(heap, region)| why_not(heap, *region, needs).is_none());
    let mut order: Vec<_> = suits.map(|(heap, _)| heap.name.clone()).collect();
    if !order.is_empty() {
        let first = first.index(order.len());
        order.rotate_left(first);
    }
    let mut device = Device::new("d", "/sys/d", Some(order));
    device.constraints = Some(needs);
    device
}

fn link_all(heaps: &[(Heap, Region)], needs: &[(Constraints, Index)]) -> Vec<Device> {
    let devices = needs
        .iter()
        .map(|(needs, first)| link(heaps, *needs, *first));
    numbered(devices.collect())
}

fn alone(heaps: &[(Heap, Region)]) -> Vec<Heap> {
    heaps.iter().map(|(heap, _)| heap.clone()).collect()
}

/// What several devices need.
fn needs() -> impl Strategy<Value = Vec<(Constraints, Index)>> {
    vec((constraints(), any::<Index>()), 1..5)
}

fn regions() -> impl Strategy<Value = Vec<Region>> {
    subsequence(REGIONS.to_vec(), 0..=REGIONS.len())
}

fn names(choice: &Choice) -> Vec<String> {
    choice
        .fits()
        .iter()
        .map(|fit| fit.heap.name.clone())
        .collect()
}

const ANY: Requirement = Requirement {
    contiguous: false,
    size: None,
    without_brackets: false,
};

proptest! {
    #[test]
    fn a_heap_fits_if_all_are_linked_to_it_and_it_meets_the_requirement(
        heaps in heaps(), devices in devices(), requirement in requirement(),
    ) {
        let choice = choose(&heaps, &devices, requirement);
        for heap in &heaps {
            let fits = devices.iter().all(|device| linked(heap, device))
                && meets(heap, &devices, requirement);
            prop_assert_eq!(fits, names(&choice).contains(&heap.name), "{}", heap.name);
        }
        if let Ok(best) = choice.best() {
            prop_assert_eq!(&best.name, &names(&choice)[0]);
        }
    }

    #[test]
    fn the_order_of_arguments_does_not_matter(
        heaps in heaps(),
        (devices, shuffled) in devices().prop_flat_map(|devices| {
            (Just(devices.clone()), Just(devices).prop_shuffle())
        }),
        heap_first in any::<Index>(),
        requirement in requirement(),
    ) {
        let mut rotated = heaps.clone();
        rotated.rotate_left(heap_first.index(heaps.len()));
        prop_assert_eq!(
            choose(&heaps, &devices, requirement),
            choose(&rotated, &shuffled, requirement)
        );
    }

    #[test]
    fn a_device_given_twice_counts_once(
        heaps in heaps(), devices in devices(), again in any::<Index>(),
        requirement in requirement(),
    ) {
        let mut more = devices.clone();
        more.push(devices[again.index(devices.len())].clone());
        prop_assert_eq!(
            choose(&heaps, &devices, requirement),
            choose(&heaps, &more, requirement)
        );
    }

    #[test]
    fn another_device_never_makes_a_heap_fit(
        heaps in heaps(), devices in devices(), more in device(), requirement in requirement(),
    ) {
        let before = names(&choose(&heaps, &devices, requirement));
        let mut devices = devices;
        devices.push(more);
        for heap in names(&choose(&heaps, &devices, requirement)) {
            prop_assert!(before.contains(&heap));
        }
    }

    #[test]
    fn another_heap_takes_nothing_away(
        heaps in heaps(), devices in devices(), without in any::<Index>(),
        requirement in requirement(),
    ) {
        let mut fewer = heaps.clone();
        fewer.remove(without.index(heaps.len()));
        let all = names(&choose(&heaps, &devices, requirement));
        for heap in names(&choose(&fewer, &devices, requirement)) {
            prop_assert!(all.contains(&heap));
        }
    }

    #[test]
    fn another_requirement_never_makes_a_heap_fit(
        heaps in heaps(), devices in devices(), requirement in requirement(),
    ) {
        let before = names(&choose(&heaps, &devices, ANY));
        for heap in names(&choose(&heaps, &devices, requirement)) {
            prop_assert!(before.contains(&heap));
        }
    }

    #[test]
    fn each_heap_fits_or_is_explained(
        heaps in heaps(), devices in devices(), requirement in requirement(),
    ) {
        let choice = choose(&heaps, &devices, requirement);
        for heap in &heaps {
            let objected = choice.objections().iter().any(|objection| objection.heap == heap.name);
            prop_assert!(objected != names(&choice).contains(&heap.name));
        }
        prop_assert_eq!(choice.best().is_ok(), !choice.fits().is_empty());
        for objection in choice.objections() {
            prop_assert!(!objection.to_string().is_empty());
        }
        if let Err(problem) = choice.best() {
            prop_assert!(!problem.to_string().is_empty());
        }
    }

    #[test]
    fn what_all_prefer_is_preferred(heaps in heaps(), devices in devices()) {
        let fits = names(&choose(&heaps, &devices, ANY));
        for (place, better) in fits.iter().enumerate() {
            for worse in &fits[place + 1..] {
                let all_prefer_worse = devices.iter().all(|device| {
                    let order = device.order.as_ref().unwrap();
                    let at = |name| order.iter().position(|known| known == name);
                    at(worse) < at(better)
                });
                prop_assert!(!all_prefer_worse, "{better} before {worse}");
            }
        }
    }

    #[test]
    fn what_is_chosen_satisfies_the_constraints_of_all(
        regions in regions(), x86 in any::<bool>(), needs in needs(), requirement in requirement(),
    ) {
        let heaps = heaps_of(&regions, x86);
        let devices = link_all(&heaps, &needs);
        let choice = choose(&alone(&heaps), &devices, requirement);
        for fit in choice.fits() {
            let (_, region) = heaps.iter().find(|(heap, _)| *heap == fit.heap).unwrap();
            for (needs, _) in &needs {
                prop_assert_eq!(why_not(&fit.heap, *region, *needs), None);
            }
        }
    }

    #[test]
    fn the_reason_is_that_of_the_module(
        regions in regions(), x86 in any::<bool>(), needs in needs(),
    ) {
        let heaps = heaps_of(&regions, x86);
        let devices = link_all(&heaps, &needs);
        let choice = choose(&alone(&heaps), &devices, ANY);
        let found = |heap: &Heap, device: &Device| {
            let mut objections = choice.objections().iter();
            let is_it = |objection: &&Objection| {
                objection.heap == heap.name && objection.device.as_ref() == Some(&device.name)
            };
            objections.find(is_it).map(|objection| objection.reason)
        };
        for (heap, region) in &heaps {
            for (device, (needs, _)) in devices.iter().zip(&needs) {
                prop_assert_eq!(
                    found(heap, device),
                    why_not(heap, *region, *needs),
                    "{} {}", heap.name, needs
                );
            }
        }
    }

    #[test]
    fn without_brackets_a_device_that_does_not_snoop_gets_no_maintained_heap(
        regions in regions(), x86 in any::<bool>(), needs in needs(),
    ) {
        let heaps = heaps_of(&regions, x86);
        let devices = link_all(&heaps, &needs);
        let requirement = Requirement { without_brackets: true, ..ANY };
        let choice = choose(&alone(&heaps), &devices, requirement);
        let all_snoop = needs.iter().all(|(needs, _)| needs.snoops);
        for fit in choice.fits() {
            let heap = &fit.heap;
            let maintained = heap.dma_coherent == Some(false)
                && heap.cpu_mapping == Some(CpuMapping::WriteBack);
            prop_assert!(all_snoop || !maintained, "{}", heap.name);
        }
        // Nobody loses anything where all snoop.
        if all_snoop {
            prop_assert_eq!(names(&choice), names(&choose(&alone(&heaps), &devices, ANY)));
        }
    }

    #[test]
    fn another_region_takes_nothing_away(
        x86 in any::<bool>(), needs in needs(), requirement in requirement(), more in 0..=REGIONS.len(),
    ) {
        let (few, all) = (heaps_of(&REGIONS[..more], x86), heaps_of(&REGIONS, x86));
        let with = |heaps: &[(Heap, Region)]| {
            names(&choose(&alone(heaps), &link_all(heaps, &needs), requirement))
        };
        let all = with(&all);
        for heap in with(&few) {
            prop_assert!(all.contains(&heap));
        }
    }
}
