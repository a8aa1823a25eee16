// SPDX-License-Identifier: GPL-2.0

use std::{error, fmt, str::FromStr};

/// The size of a frame, one that can carry a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    width: u16,
    height: u16,
}

impl Size {
    /// Checks a size: at least 128x64, at most 4096x4096, with a width that is
    /// a multiple of 4.
    pub const fn new(width: u32, height: u32) -> Option<Self> {
        let wide = width >= 128 && width <= 4096 && width % 4 == 0;
        let high = height >= 64 && height <= 4096;
        if wide && high {
            Some(Self {
                width: width as u16,
                height: height as u16,
            })
        } else {
            None
        }
    }

    /// In pixels.
    pub const fn width(self) -> u32 {
        self.width as u32
    }

    /// In rows.
    pub const fn height(self) -> u32 {
        self.height as u32
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A text is no size of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSize;

impl fmt::Display for InvalidSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a size is WIDTHxHEIGHT, like 640x480: from 128x64 to 4096x4096, \
             the width a multiple of 4",
        )
    }
}

impl error::Error for InvalidSize {}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let (width, height) = text.split_once('x').ok_or(InvalidSize)?;
        let number = |text: &str| text.parse().map_err(|_| InvalidSize);
        Self::new(number(width)?, number(height)?).ok_or(InvalidSize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let size: Size = "640x480".parse().unwrap();
        assert_eq!((size.width(), size.height()), (640, 480));
        assert_eq!(size.to_string(), "640x480");
    }

    #[test]
    fn refuses_what_cannot_be_shown() {
        for text in [
            "",
            "640",
            "640x",
            "x480",
            "640x480x2",
            "-640x480",
            "124x64",
            "130x64",
            "128x63",
            "4100x480",
            "640x4097",
            "99999999999x480",
        ] {
            assert_eq!(text.parse::<Size>(), Err(InvalidSize), "{text}");
        }
    }
}
