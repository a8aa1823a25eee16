// SPDX-License-Identifier: GPL-2.0

use camera::{Pixels, Size};
use drm::buffer::DrmFourcc;
use v4l2::fourcc;

/// What a frame is made of, in the words of V4L2 and of DRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// As the camera makes it.
    Camera(Pixels),
    /// Red, green, blue: as the converter makes it.
    Rgb24,
}

impl Picture {
    /// What displays read, and write back.
    pub const XRGB: Self = Self::Camera(Pixels::Xbgr32);

    /// What V4L2 calls it.
    pub fn v4l2(self) -> u32 {
        match self {
            Self::Camera(Pixels::Yuyv) => fourcc(b"YUYV"),
            Self::Camera(Pixels::Bgr24) => fourcc(b"BGR3"),
            Self::Camera(Pixels::Xbgr32) => fourcc(b"XR24"),
            Self::Rgb24 => fourcc(b"RGB3"),
        }
    }

    /// What DRM calls it.
    pub fn drm(self) -> DrmFourcc {
        match self {
            Self::Camera(Pixels::Yuyv) => DrmFourcc::Yuyv,
            Self::Camera(Pixels::Bgr24) => DrmFourcc::Rgb888,
            Self::Camera(Pixels::Xbgr32) => DrmFourcc::Xrgb8888,
            Self::Rgb24 => DrmFourcc::Bgr888,
        }
    }

    /// In bytes.
    pub fn per_pixel(self) -> usize {
        match self {
            Self::Camera(pixels) => pixels.per_pixel(),
            Self::Rgb24 => 3,
        }
    }

    /// The size of a row, in bytes.
    pub fn row(self, size: Size) -> usize {
        self.per_pixel() * size.width() as usize
    }

    /// The size of a frame, in bytes.
    pub fn bytes(self, size: Size) -> usize {
        self.row(size) * size.height() as usize
    }
}
