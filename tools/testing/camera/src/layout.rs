// SPDX-License-Identifier: GPL-2.0

use crate::Size;
use std::fmt;

/// How pixels lie in memory. The names are those of V4L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pixels {
    /// Two pixels in four bytes, brightness and colour.
    Yuyv,
    /// Blue, green, red: `DRM_FORMAT_RGB888`.
    Bgr24,
    /// Blue, green, red, and a byte of all ones: `DRM_FORMAT_XRGB8888`.
    Xbgr32,
}

impl Pixels {
    /// In bytes.
    pub const fn per_pixel(self) -> usize {
        match self {
            Self::Yuyv => 2,
            Self::Bgr24 => 3,
            Self::Xbgr32 => 4,
        }
    }
}

/// How a frame lies in memory: row by row, without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// In pixels.
    pub size: Size,
    /// What a row is made of.
    pub pixels: Pixels,
}

impl Layout {
    /// A frame of this size, of such pixels.
    pub const fn new(size: Size, pixels: Pixels) -> Self {
        Self { size, pixels }
    }

    /// The size of a row, in bytes.
    pub const fn row(self) -> usize {
        self.size.width() as usize * self.pixels.per_pixel()
    }

    /// The size of a frame, in bytes.
    pub const fn bytes(self) -> usize {
        self.row() * self.size.height() as usize
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.size, self.pixels)
    }
}
