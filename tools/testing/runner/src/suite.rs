// SPDX-License-Identifier: GPL-2.0

//! The guests that our own test program runs in.

use crate::boot::{Boot, LOAD, SMALL_PAGE, VIVID_MAPS, text};
use crate::group::Group;
use crate::kit::{Kit, Kits, SELFTEST};
use crate::ktap::Output;
use crate::results::{Case, Verdict};
use anyhow::Result;
use vm::{Arch, Iommu};

/// A guest, the tests that run in it, and the tests that may be skipped there. Any other
/// skipped test counts as failed, so that a missing device is noticed.
struct Suite {
    name: &'static str,
    about: &'static str,
    boot: Boot,
    may_skip: Vec<&'static str>,
}

/// Tests that need a kernel which makes calls fail on demand.
const FAULTS: &str = "fail_nth.";

/// The test with a node of the class accel. Debian's kernels have that class, ours do not.
const ACCELERATOR: &str = "dmaheap.try_accelerator";

/// The test that only the guests of `sleep.rs` can run, as they end with it.
const HIBERNATION: &str = "power.hibernate";

/// Tests that a debug kernel cannot run. It lets objects outlive the modules that they are in, and
/// its slabs need more than single pages.
const NOT_ON_DEBUG: &[&str] = &[
    "links.subsystems",
    "links.agree_fragmented",
    "links.first_works",
    "memory.fragmented",
];

/// Tests that a kernel with large pages cannot run. There an entry of the second level of page tables
/// maps more than a block has.
const NOT_ON_LARGE_PAGES: &str = "mmap.huge_";

/// All guests, including those that are only for a debug kernel if `debug` is set.
pub fn groups(debug: bool) -> Vec<Group> {
    let mut suites = suites(debug);
    if debug {
        suites.extend([Arch::X86_64, Arch::Arm64].map(faults));
        suites.extend(LOADS.map(loaded_at_last));
    }
    suites.into_iter().map(Suite::into_group).collect()
}

fn boot(arch: Arch, vivid: &str, arguments: &str) -> Boot {
    Boot {
        append: "kunit.enable=1 kunit.autorun=1",
        ..Boot::new(
            arch,
            format!("{LOAD} {vivid} && exec /{SELFTEST} {arguments}"),
        )
    }
}

/// A guest for all tests. Tests that repeat something make fewer rounds here than by default.
fn whole(arch: Arch, debug: bool, arguments: &str) -> Boot {
    let rounds = if debug { 2 } else { 10 };
    Boot {
        check_pages: true,
        ..boot(arch, VIVID_MAPS, &format!("--rounds {rounds} {arguments}"))
    }
}

/// A guest that loads the module with parameters.
fn told(parameters: &str, boot: Boot) -> Boot {
    Boot {
        script: format!("PARAMETERS='{parameters}'; {}", boot.script),
        ..boot
    }
}

/// A guest in which nothing keeps a subsystem from being unloaded.
fn bare(arch: Arch) -> Boot {
    Boot::new(
        arch,
        format!("insmod $DMABUF_COHERENCY_KO && exec /{SELFTEST} links.subsystems"),
    )
}

/// A guest in which another driver has taken the name of one of our heaps.
fn name_taken(arch: Arch) -> Suite {
    Suite {
        name: match arch {
            Arch::X86_64 => "x86_64-name-taken",
            Arch::Arm64 => "arm64-name-taken",
        },
        about: "if a heap's name is taken, that heap is left out, and all else works",
        boot: Boot::new(
            arch,
            format!(
                "modprobe dmabuf_name_taken && {LOAD} {VIVID_MAPS} && {NAME_TAKEN} && \
                 exec /{SELFTEST} {MAINTAINED_HEAP} alloc. sync. import. links.shape links.agree"
            ),
        ),
        may_skip: ANY_HEAP.to_vec(),
    }
}

/// A guest in which another module holds all of the default contiguous area until our module
/// is loaded.
fn area_taken(arch: Arch) -> Suite {
    Suite {
        name: match arch {
            Arch::X86_64 => "x86_64-area-taken",
            Arch::Arm64 => "arm64-area-taken",
        },
        about: "if the default area has no free page, it has no heaps, and all else works",
        boot: Boot::new(
            arch,
            format!(
                "modprobe dmabuf_area_taken && {LOAD} {VIVID_MAPS} && rmmod dmabuf_area_taken && \
                 {AREA_TAKEN} && exec /{SELFTEST} alloc. import. links.shape"
            ),
        ),
        may_skip: ANY_HEAP.to_vec(),
    }
}

