// SPDX-License-Identifier: GPL-2.0

//! The pictures that the camera of this package shows: numbered, each byte of
//! them computable from the number.
//!
//! [`frame`] makes one, [`check`] compares every byte of one that has arrived
//! with what it ought to be. In both, rows follow each other without padding, and
//! all values are within the limited range of video. A frame shows the same in
//! both kinds of RGB, bit for bit.
//!
//! A frame has its number on it twice, as bars that stay readable after
//! conversion to RGB, in a screenshot for example:
//! - along the upper edge, [`BAR`] rows high: 32 blocks side by side, the most
//!   significant bit on the left, white for 1 and black for 0;
//! - along the lower edge the same in reverse video, black for 1.
//!
//! Between them lies a pattern that moves a little from frame to frame, so that
//! no byte of it is as in the 26 frames before. The three lowest bits of every
//! byte, those of the bars included, are noise, other noise in every frame: a
//! cache line left over from an earlier one does not pass for a new one.

mod frame;
mod layout;
mod settle;
mod size;

pub use frame::{BAR, Wrong, check, fill, frame, number};
pub use layout::{Layout, Pixels};
pub use settle::settle;
pub use size::{InvalidSize, Size};
