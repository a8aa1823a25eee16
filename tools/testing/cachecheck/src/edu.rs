// SPDX-License-Identifier: GPL-2.0

//! The DMA of QEMU's device `edu`, by what the CPU writes to its registers.

/// What the device is called in QEMU, and how large its registers' window is.
pub(crate) const NAME: &str = "edu-mmio";
const WINDOW: u64 = 1 << 20;

const SOURCE: u64 = 0x80;
const COMMAND: u64 = 0x98;

/// Bits of the command.
const START: u64 = 1;
const TO_MEMORY: u64 = 2;

/// The registers of its DMA: source, destination, count, command.
#[derive(Default)]
pub(crate) struct Edu([u64; 4]);

/// What it does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) physical: u64,
    pub(crate) len: u64,
    pub(crate) writes: bool,
}

impl Edu {
    /// The CPU stores four or eight bytes to a register. Some of that make it start.
    pub(crate) fn store(&mut self, physical: u64, value: u64, size: u64) -> Option<Transfer> {
        let offset = physical % WINDOW;
        let number = usize::try_from(offset.checked_sub(SOURCE)? / 8).ok()?;
        let register = self.0.get_mut(number)?;
        *register = match (size, offset % 8) {
            (8, 0) => value,
            (4, 0) => *register >> 32 << 32 | value,
            (4, 4) => *register & 0xffff_ffff | value << 32,
            _ => return None,
        };
        let [source, destination, len, command] = self.0;
        if offset != COMMAND || command & START == 0 {
            return None;
        }
        let writes = command & TO_MEMORY != 0;
        let physical = if writes { destination } else { source };
        Some(Transfer {
            physical,
            len,
            writes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_starts_what_was_set_up() {
        let mut edu = Edu::default();
        let at = |offset: u64| 0x1000_0000 + offset;
        for (offset, value, size) in [
            (0x80, 0x4000_0000, 4),
            (0x84, 1, 4),
            (0x88, 0x4_0000, 8),
            (0x90, 64, 8),
            (0x60, 1, 4),
        ] {
            assert_eq!(edu.store(at(offset), value, size), None);
        }
        let transfer = |physical, writes| {
            let len = 64;
            Some(Transfer {
                physical,
                len,
                writes,
            })
        };
        assert_eq!(edu.store(at(0x98), 1, 8), transfer(0x1_4000_0000, false));
        assert_eq!(edu.store(at(0x98), 3, 4), transfer(0x4_0000, true));
        assert_eq!(edu.store(at(0x98), 2, 8), None);
    }
}
