// SPDX-License-Identifier: GPL-2.0

//! Reports that a kernel makes about its own code. It makes the same with the in-tree heap
//! `system`.

use vm::{Kind, Report};

/// A report that is not the module's fault: its kind, how its message begins, and a text that its
/// call trace must contain.
type Noise = (Kind, &'static str, &'static str);

/// Noise of any kernel.
const OF_ALL: &[Noise] = &[
    // Swapping out needs a page of memory now and then. If there is none, the kernel reports that,
    // and tries again later.
    (Kind::Stack, "", " swap_cluster_alloc_table+"),
];

/// Noise of debug kernels.
const OF_DEBUG: &[Noise] = &[
    // dma_buf_vmap() takes every error of an exporter for a bug, even a lack of memory, and warns
    // once. fail_nth.vmap provokes that.
    (Kind::Warning, "WARNING: at dma_buf_vmap+", ""),
    // If a driver states no limit, the DMA API assumes segments of 64 KiB at most, and warns of longer
    // ones. The in-tree heaps cause that too, in importer.snooping.
    (
        Kind::Warning,
        "WARNING: at debug_dma_map_sg+",
        "dma_buf_map_attachment+",
    ),
    // The in-tree heap syncs each attachment in both directions, whatever its mapping's direction is.
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
