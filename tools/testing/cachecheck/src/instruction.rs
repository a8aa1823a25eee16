// SPDX-License-Identifier: GPL-2.0

//! The instructions that matter to caches and page tables.

/// What the checker has to know of before it is executed. A number is that of the
/// general register which holds the address, 31 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `dc cvac`, `cvap` and `cvadp`.
    Clean(u8),
    /// `dc civac`.
    CleanInvalidate(u8),
    /// `dc ivac`.
    Invalidate(u8),
    /// `dc zva`.
    Zero(u8),
    /// `dsb`.
    Barrier,
    /// `tlbi`, or a write of the page table of the kernel.
    Flush,
    /// A write of the page table of user space.
    FlushUser,
    /// The guest tells something: see `cachecheck.h`.
    Call,
}

impl Instruction {
    /// `hint #127`, which does nothing on all CPUs.
    const CALL: u32 = 0xd503_201f | 127 << 5;

    /// The instruction that `word` is, if it matters.
    pub fn decode(word: u32) -> Option<Self> {
        if word & 0xfff8_0000 == 0xd508_0000 {
            return Self::decode_sys(word);
        }
        match word {
            Self::CALL => Some(Self::Call),
            _ if word & 0xffff_f0ff == 0xd503_309f => Some(Self::Barrier),
            _ if word & 0xffff_ffe0 == 0xd518_2000 => Some(Self::FlushUser),
            _ if word & 0xffff_ffe0 == 0xd518_2020 => Some(Self::Flush),
            _ => None,
        }
    }

    fn decode_sys(word: u32) -> Option<Self> {
        let field = |shift: u32, bits: u32| word >> shift & ((1 << bits) - 1);
        let register = field(0, 5) as u8;
        match (field(16, 3), field(12, 4), field(8, 4), field(5, 3)) {
            (_, 8 | 9, _, _) => Some(Self::Flush),
            (0, 7, 6, 1) => Some(Self::Invalidate(register)),
            (3, 7, 4, 1) => Some(Self::Zero(register)),
            (3, 7, 10 | 12 | 13, 1) => Some(Self::Clean(register)),
            (3, 7, 14, 1) => Some(Self::CleanInvalidate(register)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the assembler encodes them.
    #[test]
    fn maintenance_is_told_from_other_instructions() {
        for (word, instruction) in [
            (0xd50b_7a23, Some(Instruction::Clean(3))), // dc cvac, x3
            (0xd50b_7c20, Some(Instruction::Clean(0))), // dc cvap, x0
            (0xd50b_7e3f, Some(Instruction::CleanInvalidate(31))), // dc civac, xzr
            (0xd508_7621, Some(Instruction::Invalidate(1))), // dc ivac, x1
            (0xd50b_7427, Some(Instruction::Zero(7))),  // dc zva, x7
            (0xd503_3f9f, Some(Instruction::Barrier)),  // dsb sy
            (0xd503_3b9f, Some(Instruction::Barrier)),  // dsb ish
            (0xd508_831f, Some(Instruction::Flush)),    // tlbi vmalle1is
            (0xd518_2001, Some(Instruction::FlushUser)), // msr ttbr0_el1, x1
            (0xd518_2021, Some(Instruction::Flush)),    // msr ttbr1_el1, x1
            (0xd503_2fff, Some(Instruction::Call)),     // hint #127
            (0xd50b_7b20, None),                        // dc cvau, x0
            (0xd508_7521, None),                        // not maintenance of data
            (0xd503_3bbf, None),                        // dmb ish
            (0xd503_201f, None),                        // nop
            (0xf900_0001, None),                        // str x1, [x0]
        ] {
            assert_eq!(Instruction::decode(word), instruction, "{word:#x}");
        }
    }
}
