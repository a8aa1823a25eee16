// SPDX-License-Identifier: GPL-2.0

//! Which heaps suit a device, according to what the module publishes of both, and to the
//! design.

use crate::device::{base_name, last_ram_address};
use crate::heap::Heap;
use crate::reach::{SNOOPED_UNCACHED_IS_RIGHT, bits_of, bouncing_is_forced};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::Path;

/// In how many pieces the device takes a buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pieces {
    One,
    Any,
    Unknown,
}

/// What the module publishes of a device, beside its links.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constraints {
    pub snoops: bool,
    /// How many address bits it reaches; 0 if it has no DMA mask.
    pub address_bits: u32,
    pub iommu: bool,
    pub pieces: Pieces,
}

impl Constraints {
    /// The constraints for a driver that lets the CPU do all the work.
    pub const CPU_ONLY: Self = Self {
        snoops: true,
        address_bits: 64,
        iommu: false,
        pieces: Pieces::Any,
    };

    /// Reads the constraints of the device with this directory. Each file has one line with one value.
    pub fn of(device: &Path) -> Result<Self> {
        let text = |name: &str| -> Result<String> {
            let path = device.join("dma_heaps").join(name);
            let text =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let value = text.strip_suffix('\n').map(str::to_owned);
            value.with_context(|| format!("{}: expected a line, got {text:?}", path.display()))
        };
        let flag = |name: &str| match text(name)?.as_str() {
            "0" => Ok(false),
            "1" => Ok(true),
            other => bail!("{}: {name} is {other:?}", device.display()),
        };
        let bits = text("address_bits")?;
        let address_bits: u32 = bits
            .parse()
            .with_context(|| format!("address_bits {bits}"))?;
        ensure!(
            address_bits <= 64 && bits == address_bits.to_string(),
            "{}: address_bits is {bits:?}",
            device.display()
        );
        Ok(Self {
            snoops: flag("snoops")?,
            address_bits,
            iommu: flag("iommu")?,
            pieces: match text("pieces")?.as_str() {
                "one" => Pieces::One,
                "any" => Pieces::Any,
                "unknown" => Pieces::Unknown,
                other => bail!("{}: pieces is {other:?}", device.display()),
            },
        })
    }
}

/// What a driver does with a buffer that it imports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Use {
    /// The CPU works on the buffer, and no device attaches.
    Cpu,
    /// The device attaches, and never maps.
    Attach,
    Map,
}

/// How a heap keeps its buffers coherent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Strict,
    Maintained,
    Uncached,
}

/// A heap that links point at without any rule.
#[derive(Debug)]
pub struct Known {
    pub name: String,
    mode: Mode,
    pub is_contiguous: bool,
    in_tree: bool,
    region: String,
    /// How many address bits its region needs.
    bits: u32,
}

const CLASS: &str = "/sys/class/dma_heap";

/// The suffix for each mode.
const MODES: [(&str, Mode); 3] = [
    ("-coherent", Mode::Strict),
    ("-noncoherent", Mode::Maintained),
    ("-uncached", Mode::Uncached),
];

/// An attribute of a heap. Only the module's heaps have attributes, not those of other drivers.
fn attribute(heap: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(CLASS).join(heap).join(name)).ok()?;
    Some(text.trim_end().to_owned())
}

fn bits(last: u64) -> u32 {
    64 - last.leading_zeros()
}

/// How many address bits a region needs. A buffer shows whether a contiguous area lies below or above
/// 4 GiB.
fn region_bits(region: &str) -> Result<u32> {
    let all = bits(last_ram_address()?);
    if all <= 32 {
        return Ok(all);
    }
    Ok(match region {
        "system" => all,
        "system-dma32" => 32,
        _ => {
            let heap = format!("{region}-noncoherent");
            let buffer = Heap::open(&heap)
                .and_then(|heap| heap.alloc(1))
                .with_context(|| format!("a buffer of {heap}"))?;
            if bits_of(&heap, &buffer)? > 32 {
                all
            } else {
                32
            }
        }
    })
}

