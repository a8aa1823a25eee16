// SPDX-License-Identifier: GPL-2.0

//! Fences that signal when a test wants it, by the kernel's debugging aid `sw_sync`.

use crate::expect::skip;
use crate::ioctl;
use anyhow::{Context as _, Result};
use rustix::fd::{FromRawFd as _, OwnedFd};
use rustix::ioctl::{Opcode, opcode};
use std::fs::File;

/// A timeline. When it is closed, all its fences signal.
pub struct Timeline(File);

/// `struct sw_sync_create_fence_data`.
#[repr(C)]
struct CreateFence {
    value: u32,
    name: [u8; 32],
    fd: i32,
}

const _: () = assert!(size_of::<CreateFence>() == 40);

const CREATE_FENCE: Opcode = opcode::read_write::<CreateFence>(b'W', 0);
const INCREMENT: Opcode = opcode::write::<u32>(b'W', 1);

impl Timeline {
    pub fn open() -> Result<Self> {
        let path = "/sys/kernel/debug/sync/sw_sync";
        match File::options().read(true).write(true).open(path) {
            Ok(file) => Ok(Self(file)),
            Err(error) => skip(format!(
                "{path}: {error}: it takes a kernel with CONFIG_SW_SYNC"
            )),
        }
    }

    /// A fence that signals when the timeline has advanced to `value`.
    pub fn fence(&self, value: u32) -> Result<OwnedFd> {
        let mut data = CreateFence {
            value,
            name: [0; 32],
            fd: -1,
        };
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<CREATE_FENCE, _>(&self.0, &mut data)? };
        // SAFETY: The ioctl has succeeded, so the descriptor is new and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(data.fd) })
    }

    /// Advances the timeline by one.
    pub fn advance(&self) -> Result<()> {
        // SAFETY: The argument is of the type that the ioctl is for.
        unsafe { ioctl::update::<INCREMENT, u32>(&self.0, &mut 1) }.context("advancing a timeline")
    }
}