/// Guests in which loading the module fails again and again until it succeeds. The number
/// is how many of the module's faults each one skips at first.
const LOADS: [(&str, Arch, usize); 6] = [
    ("x86_64-load-fails", Arch::X86_64, 0),
    ("x86_64-load-fails-later", Arch::X86_64, 60),
    ("x86_64-load-fails-late", Arch::X86_64, 240),
    ("arm64-load-fails", Arch::Arm64, 0),
    ("arm64-load-fails-later", Arch::Arm64, 60),
    ("arm64-load-fails-late", Arch::Arm64, 240),
];

/// Tests of the samples. Only guests that load those modules can run them.
const SAMPLES: &str = "samples.";

/// A guest for the sample exporters, which use the abstractions but do not belong to the module.
fn samples(arch: Arch) -> Suite {
    Suite {
        name: match arch {
            Arch::X86_64 => "x86_64-samples",
            Arch::Arm64 => "arm64-samples",
        },
        about: "other exporters over the abstractions: a heap of reserved memory, single pages",
        boot: Boot {
            append: "reserve_mem=8M:2M:dmabuf_carveout",
            ..Boot::new(
                arch,
                format!(
                    "insmod $DMABUF_COHERENCY_KO && \
                     modprobe -a dmabuf_importer dmabuf_carveout dmabuf_page && \
                     exec /{SELFTEST} {SAMPLES}"
                ),
            )
        },
        may_skip: vec![],
    }
}

/// A guest only for calls that fail on demand. The guest for all tests runs them as well. This one
/// shows with coverage which of the module's code they reach.
fn faults(arch: Arch) -> Suite {
    Suite {
        name: match arch {
            Arch::X86_64 => "x86_64-faults",
            Arch::Arm64 => "arm64-faults",
        },
        about: "calls that fail on demand, and nothing else",
        boot: boot(arch, VIVID_MAPS, &format!("{FAULTS} links.c_driver")),
        may_skip: vec!["fail_nth.load"],
    }
}