/// The name of the contiguous area that firmware has reserved for a device.
pub fn own_area(device: &Path) -> Result<Option<String>> {
    let Ok(wanted) = fs::read(device.join("of_node/memory-region")) else {
        return Ok(None);
    };
    for entry in fs::read_dir("/sys/firmware/devicetree/base/reserved-memory")? {
        let area = entry?.path();
        if fs::read(area.join("phandle")).is_ok_and(|phandle| phandle == wanted) {
            return Ok(Some(base_name(&area)));
        }
    }
    bail!(
        "{}: its memory-region names no area in the device tree",
        device.display()
    )
}

impl Known {
    /// All such heaps of this machine.
    pub fn all() -> Result<Vec<Self>> {
        let mut names: Vec<_> = fs::read_dir(CLASS)
            .context(CLASS)?
            .map(|entry| Ok(base_name(&entry?.path())))
            .collect::<Result<_>>()?;
        names.sort();
        let mut regions = vec!["system".to_owned()];
        let mut known = Vec::new();
        for name in &names {
            let Some(mapping) = attribute(name, "cpu_mapping") else {
                continue;
            };
            let of_suffix = MODES.iter().find(|(suffix, _)| name.ends_with(suffix));
            let (suffix, mode) =
                *of_suffix.with_context(|| format!("{name} has no suffix for its mode"))?;
            let says = (attribute(name, "dma_coherent"), mapping.as_str());
            ensure!(
                (says.0.as_deref() == Some("1")) == (mode == Mode::Strict)
                    && (says.1 == "write-combining") == (mode == Mode::Uncached),
                "{name}: expected its attributes to agree with its name, got {says:?}"
            );
            let region = name.trim_end_matches(suffix).to_owned();
            known.push(Self {
                mode,
                is_contiguous: attribute(name, "contiguous").as_deref() == Some("1"),
                in_tree: false,
                bits: region_bits(&region)?,
                region: region.clone(),
                name: name.clone(),
            });
            regions.push(region);
        }
        for name in names.into_iter().filter(|name| regions.contains(name)) {
            known.push(Self {
                mode: Mode::Maintained,
                is_contiguous: name != "system",
                in_tree: true,
                bits: region_bits(&name)?,
                region: name.clone(),
                name,
            });
        }
        Ok(known)
    }

    /// The reason why a device with this use of buffers must not be linked to the heap, if there is one.
    pub fn reason(&self, device: &Constraints, does: Use) -> Result<Option<&'static str>> {
        if does == Use::Cpu {
            return Ok(None);
        }
        let uncached_is_picky = self.mode == Mode::Uncached && !SNOOPED_UNCACHED_IS_RIGHT;
        let in_pieces = does == Use::Map && !device.iommu && !self.is_contiguous;
        let bounces = !device.iommu && (bouncing_is_forced()? || device.address_bits < self.bits);
        let may_not_bounce = does == Use::Map || self.mode == Mode::Strict || uncached_is_picky;
        Ok(match device.pieces {
            _ if self.mode == Mode::Strict && !device.snoops => Some("the device does not snoop"),
            _ if uncached_is_picky && device.snoops => Some("the device snoops"),
            Pieces::One if in_pieces => Some("it needs one piece"),
            Pieces::Unknown if in_pieces => Some("it is not known to take more than one piece"),
            _ if bounces && may_not_bounce => Some("it does not reach the memory"),
            _ => None,
        })
    }

    /// Its rank among the heaps that suit the device. A smaller rank is better. `own` is the device's own
    /// region.
    pub fn rank(&self, device: &Constraints, does: Use, own: Option<&str>) -> (usize, usize) {
        let mode = match self.mode {
            Mode::Strict if device.snoops && does != Use::Cpu => 0,
            Mode::Maintained if !self.in_tree => 1,
            Mode::Maintained => 2,
            Mode::Uncached => 3,
            Mode::Strict => 4,
        };
        let region = match self.region.as_str() {
            region if own == Some(region) => 0,
            "system" => 1,
            "system-dma32" => 2,
            _ => 3,
        };
        (mode, region)
    }
}
