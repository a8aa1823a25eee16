// SPDX-License-Identifier: MIT OR GPL-2.0

//! What a device needs of a buffer, as the module tells it beside the links.

use crate::error::Result;
use crate::system::attribute;
use std::fmt;
use std::path::Path;

/// What a device needs of a buffer. The module dmabuf_coherency tells it, one value a file, in the
/// device's directory `dma_heaps`.
///
/// If several devices do the DMA for one device's nodes, each value holds for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Constraints {
    /// Whether its DMA sees the CPU caches; true too if the CPU does all of its work. From the file
    /// `snoops`.
    pub snoops: bool,
    /// How many bits an address of its DMA has, from 0 to 64: 64 reaches all memory, 0 stands for a
    /// device that has no DMA mask. From the file `address_bits`.
    pub address_bits: u32,
    /// Whether an IOMMU translates the addresses of its DMA. From the file `iommu`.
    pub iommu: bool,
    /// In how many pieces its driver takes a buffer. From the file `pieces`.
    pub pieces: Pieces,
}

/// In how many pieces a driver takes a buffer. A piece is contiguous in the addresses of the
/// device: physical ones, or those of its IOMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
pub enum Pieces {
    /// In one.
    One,
    /// In any number.
    Any,
    /// The driver does not tell, nor does a rule.
    Unknown,
}

impl Pieces {
    /// The kernel's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Any => "any",
            Self::Unknown => "unknown",
        }
    }
}

impl Constraints {
    /// Reads the files in a directory `dma_heaps`; a module from before there were constraints has
    /// none of them.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>> {
        let value = |file: &str| attribute(&directory.join(file));
        Ok(Self::parse(
            value("snoops")?,
            value("address_bits")?,
            value("iommu")?,
            value("pieces")?,
        ))
    }

    fn parse(
        snoops: Option<String>,
        address_bits: Option<String>,
        iommu: Option<String>,
        pieces: Option<String>,
    ) -> Option<Self> {
        let flag = |value: Option<String>| match value?.as_str() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        };
        Some(Self {
            snoops: flag(snoops)?,
            address_bits: address_bits?.parse().ok()?,
            iommu: flag(iommu)?,
            pieces: match pieces?.as_str() {
                "one" => Pieces::One,
                "any" => Pieces::Any,
                _ => Pieces::Unknown,
            },
        })
    }

    /// In how many physical pieces a buffer may be. Behind an IOMMU in any number, as that makes
    /// one of them.
    pub fn physical_pieces(&self) -> Pieces {
        if self.iommu { Pieces::Any } else { self.pieces }
    }
}

/// `does not snoop the CPU caches, reaches 32 address bits, needs one piece`
impl fmt::Display for Constraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snoops = if self.snoops {
            "snoops"
        } else {
            "does not snoop"
        };
        write!(f, "{snoops} the CPU caches, ")?;
        match self {
            Self { iommu: true, .. } => write!(f, "is behind an IOMMU, ")?,
            Self {
                address_bits: 0, ..
            } => write!(f, "has no DMA mask, ")?,
            Self { address_bits, .. } => write!(f, "reaches {address_bits} address bits, ")?,
        }
        f.write_str(match self.pieces {
            Pieces::One => "needs one piece",
            Pieces::Any => "takes any number of pieces",
            Pieces::Unknown => "is not known to take more than one piece",
        })
    }
}
