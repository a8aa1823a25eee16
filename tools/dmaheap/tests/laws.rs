// SPDX-License-Identifier: MIT OR GPL-2.0

//! The laws of the choice, over any links that devices may have.

use dmaheap::{Choice, CpuMapping, Device, Heap, Requirement, choose};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

const NAMES: [&str; 6] = ["a", "b", "c", "system", "default_cma_region", "gone"];

/// A heap with any properties; the last name is left out.
fn heaps() -> impl Strategy<Value = Vec<Heap>> {
    let coherent = prop_oneof![Just(None), any::<bool>().prop_map(Some)];
    vec(
        (coherent, any::<Option<bool>>(), any::<bool>()),
        NAMES.len() - 1,
    )
    .prop_map(|properties| {
        let named = NAMES.iter().zip(properties);
        named
            .map(|(name, (dma_coherent, contiguous, cached))| {
                let mut heap = Heap::new(*name, format!("/dev/dma_heap/{name}"));
                heap.dma_coherent = dma_coherent;
                heap.contiguous = contiguous;
                heap.cpu_mapping = (!cached).then_some(CpuMapping::WriteCombining);
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

fn devices() -> impl Strategy<Value = Vec<Device>> {
    vec(order(), 1..5).prop_map(|orders| {
        let numbered = orders.into_iter().enumerate();
        numbered
            .map(|(number, order)| {
                Device::new(format!("d{number}"), format!("/sys/d{number}"), order)
            })
            .collect()
    })
}

fn names(choice: &Choice) -> Vec<String> {
    choice
        .fits()
        .iter()
        .map(|fit| fit.heap.name.clone())
        .collect()
}

const ANY: Requirement = Requirement { contiguous: false };

proptest! {
    #[test]
    fn a_picked_heap_is_linked_by_every_device(heaps in heaps(), devices in devices()) {
        let choice = choose(&heaps, &devices, ANY);
        if let Ok(best) = choice.best() {
            for device in &devices {
                prop_assert!(device.order.as_ref().unwrap().contains(&best.name));
            }
        }
    }

    #[test]
    fn a_heap_that_all_are_linked_to_is_never_missed(heaps in heaps(), devices in devices()) {
        let choice = choose(&heaps, &devices, ANY);
        for heap in &heaps {
            let linked = devices.iter().all(|device| {
                device.order.as_ref().is_some_and(|order| order.contains(&heap.name))
            });
            prop_assert_eq!(linked, names(&choice).contains(&heap.name));
        }
    }

    #[test]
    fn the_order_of_arguments_does_not_matter(
        heaps in heaps(),
        (devices, shuffled) in devices().prop_flat_map(|devices| {
            (Just(devices.clone()), Just(devices).prop_shuffle())
        }),
        heap_first in any::<Index>(),
    ) {
        let mut rotated = heaps.clone();
        rotated.rotate_left(heap_first.index(heaps.len()));
        prop_assert_eq!(choose(&heaps, &devices, ANY), choose(&rotated, &shuffled, ANY));
    }

    #[test]
    fn a_device_given_twice_counts_once(
        heaps in heaps(), devices in devices(), again in any::<Index>(),
    ) {
        let mut more = devices.clone();
        more.push(devices[again.index(devices.len())].clone());
        prop_assert_eq!(choose(&heaps, &devices, ANY), choose(&heaps, &more, ANY));
    }

    #[test]
    fn another_device_never_makes_a_heap_fit(
        heaps in heaps(), devices in devices(), order in order(),
    ) {
        let before = names(&choose(&heaps, &devices, ANY));
        let mut more = devices;
        more.push(Device::new("more", "/sys/more", order));
        for heap in names(&choose(&heaps, &more, ANY)) {
            prop_assert!(before.contains(&heap));
        }
    }

    #[test]
    fn another_requirement_never_makes_a_heap_fit(heaps in heaps(), devices in devices()) {
        let before = names(&choose(&heaps, &devices, ANY));
        for heap in names(&choose(&heaps, &devices, Requirement { contiguous: true })) {
            prop_assert!(before.contains(&heap));
        }
    }

    #[test]
    fn each_heap_fits_or_is_explained(heaps in heaps(), devices in devices()) {
        let choice = choose(&heaps, &devices, ANY);
        for heap in &heaps {
            let objected = choice.objections().iter().any(|objection| objection.heap == heap.name);
            prop_assert!(objected != names(&choice).contains(&heap.name));
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
}
