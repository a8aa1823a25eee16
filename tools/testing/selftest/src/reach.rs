// SPDX-License-Identifier: GPL-2.0

//! How the DMA of a device reaches memory, as known without asking a heap. And the
//! design: the answer of each heap to each kind of device.

use crate::device::{Device, Snooping, last_ram_address};
use crate::expect::skip;
use crate::heap::Buffer;
use crate::options::Options;
use crate::test_importer::{self, Direction, Importer, Kind, Setup};
use crate::trace::{MAP, Recording};
use anyhow::{Context as _, Result};
use std::fs;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// The DMA sees the CPU caches.
    Snooping,
    /// The DMA does not see the CPU caches.
    NotSnooping,
    /// The DMA uses a bounce buffer, at least for some memory.
    Bouncing,
}

/// A heap's answer to a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    Refused,
    /// The device is taken, and data is right without any bracket.
    Plain,
    /// The device is taken, and CPU access has to be bracketed.
    Bracketed,
}

/// The CPU copies between bounce buffers and memory through its caches. On arm64 uncached
/// memory must not be in the caches.
const UNCACHED_BOUNCING: Answer = if cfg!(target_arch = "x86_64") {
    Answer::Bracketed
} else {
    Answer::Refused
};

/// Whether a device that snoops reads uncached memory correctly. If the kernel also has a
/// cacheable mapping of it, the caches may have old data.
pub const SNOOPED_UNCACHED_IS_RIGHT: bool = cfg!(target_arch = "x86_64");

const UNCACHED_SNOOPED: Answer = if SNOOPED_UNCACHED_IS_RIGHT {
    Answer::Plain
} else {
    Answer::Refused
};

/// For each mode of a heap, by its suffix, the answers to devices that snoop,
/// that do not snoop, and that bounce. Heaps that are not the module's come last.
const DESIGN: [(&str, [Answer; 3]); 4] = {
    use Answer::{Bracketed, Plain, Refused};
    [
        ("-coherent", [Plain, Refused, Refused]),
        ("-noncoherent", [Plain, Bracketed, Bracketed]),
        ("-uncached", [UNCACHED_SNOOPED, Plain, UNCACHED_BOUNCING]),
        ("", [Plain, Bracketed, Bracketed]),
    ]
};

/// The answer that the heap of this name must give to a device.
pub fn answer(heap: &str, reach: Reach) -> Answer {
    let mode = DESIGN.iter().find(|(suffix, _)| heap.ends_with(suffix));
    let (_, answers) = mode.unwrap_or(&DESIGN[3]);
    match reach {
        Reach::Snooping => answers[0],
        Reach::NotSnooping => answers[1],
        Reach::Bouncing => answers[2],
    }
}

/// Whether the heap can allocate at all. On arm64 the module cleans the caches of uncached
/// memory by mapping it for a device, and that mapping must not bounce.
pub fn allocates(heap: &str) -> Result<bool> {
    let cleans = cfg!(target_arch = "aarch64") && heap.ends_with("-uncached");
    Ok(!(cleans && bouncing_is_forced()?))
}

/// Whether the kernel's command line makes all DMA bounce.
pub fn bouncing_is_forced() -> Result<bool> {
    let line = fs::read_to_string("/proc/cmdline")?;
    let values = line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("swiotlb="));
    Ok(values
        .flat_map(|value| value.split(','))
        .any(|part| part == "force"))
}

/// The largest piece that the kernel's bounce buffers take.
const BOUNCED_AT_ONCE: usize = 256 << 10;

/// How many segments a block of `len` bytes has for a device without limits.
pub fn segments(len: usize) -> Result<usize> {
    Ok(if bouncing_is_forced()? {
        len.div_ceil(BOUNCED_AT_ONCE)
    } else {
        1
    })
}

/// Whether some memory needs more address bits than `bits`.
pub fn memory_is_beyond(bits: u32) -> Result<bool> {
    Ok(last_ram_address()?.checked_shr(bits).unwrap_or(0) > 0)
}

