// SPDX-License-Identifier: GPL-2.0

//! What was found, as the plugin writes it and everybody else reads it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What is wrong with an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A device reads a line that was written by the caches, and not cleaned since.
    DirtyRead,
    /// A line is read by the caches that a device has written, and that was not
    /// invalidated since.
    StaleRead,
    /// A device writes a line that is dirty in the caches, or a dirty line is invalidated.
    LostWrite,
    /// A line is used both by the caches and beside them, with a copy in them that is
    /// dirty or no longer right.
    MixedAttributes,
    /// A line is used whose cleaning has begun, with no `dsb` to tell when it ends.
    UnfinishedClean,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DirtyRead => "dirty read",
            Self::StaleRead => "stale read",
            Self::LostWrite => "lost write",
            Self::MixedAttributes => "mixed attributes",
            Self::UnfinishedClean => "unfinished clean",
        })
    }
}

/// Who has accessed memory, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Who {
    /// The CPU by a cacheable mapping.
    Cpu,
    /// The CPU by one that is not cacheable.
    Uncached,
    /// A device that does not snoop.
    Device,
    /// One that does.
    Snooping,
}

impl Who {
    const ALL: [Self; 4] = [Self::Cpu, Self::Uncached, Self::Device, Self::Snooping];
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "the CPU",
            Self::Uncached => "the CPU, uncached,",
            Self::Device => "a device",
            Self::Snooping => "a snooping device",
        })
    }
}

/// An access: who it was, and at which instruction. That of a device is the one that has
/// set it going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Access {
    /// The address of the instruction.
    pub pc: u64,
    /// Who it was.
    pub who: Who,
}

impl Access {
    /// In a word: instructions are aligned to four bytes.
    pub(crate) fn pack(self) -> u64 {
        self.pc & !3 | self.who as u64
    }

    pub(crate) fn unpack(word: u64) -> Self {
        Self {
            pc: word & !3,
            who: Who::ALL[(word & 3) as usize],
        }
    }
}

/// Where in memory something was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The physical address of the line.
    pub physical: u64,
    /// The bytes of the line, the first one lowest.
    pub bytes: u64,
    /// The last buffer that the guest has said to be there, and where in it.
    pub buffer: Option<(String, u64)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.buffer {
            Some((name, offset)) => write!(f, "{name} at {offset:#x}, ")?,
            None => write!(f, "no buffer that is known, ")?,
        }
        write!(
            f,
            "physical {:#x}, bytes {:#018x}",
            self.physical, self.bytes
        )
    }
}

/// The same mistake, as often as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What is wrong.
    pub kind: Kind,
    /// The access that it is wrong with.
    pub by: Access,
    /// The one before that it does not see, or undoes.
    pub after: Access,
    /// How many lines.
    pub lines: u64,
    /// The first of them.
    pub first: Place,
}

/// How much was looked at: where that is nothing, nothing can be found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Accesses of the CPU.
    pub accesses: u64,
    /// Those of them that were not cacheable.
    pub uncached: u64,
    /// Those to pages that the page tables do not have, which could not be looked at.
    pub unmapped: u64,
    /// Instructions that clean or invalidate a line.
    pub maintenance: u64,
    /// Accesses of devices that do not snoop.
    pub dma: u64,
    /// Accesses of devices that do.
    pub snooping: u64,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// What is wrong.
    pub reports: Vec<Report>,
    /// How much was looked at.
    pub counts: Counts,
}