fn loaded_at_last((name, arch, skip): (&'static str, Arch, usize)) -> Suite {
    Suite {
        name,
        about: "loading the module fails at each place that may fail",
        boot: Boot::new(
            arch,
            format!("exec /{SELFTEST} --skip-faults {skip} fail_nth.load"),
        ),
        may_skip: vec![],
    }
}

/// A guest whose PCI devices are behind an IOMMU. The script checks that they are.
fn behind(iommu: Iommu, boot: Boot) -> Boot {
    Boot {
        iommu: Some(iommu),
        script: format!(
            "grep -q DMA /sys/bus/pci/drivers/virtio-pci/*/iommu_group/type && {}",
            boot.script
        ),
        ..boot
    }
}

/// Test displays. Two have a DMA device that is not the device with the node, and one of
/// these snoops. Others take memory in one piece, snooping or not. Some reach 32 bits only.
const DISPLAYS: &str = "modprobe dmabuf_display \
    helpers=shmem,shmem,dma,dma-vmap,shmem,dma own_dma_device=1,1,0,1,0,0 \
    snoops=1,0,-1,0,-1,-1 dma_snoops=0,1,0,0,1,1 dma_bits=64,64,64,32,32,32";

/// A guest with these displays, and with contiguous memory for frames of 3840x2160.
fn displays(arch: Arch) -> Boot {
    let boot = boot(arch, VIVID_MAPS, "links.agree links.shape import.");
    Boot {
        mem: 1 << 10,
        cma: Some("256M"),
        script: format!("{DISPLAYS} && {}", boot.script),
        ..boot
    }
}

/// The same with memory beyond 32 bits. The contiguous area is below that.
fn displays_5g(arch: Arch) -> Boot {
    Boot {
        mem: 5 << 10,
        cma: Some("256M@0-4G"),
        ..displays(arch)
    }
}

/// A guest with areas for devices, and a display that owns one of them. `check` is a command
/// that checks the display's directory in sysfs, `$D`.
fn reserved_areas(check: &str, boot: Boot) -> Boot {
    Boot {
        reserved_areas: true,
        script: format!(
            "D=/sys/devices/platform/display; {check} && \
             [ -c /dev/dma_heap/camera-area -a -c /dev/dma_heap/display-area ] && {}",
            boot.script
        ),
        ..boot
    }
}

/// Checks that the module reports the name that is taken, and did not take over that heap.
const NAME_TAKEN: &str = "dmesg | grep -q 'dmabuf_coherency: .*system-coherent' && \
    [ ! -e /sys/class/dma_heap/system-coherent/dma_coherent ]";

/// Checks that the module reports the area without free pages, and made no heaps of it.
const AREA_TAKEN: &str = "dmesg | grep -q 'there are no heaps of contiguous area default_cma_region' && \
    [ -e /dev/dma_heap/default_cma_region -a ! -e /dev/dma_heap/default_cma_region-coherent ]";

/// Checks that `--contiguous` fails and says how to reserve contiguous memory.
const TOLD_TO_RESERVE: &str = "! /dmaheap pick --contiguous vivid 2>/run/told && \
    grep -q 'eserve contiguous memory that .* (cma= on' /run/told";

/// The module's parameters.
const PARAMETERS: &str = "/sys/module/dmabuf_coherency/parameters";

/// The module's link rules, and the order of vivid's links.
const LINKS: &str = "/sys/module/dmabuf_coherency/parameters/links";
const VIVID_ORDER: &str = "/sys/class/video4linux/video0/device/dma_heaps/order";

/// Which control group a heap charges.
const ACCOUNTING: &str = "/sys/class/dma_heap/system-coherent/accounting";

const MAINTAINED_HEAP: &str = "--heap system-noncoherent";
const MAINTAINED: &str = "--heap system-noncoherent alloc. query. limits. pool. mmap. sync. fence. import. importer. parallel. map. video. race.";
const UNCACHED: &str = "--heap system-uncached alloc. query. limits. pool. mmap. sync. fence. import. importer. parallel. map. video. race.";
const UNCACHED_CONTIGUOUS: &str = "--heap default_cma_region-uncached alloc. query. limits. mmap. sync. fence. import. importer. parallel. map. video. memory.killed";
const LACKING: &str = "--heap system-noncoherent alloc. query. limits.counted pool.reused \
    pool.bounded pool.idle links.shape links.agree";

/// Tests that need memory above 4 GiB.
const ABOVE_4G: &str = "--rounds 10 importer.mask_changed importer.narrow_block matrix.narrow \
    pool.low links.agree";

/// Tests in which it matters which memory a device reaches.
const BEYOND: &str = "--rounds 10 import. importer. matrix. brackets. parallel. answer. pool.low \
    links.shape links.agree";

/// Tests in which bounce buffers matter.
const BOUNCED: &str = "--rounds 10 --heap system-noncoherent brackets. fence. import. importer. \
    links.agree links.shape matrix. parallel. sync. video.";

/// Makes all DMA bounce, with 48 MiB for bounce buffers. The size is not the default one, as arm64
/// treats that as if no size were given.
const BOUNCE: &str = "swiotlb=24576,force";

/// The same with 192 MiB, enough for frames of 3840x2160.
const BOUNCE_FRAMES: &str = "swiotlb=98304,force";

/// Tests of the whole suite that are skipped on a maintained heap if everything bounces.
const ALL_BOUNCES: &[&str] = &[
    "pool.low",
    "import.refused",
    "import.cpu_only",
    "importer.mask_changed",
    "importer.narrow_block",
    "importer.uncached",
    "importer.segments",
    "importer.boundary",
    "importer.data",
    "importer.foreign",
    "matrix.snooping",
    "matrix.not_snooping",
    "matrix.narrow",
    "matrix.maintenance",
    "brackets.one_of_two",
    "parallel.own_pages",
    "parallel.snooping_writer",
    "answer.",
    "pool.off",
    "map.attributes",
    "video.stream",
    "video.one_block",
    "video.forced_bounce",
    "links.early_rules",
    "links.dma_device",
    "links.c_driver",
    "fail_nth.load",
    SAMPLES,
];

/// Tests in which it matters that the CPU does the work of a device.
const CPU_ONLY: &str = "import. video. links.shape links.agree";

/// Tests in which it matters that no device snoops.
const NO_DEVICE_SNOOPS: &str = "import. answer. race. matrix. links.agree links.shape";

/// Tests that are skipped on a heap that refuses no device, or if nothing bounces.
const ANY_HEAP: &[&str] = &[
    "pool.low",
    "import.refused",
    "import.cpu_only",
    "pool.off",
    "importer.",
    "map.",
    "video.forced_bounce",
    "fence.before_maintenance",
];

/// Swap, so that memory under pressure goes somewhere.
const SWAP: &str = "modprobe zram && echo 256M >/sys/block/zram0/disksize && \
                    mkswap /dev/zram0 >/dev/null && swapon /dev/zram0";

/// A guest in which CPUs meet, for random sequences. It also has a converter of video, which a
/// frame does not take long.
pub fn crowded(arch: Arch, arguments: &str) -> Boot {
    let boot = boot(arch, VIVID_MAPS, &format!("stress {arguments}"));
    Boot {
        smp: 4,
        mem: 1 << 10,
        script: format!(
            "{SWAP} && modprobe vim2m default_transtime=1 && {}",
            boot.script
        ),
        ..boot
    }
}

/// A guest for some random sequences, the same in each run. `make stress` runs others.
fn stress(arch: Arch, debug: bool) -> Boot {
    let rounds = if debug { 3 } else { 40 };
    crowded(arch, &format!("--seed 1 --rounds {rounds}"))
}

/// Tests that are skipped if all devices snoop and nothing bounces.
const ALL_COHERENT: &[&str] = &[
    "import.refused",
    "import.cpu_only",
    "importer.mask_changed",
    "importer.narrow_block",
    "matrix.bouncing",
    "matrix.narrow",
    "matrix.maintenance",
    "answer.logged",
];

/// Tests of the whole suite that are skipped behind an IOMMU.
fn behind_iommu() -> Vec<&'static str> {
    [ALL_COHERENT, WHOLE_X86_64, &["video.", "pool.off"]].concat()
}

