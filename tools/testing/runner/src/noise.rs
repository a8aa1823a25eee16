// SPDX-License-Identifier: GPL-2.0

//! What a kernel says of its own code. With the in-tree heap `system` it says the same.

use vm::{Kind, Report};

/// What is not held against the module: the kind of a report, how its message begins, and what its
/// call trace has to show besides.
type Noise = (Kind, &'static str, &'static str);

/// What any kernel says.
const OF_ALL: &[Noise] = &[
    // To swap memory out takes a page of memory now and then. If there is none, this is said, and
    // another time will do.
    (Kind::Stack, "", " swap_cluster_alloc_table+"),
];

/// What a kernel says that looks for mistakes.
const OF_DEBUG: &[Noise] = &[
    // dma_buf_vmap() takes every error of an exporter for a bug, a lack of memory too, and says so
    // once. That fail_nth.vmap provokes.
    (Kind::Warning, "WARNING: at dma_buf_vmap+", ""),
    // The DMA API takes a driver that states no limit for one whose device takes segments of 64 KiB,
    // and complains of longer ones. The heaps of the tree give it those as well, in importer.snooping.
    (
        Kind::Warning,
        "WARNING: at debug_dma_map_sg+",
        "dma_buf_map_attachment+",
    ),
    // The heap of the tree syncs each attachment in both directions, whatever it is mapped for.
    (
        Kind::Warning,
        "WARNING: at check_sync+",
        " system_heap_dma_buf_",
    ),
];

/// Whether a report is about the kernel's own code.
pub fn is_noise(report: &Report, debug: bool) -> bool {
    let of_debug = if debug { OF_DEBUG } else { &[] };
    let mut noise = OF_ALL.iter().chain(of_debug);
    noise.any(|(kind, start, function)| {
        report.kind == *kind
            && report.message().starts_with(start)
            && report.text.contains(function)
    })
}
