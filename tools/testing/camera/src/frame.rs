// SPDX-License-Identifier: GPL-2.0

use crate::Size;
use std::{error, fmt};

/// How high the bars at the upper and the lower edge are, in rows.
pub const BAR: u32 = 16;

/// A word is four pixels: what is computed and compared at once.
const WORD: usize = size_of::<u64>();
/// The bits of a word that are noise.
const NOISE: u64 = 0x0707_0707_0707_0707;
/// Where a bar is brighter than this, it is white.
const GREY: u8 = 128;
/// How far back we look for the frame that a wrong byte comes from.
const EARLIER: u32 = 64;

/// Four pixels of one colour.
const fn pixels(y: u8, u: u8, v: u8) -> u64 {
    u64::from_le_bytes([y, u, y, v, y, u, y, v])
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
    height: u32,
    /// How many words a row has.
    columns: u32,
}

impl Picture {
    fn new(number: u32, size: Size) -> Self {
        Self {
            number,
            height: size.height(),
            columns: size.width() / 4,
        }
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
        pixels(if white { 224 } else { 16 }, 128, 128)
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
        let y = (column + row + step) % 27;
        let u = (row / 8 + step) % 28;
        let v = (column / 4 + step) % 28;
        pixels(16 + 8 * y as u8, 16 + 8 * u as u8, 16 + 8 * v as u8)
    }
}

/// Makes frame `number`.
pub fn frame(number: u32, size: Size) -> Vec<u8> {
    let mut bytes = vec![0; size.bytes()];
    fill(number, size, &mut bytes);
    bytes
}

/// Makes frame `number` in place.
///
/// # Panics
///
/// If `bytes` is not as long as a frame.
pub fn fill(number: u32, size: Size, bytes: &mut [u8]) {
    assert_eq!(bytes.len(), size.bytes(), "a frame of {size}");
    let picture = Picture::new(number, size);
    for (row, line) in (0..).zip(bytes.chunks_exact_mut(size.row())) {
        for (column, word) in (0..).zip(line.chunks_exact_mut(WORD)) {
            word.copy_from_slice(&picture.word(row, column).to_le_bytes());
        }
    }
}

/// Reads the number on a frame, whatever else is on it.
pub fn number(bytes: &[u8], size: Size) -> Result<u32, Wrong> {
    if bytes.len() != size.bytes() {
        return Err(Wrong::Length {
            expected: size.bytes(),
            found: bytes.len(),
        });
    }
    let picture = Picture::new(0, size);
    let read = |row: u32| {
        (0..u32::BITS).fold(0, |number, block| {
            let column = picture.middle(block) as usize;
            let y = bytes[row as usize * size.row() + column * WORD];
            number << 1 | u32::from(y >= GREY)
        })
    };
    let top = read(BAR / 2);
    let bottom = !read(size.height() - BAR / 2);
    if top == bottom {
        Ok(top)
    } else {
        Err(Wrong::Number { top, bottom })
    }
}

/// Reads the number on a frame, and compares every byte with what it is in the
/// frame of that number.
pub fn check(bytes: &[u8], size: Size) -> Result<u32, Wrong> {
    let number = number(bytes, size)?;
    let picture = Picture::new(number, size);
    let mut wrong = 0;
    let mut first = None;
    for (row, line) in (0..).zip(bytes.chunks_exact(size.row())) {
        for (column, found) in (0..).zip(line.chunks_exact(WORD)) {
            let expected = picture.word(row, column).to_le_bytes();
            if found != expected {
                let differs = |(found, expected): (&u8, &u8)| found != expected;
                wrong += found
                    .iter()
                    .zip(&expected)
                    .filter(|pair| differs(*pair))
                    .count();
                first.get_or_insert((row, column));
            }
        }
    }
    let Some((row, column)) = first else {
        return Ok(number);
    };
    let offset = row as usize * size.row() + column as usize * WORD;
    let earlier = |earlier: &u32| {
        let word = Picture::new(*earlier, size).word(row, column);
        bytes[offset..offset + WORD] == word.to_le_bytes()
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
        /// Where the first of them is, to eight bytes.
        offset: usize,
        /// The earlier frame that has these eight bytes there.
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

    const SMALL: Size = Size::new(132, 64).unwrap();

    #[test]
    fn numbers_can_be_read() {
        for width in (128..=700).step_by(4) {
            let size = Size::new(width, 64).unwrap();
            for number in [0, 1, 0x8000_0000, 0x5555_5555, 0x1234_5678, u32::MAX] {
                assert_eq!(check(&frame(number, size), size), Ok(number), "{size}");
            }
        }
    }

    #[test]
    fn no_wrong_byte_passes() {
        let good = frame(1000, SMALL);
        for place in 0..good.len() {
            for bit in [0, 7] {
                let mut bad = good.clone();
                bad[place] ^= 1 << bit;
                let offset = place / WORD * WORD;
                match check(&bad, SMALL) {
                    Err(Wrong::Number { .. }) => assert_eq!(bit, 7),
                    result => assert_eq!(
                        result,
                        Err(Wrong::Bytes {
                            number: 1000,
                            wrong: 1,
                            offset,
                            from: None
                        })
                    ),
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
        let size = Size::new(320, 64).unwrap();
        let latest = frame(99, size);
        for number in 99 - 26..99 {
            let earlier = frame(number, size);
            for (old, new) in earlier.chunks(64).zip(latest.chunks(64)) {
                assert_ne!(old, new);
            }
            let pattern = BAR as usize * size.row()..size.bytes() - BAR as usize * size.row();
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