/// Tests that are skipped if a strict heap refuses every device: none snoops, or all bounce.
const REFUSED: &[&str] = &[
    "import.accepted",
    "import.cpu_only",
    "import.twice",
    "import.together",
    "import.outlives_fd",
    "matrix.bouncing",
    "matrix.narrow",
];

/// Further tests of the whole suite that are skipped on x86_64 and behind an IOMMU.
const WHOLE_X86_64: &[&str] = &[
    "pool.low",
    "links.early_rules",
    "brackets.",
    "video.forced_bounce",
    "fence.before_maintenance",
    "fail_nth.load",
    SAMPLES,
];

/// Tests that are skipped if the module keeps no memory.
const NO_POOL: &[&str] = &[
    "pool.reused",
    "pool.midway",
    "pool.bounded",
    "pool.low",
    "pool.counted",
    "pool.dropped",
    "pool.pressure",
    "pool.idle",
    "pool.own_group",
    "pool.group_",
    "pool.short_group",
    "power.",
];

fn suites(debug: bool) -> Vec<Suite> {
    use Arch::{Arm64, X86_64};
    vec![
        Suite {
            name: "x86_64-whole",
            about: "the whole suite; all devices snoop",
            boot: whole(X86_64, debug, ""),
            may_skip: [ALL_COHERENT, WHOLE_X86_64, &["pool.off"]].concat(),
        },
        Suite {
            name: "arm64-whole",
            about: "the whole suite; only PCI devices snoop",
            boot: whole(Arm64, debug, ""),
            may_skip: vec![
                "import.cpu_only",
                "pool.off",
                "pool.low",
                "importer.mask_changed",
                "importer.narrow_block",
                "matrix.bouncing",
                "matrix.narrow",
                "brackets.",
                "video.",
                "fence.before_maintenance",
                "fail_nth.load",
                SAMPLES,
            ],
        },
        Suite {
            name: "x86_64-stress",
            about: "random sequences, by four processes on four CPUs",
            boot: stress(X86_64, debug),
            may_skip: vec![],
        },
        Suite {
            name: "arm64-stress",
            about: "random sequences, by four processes on four CPUs",
            boot: stress(Arm64, debug),
            may_skip: vec![],
        },
        Suite {
            name: "x86_64-vmap",
            about: "imports and video, vivid using the CPU",
            boot: boot(X86_64, "", CPU_ONLY),
            may_skip: vec!["import.refused", "video.forced_bounce"],
        },
        Suite {
            name: "arm64-vmap",
            about: "imports and video, vivid using the CPU",
            boot: boot(Arm64, "", CPU_ONLY),
            may_skip: vec!["video.forced_bounce"],
        },
        Suite {
            name: "x86_64-above-4g",
            about: "tests that need memory above 4 GiB",
            boot: Boot {
                mem: 5 << 10,
                append: "cma=64M@0-4G",
                ..boot(X86_64, VIVID_MAPS, ABOVE_4G)
            },
            may_skip: vec!["matrix.narrow_no_bounce", "matrix.narrower_than_bounce"],
        },
        Suite {
            name: "x86_64-5g",
            about: "imports, where some devices do not reach all memory",
            boot: Boot {
                mem: 5 << 10,
                append: "cma=64M@0-4G",
                ..boot(X86_64, VIVID_MAPS, BEYOND)
            },
            may_skip: vec![
                "import.cpu_only",
                "matrix.bouncing",
                "matrix.maintenance",
                "matrix.narrow_no_bounce",
                "matrix.narrower_than_bounce",
                "brackets.no_room",
            ],
        },
        Suite {
            name: "x86_64-no-bounce",
            about: "imports; some devices do not reach all memory, and nothing bounces",
            boot: Boot {
                mem: 5 << 10,
                append: "swiotlb=noforce",
                ..boot(X86_64, "", "matrix.narrow_no_bounce importer.snooping")
            },
            may_skip: vec![],
        },
        Suite {
            name: "arm64-5g",
            about: "imports, where some devices do not reach all memory",
            boot: Boot {
                mem: 5 << 10,
                ..boot(Arm64, VIVID_MAPS, BEYOND)
            },
            may_skip: vec![
                "import.cpu_only",
                "import.twice",
                "import.together",
                "import.outlives_fd",
                "matrix.bouncing",
                "matrix.narrow_no_bounce",
                "matrix.narrower_than_bounce",
                "brackets.no_room",
            ],
        },
        Suite {
            name: "arm64-noncoherent",
            about: "imports and races; no device snoops",
            boot: Boot {
                pci_noncoherent: true,
                ..boot(Arm64, VIVID_MAPS, NO_DEVICE_SNOOPS)
            },
            may_skip: REFUSED.to_vec(),
        },
        Suite {
            name: "x86_64-parameters",
            about: "all DMA bounces, and heaps charge control groups",
            boot: Boot {
                append: "swiotlb=force dma_heap.mem_accounting=1",
                ..boot(
                    X86_64,
                    VIVID_MAPS,
                    "alloc. video.forced_bounce limits.accounted links.early_rules",
                )
            },
            may_skip: vec![],
        },
        Suite {
            name: "x86_64-maintained",
            about: "a maintained heap, which takes all devices",
            boot: boot(X86_64, VIVID_MAPS, MAINTAINED),
            may_skip: ANY_HEAP.to_vec(),
        },
        Suite {
            name: "arm64-maintained",
            about: "a maintained heap, which takes all devices",
            boot: boot(Arm64, VIVID_MAPS, MAINTAINED),
            may_skip: ANY_HEAP.to_vec(),
        },
        Suite {
            name: "x86_64-uncached",
            about: "an uncached heap, which takes all devices",
            boot: boot(X86_64, VIVID_MAPS, UNCACHED),
            may_skip: ANY_HEAP.to_vec(),
        },
        Suite {
            name: "arm64-uncached",
            about: "an uncached heap of contiguous memory, which takes all devices",
            boot: boot(Arm64, VIVID_MAPS, UNCACHED_CONTIGUOUS),
            may_skip: ANY_HEAP.to_vec(),
        },
        Suite {
            name: "x86_64-bounce",
            about: "tests of devices; bounce buffers make a missing bracket visible",
            boot: Boot {
                append: BOUNCE,
                ..boot(X86_64, VIVID_MAPS, BOUNCED)
            },
            may_skip: ALL_BOUNCES.to_vec(),
        },
        Suite {
            name: "arm64-bounce",
            about: "the whole suite; bounce buffers make a missing bracket visible",
            boot: Boot {
                append: BOUNCE,
                ..whole(Arm64, debug, MAINTAINED_HEAP)
            },
            may_skip: ALL_BOUNCES.to_vec(),
        },
        Suite {
            name: "x86_64-intel-iommu",
            about: "the whole suite; devices are behind an Intel IOMMU",
            boot: behind(Iommu::Intel, whole(X86_64, debug, "")),
            may_skip: behind_iommu(),
        },
        Suite {
            name: "x86_64-virtio-iommu",
            about: "the whole suite, where devices are behind a virtio IOMMU",
            boot: behind(Iommu::Virtio, whole(X86_64, debug, "")),
            may_skip: behind_iommu(),
        },
        Suite {
            name: "arm64-smmuv3",
            about: "the whole suite; devices are behind an SMMU",
            boot: behind(Iommu::Smmuv3, whole(Arm64, debug, "")),
            may_skip: behind_iommu(),
        },
        Suite {
            name: "arm64-smmuv3-noncoherent",
            about: "imports and races; devices are behind an SMMU and do not snoop",
            boot: Boot {
                pci_noncoherent: true,
                ..behind(Iommu::Smmuv3, boot(Arm64, VIVID_MAPS, NO_DEVICE_SNOOPS))
            },
            may_skip: REFUSED.to_vec(),
        },
        Suite {
            name: "arm64-virtio-iommu",
            about: "the whole suite, where devices are behind a virtio IOMMU",
            boot: behind(Iommu::Virtio, whole(Arm64, debug, "")),
            may_skip: behind_iommu(),
        },
        Suite {
            name: "x86_64-displays",
            about: "imports by displays of all kinds",
            boot: displays(X86_64),
            may_skip: vec!["import.cpu_only"],
        },
        Suite {
            name: "arm64-displays",
            about: "imports by displays of all kinds",
            boot: displays(Arm64),
            may_skip: vec!["import.cpu_only"],
        },
        Suite {
            name: "x86_64-displays-5g",
            about: "imports by displays, where some do not reach all memory",
            boot: displays_5g(X86_64),
            may_skip: vec!["import.cpu_only"],
        },
        Suite {
            name: "arm64-displays-5g",
            about: "imports by displays, where some do not reach all memory",
            boot: displays_5g(Arm64),
            may_skip: vec!["import.cpu_only"],
        },
        Suite {
            name: "arm64-displays-areas",
            about: "imports by displays; some contiguous areas are for devices",
            boot: reserved_areas("[ ! -e $D/iommu_group ]", displays_5g(Arm64)),
            may_skip: vec!["import.cpu_only"],
        },
        Suite {
            name: "arm64-displays-smmuv3",
            about: "imports by displays, one of them behind an SMMU",
            boot: reserved_areas(
                "grep -q DMA $D/iommu_group/type",
                behind(Iommu::Smmuv3, displays(Arm64)),
            ),
            may_skip: vec!["import.cpu_only"],
        },
        Suite {
            name: "x86_64-displays-bounce",
            about: "imports by displays, where everything bounces",
            boot: Boot {
                append: BOUNCE_FRAMES,
                ..displays(X86_64)
            },
            may_skip: REFUSED.to_vec(),
        },
        Suite {
            name: "arm64-displays-bounce",
            about: "imports by displays, where everything bounces",
            boot: Boot {
                append: BOUNCE_FRAMES,
                ..displays(Arm64)
            },
            may_skip: REFUSED.to_vec(),
        },
        Suite {
            name: "x86_64-subsystems",
            about: "links, where drm, videodev and usbcore come and go",
            boot: bare(X86_64),
            may_skip: vec![],
        },
        Suite {
            name: "arm64-subsystems",
            about: "links, where drm, videodev and usbcore come and go",
            boot: bare(Arm64),
            may_skip: vec![],
        },
        Suite {
            name: "x86_64-off",
            about: "parameters: the module charges no group, and a link names a heap that is not there",
            boot: Boot::new(
                X86_64,
                format!(
                    "insmod $DMABUF_COHERENCY_KO accounting=0 pool_percent=0 links=vgem=nonesuch && [ -z \"$(cat {LINKS})\" ] && [ $(cat {PARAMETERS}/accounting) = N ] && exec /{SELFTEST} --heap default_cma_region-coherent --uncharged --unpooled alloc. limits. module.parameters"
                ),
            ),
            may_skip: vec![],
        },
        Suite {
            name: "x86_64-told-links",
            about: "link rules as parameters of the module, wrong and right",
            boot: Boot::new(
                X86_64,
                format!(
                    "PARAMETERS='links=vivid=default_cma_region'; ! insmod $DMABUF_COHERENCY_KO links=vivid && {LOAD} {VIVID_MAPS} && [ \"$(cat {VIVID_ORDER})\" = default_cma_region ] && exec /{SELFTEST} links.shape links.nodes_only"
                ),
            ),
            may_skip: vec![],
        },
        Suite {
            name: "x86_64-lacking",
            about: "a kernel without contiguous memory and without memory cgroups",
            boot: Boot {
                append: "cma=0 cgroup_disable=memory",
                script: format!(
                    "{LOAD} {VIVID_MAPS} && ! ls /dev/dma_heap/*_cma_* && {TOLD_TO_RESERVE} && [ \"$(cat {ACCOUNTING})\" = none ] && exec /{SELFTEST} {LACKING}"
                ),
                ..Boot::new(X86_64, "")
            },
            may_skip: vec![],
        },
        Suite {
            name: "x86_64-unpooled",
            about: "the whole suite; a parameter tells the module to keep no memory",
            boot: told("pool_percent=0", whole(X86_64, debug, "--unpooled")),
            may_skip: [ALL_COHERENT, WHOLE_X86_64, NO_POOL].concat(),
        },
        Suite {
            name: "arm64-uncharged",
            about: "uncached memory in the pool; a parameter tells the module to charge no group",
            boot: told(
                "accounting=0",
                boot(
                    Arm64,
                    VIVID_MAPS,
                    "--heap system-uncached --uncharged alloc. limits. pool. mmap.memory_type",
                ),
            ),
            may_skip: vec![
                "pool.own_group",
                "pool.group_",
                "pool.short_group",
                "pool.off",
                "pool.low",
            ],
        },
        Suite {
            name: "x86_64-dmaheap",
            about: "the command dmaheap; all devices snoop",
            boot: Boot::new(X86_64, "exec sh /guest.sh"),
            may_skip: vec![ACCELERATOR],
        },
        Suite {
            name: "arm64-dmaheap",
            about: "the command dmaheap; only PCI devices snoop",
            boot: Boot::new(Arm64, "exec sh /guest.sh"),
            may_skip: vec![ACCELERATOR],
        },
        samples(X86_64),
        samples(Arm64),
        name_taken(X86_64),
        name_taken(Arm64),
        area_taken(X86_64),
        area_taken(Arm64),
    ]
}

