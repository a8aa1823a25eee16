// SPDX-License-Identifier: GPL-2.0

//! What the series consists of: which file goes where, in which patch, and what is left out. This is
//! all that the program knows of `rust/kernel` beforehand.

/// The option that all of the series depends on that is not for modules in general.
pub const OPTION: &str = "CONFIG_RUST_DMA_BUF_ABSTRACTIONS";

/// The option for its KUnit tests.
pub const TEST_OPTION: &str = "CONFIG_RUST_DMA_BUF_KUNIT_TEST";

/// A file of ours.
pub struct File {
    /// Its module below `rust/kernel`.
    pub ours: &'static str,
    /// Its module in the kernel crate.
    pub theirs: &'static str,
    /// On what it depends there.
    pub cfg: &'static str,
}

/// Adds some lines to a file of the kernel.
pub struct Edit {
    pub file: &'static str,
    /// The line that they come before.
    pub before: &'static str,
    pub text: &'static str,
}

/// One patch. Its message is `messages/<name>.txt`.
pub struct Patch {
    pub name: &'static str,
    pub files: &'static [File],
    /// Headers that the bindings need.
    pub headers: &'static [&'static str],
    pub edits: &'static [Edit],
}

const fn file(ours: &'static str, theirs: &'static str, cfg: &'static str) -> File {
    File { ours, theirs, cfg }
}

const DMA: &str = "rust/kernel/dma.rs";

pub const PATCHES: &[Patch] = &[
    Patch {
        name: "module",
        files: &[file("module", "module::permanent", "")],
        headers: &[],
        edits: &[],
    },
    Patch {
        name: "signal",
        files: &[file("signal", "signal", "")],
        headers: &[],
        edits: &[],
    },
    Patch {
        name: "kconfig",
        files: &[],
        headers: &[],
        edits: &[
            Edit {
                file: "drivers/dma-buf/Kconfig",
                before: "menuconfig DMABUF_HEAPS",
                text: include_str!("../kconfig/option"),
            },
            Edit {
                file: "rust/kernel/Kconfig.test",
                before: "endif",
                text: include_str!("../kconfig/tests"),
            },
        ],
    },
    Patch {
        name: "page",
        files: &[
            file("mm::write_combining", "mm::write_combining", OPTION),
            file("mm::page", "mm::page", OPTION),
        ],
        headers: &["linux/cma.h"],
        edits: &[],
    },
    Patch {
        name: "vmalloc",
        files: &[file("mm::vmalloc", "mm::vmalloc", OPTION)],
        headers: &["linux/vmalloc.h"],
        edits: &[],
    },
    Patch {
        name: "mm",
        files: &[file("mm", "mm::buffer", OPTION)],
        headers: &["linux/pgtable.h"],
        edits: &[],
    },
    Patch {
        name: "dma",
        files: &[file("dma_mapping", "dma::dma_device", OPTION)],
        headers: &[],
        edits: &[
            Edit {
                file: DMA,
                before: "    /// Get the raw representation of this attribute.",
                text: "    /// No attribute.\n    pub const NONE: Self = Self(0);\n\n",
            },
            Edit {
                file: DMA,
                before: "    /// Indicates that the buffer is MMIO memory.",
                text: "    /// Fails a mapping that would need maintenance of the CPU caches, or bounce buffers.\n    \
                    pub const DMA_ATTR_REQUIRE_COHERENT: Attrs = Attrs(bindings::DMA_ATTR_REQUIRE_COHERENT);\n\n",
            },
        ],
    },
    Patch {
        name: "cma",
        files: &[file("mm::cma", "mm::cma", OPTION)],
        headers: &[],
        edits: &[],
    },
    Patch {
        name: "scatterlist",
        files: &[file("scatterlist", "scatterlist::pages", OPTION)],
        headers: &[],
        edits: &[],
    },
    Patch {
        name: "dma_buf",
        files: &[
            file("dma_buf", "dma_buf", OPTION),
            file("dma_buf::maintained", "dma_buf::maintained", ""),
        ],
        headers: &["linux/dma-buf.h"],
        edits: &[],
    },
    Patch {
        name: "dma_heap",
        files: &[file("dma_heap", "dma_heap", "CONFIG_DMABUF_HEAPS")],
        headers: &["linux/dma-heap.h"],
        edits: &[],
    },
];

