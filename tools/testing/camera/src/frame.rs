// SPDX-License-Identifier: GPL-2.0

use crate::{Layout, Pixels};
use std::{error, fmt};

/// How high the bars at the upper and the lower edge are, in rows.
pub const BAR: u32 = 16;

/// A word is two pixels of RGB, or four of YUYV: what is computed at once.
const WORD: usize = size_of::<u64>();
/// The bits of a word that are noise.
const NOISE: u64 = 0x0707_0707_0707_0707;
/// The bits of a word of RGB that are no colour.
const NO_COLOUR: u64 = 0xff00_0000_ff00_0000;
/// Where a bar is brighter than this, it is white.
const GREY: u8 = 128;
/// How far back we look for the frame that a wrong byte comes from.
const EARLIER: u32 = 64;

/// A word as it lies in memory: as much of the array as the length says.
struct Cell([u8; WORD], usize);

impl Cell {
    const fn length(pixels: Pixels) -> usize {
        match pixels {
            Pixels::Bgr24 => 6,
            Pixels::Yuyv | Pixels::Xbgr32 => WORD,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

/// Spreads a number over all bits of another (a round of SplitMix64).
const fn hash(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Frame `number`, row by row.
struct Picture {
    number: u32,
    pixels: Pixels,
    height: u32,
    /// How many words a row has.
    columns: u32,
}

impl Picture {
    fn new(number: u32, layout: Layout) -> Self {
        Self {
            number,
            pixels: layout.pixels,
            height: layout.size.height(),
            columns: (layout.row() / Cell::length(layout.pixels)) as u32,
        }
    }

    /// What is in memory at a place.
    fn cell(&self, row: u32, column: u32) -> Cell {
        let word = self.word(row, column);
        let bytes = match self.pixels {
            Pixels::Yuyv => word,
            Pixels::Xbgr32 => word | NO_COLOUR,
            Pixels::Bgr24 => word & 0xff_ffff | word >> 32 << 24,
        };
        Cell(bytes.to_le_bytes(), Cell::length(self.pixels))
    }

    /// A word of one colour, or two values of colour and their brightness.
    fn plain(&self, first: u8, second: u8, third: u8) -> u64 {
        u64::from_le_bytes(match self.pixels {
            Pixels::Yuyv => [first, second, first, third, first, second, first, third],
            Pixels::Bgr24 | Pixels::Xbgr32 => [first, second, third, 0, first, second, third, 0],
        })
    }

    /// The word at a place, as little-endian bytes have it.
    fn word(&self, row: u32, column: u32) -> u64 {
        let picture = if row < BAR {
            self.bar(self.number, column)
        } else if row >= self.height - BAR {
            self.bar(!self.number, column)
        } else {
            self.pattern(row, column)
        };
        let place = row * self.columns + column;
        let noise = hash(u64::from(self.number) << 32 | u64::from(place));
        picture & !NOISE | noise & NOISE
    }

    /// A row of blocks, one for each bit.
    fn bar(&self, bits: u32, column: u32) -> u64 {
        let block = column * u32::BITS / self.columns;
        let white = bits << block >> (u32::BITS - 1) == 1;
        let light = if white { 224 } else { 16 };
        match self.pixels {
            Pixels::Yuyv => self.plain(light, 128, 128),
            Pixels::Bgr24 | Pixels::Xbgr32 => self.plain(light, light, light),
        }
    }

    /// The word in the middle of a block.
    fn middle(&self, block: u32) -> u32 {
        let first = |block: u32| (block * self.columns).div_ceil(u32::BITS);
        (first(block) + first(block + 1) - 1) / 2
    }

    /// What moves between the bars. All three are different from what they
    /// were up to 26 frames ago.
    fn pattern(&self, row: u32, column: u32) -> u64 {
        let step = self.number % (27 * 28);
        let first = (column + row + step) % 27;
        let second = (row / 8 + step) % 28;
        let third = (column / 4 + step) % 28;
        self.plain(
            16 + 8 * first as u8,
            16 + 8 * second as u8,
            16 + 8 * third as u8,
        )
    }
}

/// Makes frame `number`.
pub fn frame(number: u32, layout: Layout) -> Vec<u8> {
    let mut bytes = vec![0; layout.bytes()];
    fill(number, layout, &mut bytes);
    bytes
}

/// Makes frame `number` in place.
///
/// # Panics
///
/// If `bytes` is not as long as a frame.
pub fn fill(number: u32, layout: Layout, bytes: &mut [u8]) {
    assert_eq!(bytes.len(), layout.bytes(), "a frame of {layout}");
    let picture = Picture::new(number, layout);
    for (row, line) in (0..).zip(bytes.chunks_exact_mut(layout.row())) {
        for (column, cell) in (0..).zip(line.chunks_exact_mut(Cell::length(layout.pixels))) {
            cell.copy_from_slice(picture.cell(row, column).bytes());
        }
    }
}

/// Reads the number on a frame, whatever else is on it.
pub fn number(bytes: &[u8], layout: Layout) -> Result<u32, Wrong> {
    if bytes.len() != layout.bytes() {
        return Err(Wrong::Length {
            expected: layout.bytes(),
            found: bytes.len(),
        });
    }
    let picture = Picture::new(0, layout);
    let read = |row: u32| {
        (0..u32::BITS).fold(0, |number, block| {
            let column = picture.middle(block) as usize;
            let y = bytes[row as usize * layout.row() + column * Cell::length(layout.pixels)];
            number << 1 | u32::from(y >= GREY)
        })
    };
    let top = read(BAR / 2);
    let bottom = !read(picture.height - BAR / 2);
    if top == bottom {
        Ok(top)
    } else {
        Err(Wrong::Number { top, bottom })
    }
}

/// Reads the number on a frame, and compares every byte with what it is in the
/// frame of that number.
pub fn check(bytes: &[u8], layout: Layout) -> Result<u32, Wrong> {
    let number = number(bytes, layout)?;
    let picture = Picture::new(number, layout);
    let length = Cell::length(layout.pixels);
    let mut wrong = 0;
    let mut first = None;
    for (row, line) in (0..).zip(bytes.chunks_exact(layout.row())) {
        for (column, found) in (0..).zip(line.chunks_exact(length)) {
            let expected = picture.cell(row, column);
            if found != expected.bytes() {
                let differs = |(found, expected): (&u8, &u8)| found != expected;
                wrong += found
                    .iter()
                    .zip(expected.bytes())
                    .filter(|pair| differs(*pair))
                    .count();
                first.get_or_insert((row, column));
            }
        }
    }
    let Some((row, column)) = first else {
        return Ok(number);
    };
    let offset = row as usize * layout.row() + column as usize * length;
    let earlier = |earlier: &u32| {
        let cell = Picture::new(*earlier, layout).cell(row, column);
        bytes[offset..offset + length] == *cell.bytes()
    };
    Err(Wrong::Bytes {
        number,
        wrong,
        offset,
        from: (number.saturating_sub(EARLIER)..number).rev().find(earlier),
    })
}

/// How a frame is not what the camera has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is too short or too long, in bytes.
    Length {
        /// What a frame of this size has.
        expected: usize,
        /// What this one has.
        found: usize,
    },
    /// The two numbers on it are not the same.
    Number {
        /// At the upper edge.
        top: u32,
        /// At the lower edge.
        bottom: u32,
    },
    /// Some bytes belong to another frame, or to none.
    Bytes {
        /// The number on the frame.
        number: u32,
        /// How many bytes are wrong.
        wrong: usize,
        /// Where the first of them is, to six or eight bytes.
        offset: usize,
        /// The earlier frame that has the same there.
        from: Option<u32>,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length { expected, found } => {
                write!(f, "a frame of {found} bytes instead of {expected}")
            }
            Self::Number { top, bottom } => write!(
                f,
                "a frame that has number {top} at the top and {bottom} at the bottom"
            ),
            Self::Bytes {
                number,
                wrong,
                offset,
                from,
            } => {
                write!(
                    f,
                    "frame {number} has {wrong} wrong bytes, from {offset} on"
                )?;
                match from {
                    Some(from) => write!(f, ", where it looks like frame {from}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl error::Error for Wrong {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    const KINDS: [Pixels; 3] = [Pixels::Yuyv, Pixels::Bgr24, Pixels::Xbgr32];
    const SMALL: Layout = of(132, Pixels::Yuyv);

    const fn of(width: u32, pixels: Pixels) -> Layout {
        Layout::new(Size::new(width, 64).unwrap(), pixels)
    }

    #[test]
    fn numbers_can_be_read() {
        for width in (128..=700).step_by(4) {
            for layout in KINDS.map(|pixels| of(width, pixels)) {
                for number in [0, 1, 0x8000_0000, 0x5555_5555, 0x1234_5678, u32::MAX] {
                    assert_eq!(
                        check(&frame(number, layout), layout),
                        Ok(number),
                        "{layout}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_wrong_byte_passes() {
        no_wrong_byte_passes_in(SMALL, 1);
        no_wrong_byte_passes_in(of(132, Pixels::Bgr24), 31);
        no_wrong_byte_passes_in(of(132, Pixels::Xbgr32), 31);
    }

    fn no_wrong_byte_passes_in(layout: Layout, step: usize) {
        let good = frame(1000, layout);
        let length = Cell::length(layout.pixels);
        for place in (0..good.len()).step_by(step) {
            for bit in [0, 7] {
                let mut bad = good.clone();
                bad[place] ^= 1 << bit;
                match check(&bad, layout) {
                    Err(Wrong::Number { .. }) => assert_eq!(bit, 7),
                    Err(Wrong::Bytes {
                        number: 1000,
                        wrong: 1,
                        offset,
                        ..
                    }) => assert_eq!(offset, place / length * length),
                    result => panic!("{layout}, byte {place}: {result:?}"),
                }
            }
        }
    }

    #[test]
    fn says_where_a_stale_line_is_from() {
        let (old, mut new) = (frame(996, SMALL), frame(1000, SMALL));
        // A cache line in the middle, where no byte stays as it was.
        let line = 64 * 70..64 * 71;
        new[line.clone()].copy_from_slice(&old[line.clone()]);
        assert_eq!(
            check(&new, SMALL),
            Err(Wrong::Bytes {
                number: 1000,
                wrong: 64,
                offset: line.start,
                from: Some(996)
            })
        );
    }

    #[test]
    fn no_cache_line_stays_for_26_frames() {
        let layout = of(320, Pixels::Yuyv);
        let latest = frame(99, layout);
        for number in 99 - 26..99 {
            let earlier = frame(number, layout);
            for (old, new) in earlier.chunks(64).zip(latest.chunks(64)) {
                assert_ne!(old, new);
            }
            let pattern = BAR as usize * layout.row()..layout.bytes() - BAR as usize * layout.row();
            let pairs = earlier[pattern.clone()].iter().zip(&latest[pattern]);
            assert!(pairs.into_iter().all(|(old, new)| old & !7 != new & !7));
        }
    }

    #[test]
    fn stays_within_the_range_of_video() {
        for number in 0..60 {
            for pixel in frame(number, SMALL).chunks_exact(2) {
                assert!((16..=235).contains(&pixel[0]));
                assert!((16..=240).contains(&pixel[1]));
            }
        }
    }

    #[test]
    fn both_kinds_of_rgb_show_the_same() {
        let (three, four) = (of(132, Pixels::Bgr24), of(132, Pixels::Xbgr32));
        for number in [0, 7, 1000] {
            let (three, four) = (frame(number, three), frame(number, four));
            for (three, four) in three.chunks_exact(3).zip(four.chunks_exact(4)) {
                assert_eq!([three, &[0xff]].concat(), four);
            }
        }
    }

    #[test]
    fn other_lengths_are_refused() {
        let good = frame(7, SMALL);
        let expected = good.len();
        for found in [0, 1, expected - 1] {
            let result = check(&good[..found], SMALL);
            assert_eq!(result, Err(Wrong::Length { expected, found }));
        }
    }

    #[test]
    fn two_frames_in_one_are_refused() {
        let (first, second) = (frame(7, SMALL), frame(8, SMALL));
        let half = first.len() / 2;
        let torn = [&second[..half], &first[half..]].concat();
        assert_eq!(
            check(&torn, SMALL),
            Err(Wrong::Number { top: 8, bottom: 7 })
        );
    }
}