/// Runs the test program in a guest that may lack anything. Each test that is skipped
/// says what it lacks.
pub fn run_anywhere(boot: Boot, kits: &Kits) -> Result<Vec<Case>> {
    let suite = Suite {
        name: "",
        about: "",
        boot,
        may_skip: vec![""],
    };
    suite.run(kits)
}

impl Suite {
    fn into_group(self) -> Group {
        Group::new(self.name, self.about, move |kits| self.run(kits))
    }

    fn run(&self, kits: &Kits) -> Result<Vec<Case>> {
        let outcome = self.boot.run(kits)?;
        let kit = kits.get(self.boot.arch)?;
        let output = Output::parse(&text(&outcome.stdout));
        let mut problem = output.problem();
        let failed = output
            .cases
            .iter()
            .any(|case| case.verdict == Verdict::Failed);
        if problem.is_none() && !failed && outcome.status != Some(0) {
            problem = Some(format!("expected exit status 0, got {:?}", outcome.status));
        }
        let mut cases: Vec<Case> = output
            .cases
            .into_iter()
            .map(|case| self.judge(case, kit))
            .collect();
        let problem = match problem {
            Some(problem) => Some(format!("{problem}\n{}", text(&outcome.stderr))),
            None if cases.iter().any(|case| case.verdict == Verdict::Failed) => {
                Some("see above".into())
            }
            None => None,
        };
        let problem = match problem {
            Some(problem) => Some(format!("{problem}\n{}", self.boot.repeat(kits)?)),
            None => None,
        };
        cases.push(Case::judged("complete", problem));
        cases.push(self.boot.health(kits, &outcome)?);
        Ok(cases)
    }

    fn judge(&self, case: Case, kit: &Kit) -> Case {
        let mut may_skip = self.may_skip.clone();
        may_skip.extend(if kit.debug { NOT_ON_DEBUG } else { &[FAULTS] });
        if kit.kernel.page_size > SMALL_PAGE {
            may_skip.push(NOT_ON_LARGE_PAGES);
        }
        may_skip.push(HIBERNATION);
        let expected = may_skip.iter().any(|start| case.name.starts_with(start));
        if case.verdict != Verdict::Skipped || expected {
            return case;
        }
        let text = format!(
            "expected it to run in this guest, but it was skipped: {}",
            case.text
        );
        Case::new(case.name, Verdict::Failed, text)
    }
}