/// What is left out of the files of the series, and why. An `impl` goes with the type or the trait
/// that it is for.
pub const LEFT_OUT: &[(&str, &[&str])] = &[
    (
        "The kernel crate has it.",
        &[
            "compat",
            "device::DeviceExt",
            "dma_mapping::Attrs",
            "dma_mapping::attrs",
        ],
    ),
    (
        "It finds out from outside what the kernel knows inside.",
        &[
            "device",
            "device::bus",
            "device::class",
            "device::node",
            "device::per_device",
            "devres",
            "dma_heap::device",
            "module::others",
            "sysfs",
        ],
    ),
    (
        "It does by a device of its own what no symbol does that modules may use.",
        &["mm::cache", "syscore"],
    ),
    (
        "A pool of memory needs it, and no exporter.",
        &[
            "kthread",
            "mm::memcg",
            "mm::shrinker",
            "mm::page::PerKind",
            "mm::page::Stack",
            "mm::page::PageBlock::is_at_hand",
            "mm::page::PageBlock::kind",
            "mm::page::PageBlock::memcg",
            "mm::page::PageBlock::set_reclaimable",
            "mm::page::available",
            "mm::page::total",
            "mm::page::Kind::is_within",
        ],
    ),
    (
        "It asks where memory lies, which is to choose a heap.",
        &[
            "mm::page::Extent",
            "mm::cma::Cma::extent",
            "dma_mapping::DmaDevice::address_bits",
            "dma_mapping::DmaDevice::has_iommu",
        ],
    ),
    (
        "Neither dma-bufs nor heaps stand on it.",
        &["dmem", "mm::reserve_mem"],
    ),
];

/// What stands in the place of another thing only outside of the kernel: a call, and what it is there.
pub const CALLS: &[(&str, &str)] = &[
    (
        "compat::this_module()",
        "crate::module::this_module::<T::OwnerModule>().as_ptr()",
    ),
    ("eopnotsupp()", "EOPNOTSUPP"),
    ("smp_mb()", "smp_mb(Full)"),
];

/// The same for imports; nothing where none is needed.
pub const IMPORTS: &[(&str, &[&str])] = &[
    ("crate::kernel::compat", &[]),
    ("crate::kernel::compat::eopnotsupp", &[]),
    (
        "crate::kernel::compat::smp_mb",
        &["crate::sync::barrier::smp_mb", "crate::sync::barrier::Full"],
    ),
    ("crate::kernel::device::DeviceExt", &[]),
    ("crate::kernel::dma_mapping::Attrs", &["crate::dma::Attrs"]),
    ("crate::kernel::dma_mapping::attrs", &["crate::dma::attrs"]),
];

/// The file of helpers that one of ours becomes there, and the option that it depends on.
pub const HELPERS: &[(&str, &str, &str)] = &[
    ("cma", "cma", OPTION),
    ("dma_buf", "dma_buf", OPTION),
    ("dma_mapping", "dma", OPTION),
    ("kmemleak", "kmemleak", ""),
    ("module", "module", ""),
    ("mm", "mm", OPTION),
    ("page", "page", OPTION),
    ("scatterlist", "scatterlist", OPTION),
    ("signal", "signal", ""),
    ("vmalloc", "vmalloc", OPTION),
];

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../Documentation/upstream.rst");

    /// Whether a text has this as a whole word.
    fn names(text: &str, name: &str) -> bool {
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == name)
    }

    #[test]
    fn the_page_says_what_is_left_out_and_why() {
        let (_, page) = PAGE.split_once("What is left out").unwrap();
        let (page, _) = page.split_once("What the program does").unwrap();
        for (reason, paths) in LEFT_OUT {
            let (_, rest) = page
                .split_once(&format!("\n{}\n", reason.trim_end_matches('.')))
                .expect(reason);
            let section = rest.split("\n\n").next().unwrap();
            for path in *paths {
                let name = path.rsplit("::").next().unwrap();
                assert!(names(section, name), "{path} is not among: {section}");
            }
        }
    }

    #[test]
    fn each_file_of_ours_is_taken_or_left_out() {
        let files = crate::rust::files().map(|file| file.ours);
        let out = LEFT_OUT.iter().flat_map(|(_, paths)| paths.iter().copied());
        let known: Vec<&str> = files.chain(out).collect();
        let mut todo = vec![(vm::checkout().join("rust/kernel"), String::new())];
        while let Some((directory, start)) = todo.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = format!("{start}{}", path.file_stem().unwrap().to_string_lossy());
                if path.is_dir() {
                    todo.push((path, format!("{name}::")));
                } else {
                    assert!(
                        known.contains(&name.as_str()),
                        "series.rs does not say what becomes of {name}"
                    );
                }
            }
        }
    }
}