/// A device that bounces. Skips the test if every device reaches all memory.
pub fn bouncing() -> Result<Setup> {
    match (bouncing_is_forced()?, memory_is_beyond(32)?) {
        (true, _) => Ok(Setup::SNOOPING),
        (false, true) => Ok(Setup::with_mask(32)),
        _ => skip(
            "no device bounces here: try a guest with --append swiotlb=force, or with --mem 5G",
        ),
    }
}

/// How a device reaches memory in general, if it does DMA.
pub fn reach(setup: &Setup) -> Result<Reach> {
    reach_bits(setup, 64 - last_ram_address()?.leading_zeros())
}

/// How a device reaches the memory of a buffer.
pub fn reach_buffer(setup: &Setup, heap: &str, buffer: &Buffer) -> Result<Reach> {
    match setup.mask_bits {
        Some(bits) if memory_is_beyond(bits)? => reach_bits(setup, bits_of(heap, buffer)?),
        _ => reach(setup),
    }
}

/// How many address bits the memory of a buffer needs. A trace event shows the addresses when the
/// buffer is mapped for a device that reaches all memory. If everything bounces, that is not needed.
pub fn bits_of(heap: &str, buffer: &Buffer) -> Result<u32> {
    if bouncing_is_forced()? {
        return Ok(64);
    }
    let importer = Importer::open()?;
    let name = importer.setup(&accepted_by(heap))?;
    let recording = Recording::start(&[MAP])?;
    let attachment = importer.attach(buffer, Kind::Static)?;
    importer.map(attachment, Direction::ToDevice)?;
    let mapped = recording.mapped(&name)?;
    let (starts, sizes) = (mapped.numbers("phys_addrs"), mapped.numbers("sizes"));
    let last = starts
        .iter()
        .zip(&sizes)
        .map(|(start, size)| start + size - 1);
    let last = last
        .max()
        .context("expected addresses in the trace event, got none")?;
    Ok(64 - last.leading_zeros())
}

/// A device that this heap accepts, and that reaches all memory.
pub fn accepted_by(heap: &str) -> Setup {
    match answer(heap, Reach::Snooping) {
        Answer::Refused => Setup::NOT_SNOOPING,
        _ => Setup::SNOOPING,
    }
}

fn reach_bits(setup: &Setup, needed: u32) -> Result<Reach> {
    let bits = setup.mask_bits.unwrap_or_default();
    if bouncing_is_forced()? || bits < needed {
        return Ok(Reach::Bouncing);
    }
    if setup.edu {
        return unless_bouncing(&Device::at(&test_importer::edu()?, "edu".into())?);
    }
    Ok(if setup.snoops {
        Reach::Snooping
    } else {
        Reach::NotSnooping
    })
}

/// How the device behind a node reaches memory in general. Skips the test if that is not known.
pub fn device_reach(device: &Device) -> Result<Reach> {
    let bits = device.mask_bits()?.unwrap_or(64);
    if bouncing_is_forced()? || !device.is_behind_iommu() && memory_is_beyond(bits)? {
        return Ok(Reach::Bouncing);
    }
    unless_bouncing(device)
}

fn unless_bouncing(device: &Device) -> Result<Reach> {
    match device.snooping() {
        Snooping::Yes(_) => Ok(Reach::Snooping),
        Snooping::No(_) => Ok(Reach::NotSnooping),
        Snooping::Unknown(reason) => skip(reason),
    }
}

/// A device that the heap under test must accept and map for.
pub fn suitable(options: &Options) -> Result<Importer> {
    let importer = Importer::new(&accepted_by(&options.heap))?;
    match (
        bouncing_is_forced()?,
        options.heap_is_strict(),
        options.heap_is_ours(),
    ) {
        (true, true, _) => skip("every device bounces here, so this heap refuses them all"),
        (true, _, false) => skip(
            "every device bounces here, and this heap's blocks are too large for bounce buffers",
        ),
        _ => Ok(importer),
    }
}
