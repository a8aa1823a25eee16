// SPDX-License-Identifier: MIT OR GPL-2.0

//! DRM and accelerator nodes: PRIME import, and a framebuffer. Numbers and structures are those of
//! the kernel's `drm/drm.h` and `drm/drm_mode.h`.

use super::{Call, Progress, Refusal};
use crate::buffer::Buffer;
use crate::ioctl;
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode::read_write};
use std::time::{Duration, Instant};

const PRIME_FD_TO_HANDLE: Opcode = read_write::<PrimeHandle>(b'd', 0x2e);
const MODE_GETRESOURCES: Opcode = read_write::<Resources>(b'd', 0xa0);
const MODE_ADDFB2: Opcode = read_write::<Framebuffer>(b'd', 0xb8);

/// `DRM_FORMAT_XRGB8888`, which takes four bytes a pixel.
const XRGB8888: u32 = u32::from_le_bytes(*b"XR24");
const PIXEL: u32 = 4;

/// Pictures that one can be made of, the largest first.
const PICTURES: [(u32, u32); 3] = [(1920, 1080), (128, 128), (32, 32)];

/// `struct drm_prime_handle`.
#[repr(C)]
#[derive(Default)]
struct PrimeHandle {
    handle: u32,
    flags: u32,
    fd: i32,
}

/// `struct drm_mode_card_res`. With all counts 0 nothing is written to where it points.
#[repr(C)]
#[derive(Default)]
struct Resources {
    pointers: [u64; 4],
    counts: [u32; 4],
    least_width: u32,
    most_width: u32,
    least_height: u32,
    most_height: u32,
}

/// `struct drm_mode_fb_cmd2`.
#[repr(C)]
#[derive(Default)]
struct Framebuffer {
    id: u32,
    width: u32,
    height: u32,
    format: u32,
    flags: u32,
    handles: [u32; 4],
    pitches: [u32; 4],
    offsets: [u32; 4],
    modifiers: [u64; 4],
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;

    assert!(size_of::<PrimeHandle>() == 12);
    assert!(size_of::<Resources>() == 64);
    assert!(size_of::<Framebuffer>() == 104);
    assert!(offset_of!(Framebuffer, handles) == 20);
    assert!(offset_of!(Framebuffer, modifiers) == 72);
};

pub(super) fn import(
    node: &OwnedFd,
    buffer: &Buffer,
    progress: &mut Progress,
) -> Result<(), Refusal> {
    let handle = prime(node, buffer).map_err(Refusal::of(Call::Prime))?;
    if let Some((width, height)) = picture(node, buffer.size()) {
        let framebuffer = add_framebuffer(node, handle, width, height);
        framebuffer.map_err(Refusal::of(Call::Framebuffer))?;
        progress.framebuffer = true;
    }
    Ok(())
}

pub(super) fn import_once(node: &OwnedFd, buffer: &Buffer) -> Result<Duration, Refusal> {
    let start = Instant::now();
    prime(node, buffer).map_err(Refusal::of(Call::Prime))?;
    Ok(start.elapsed())
}

fn prime(node: &OwnedFd, buffer: &Buffer) -> Result<u32, Errno> {
    let mut prime = PrimeHandle {
        fd: buffer.as_fd().as_raw_fd(),
        ..PrimeHandle::default()
    };
    // SAFETY: The argument is of the type that the ioctl is for.
    unsafe { ioctl::call(node, PRIME_FD_TO_HANDLE, &mut prime) }?;
    Ok(prime.handle)
}

/// The largest picture that fits into the buffer and that the display takes; `None` if the node is
/// not a display's.
fn picture(node: &OwnedFd, size: usize) -> Option<(u32, u32)> {
    let mut limits = Resources::default();
    // SAFETY: The argument is of the type that the ioctl is for, and has room for no lists.
    unsafe { ioctl::call(node, MODE_GETRESOURCES, &mut limits) }.ok()?;
    let widths = limits.least_width..=limits.most_width;
    let heights = limits.least_height..=limits.most_height;
    PICTURES.into_iter().find(|(width, height)| {
        let bytes = u64::from(*width) * u64::from(*height) * u64::from(PIXEL);
        widths.contains(width) && heights.contains(height) && bytes <= size as u64
    })
}

fn add_framebuffer(node: &OwnedFd, handle: u32, width: u32, height: u32) -> Result<(), Errno> {
    let mut framebuffer = Framebuffer {
        width,
        height,
        format: XRGB8888,
        handles: [handle, 0, 0, 0],
        pitches: [width * PIXEL, 0, 0, 0],
        ..Framebuffer::default()
    };
    // SAFETY: The argument is of the type that the ioctl is for.
    unsafe { ioctl::call(node, MODE_ADDFB2, &mut framebuffer) }
}
