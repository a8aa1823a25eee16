// SPDX-License-Identifier: GPL-2.0

//! Swap space.

use crate::expect::skip;
use crate::kernel_module::modprobe;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A compressed swap device. Dropping this removes it.
pub struct Swap;

impl Swap {
    const DEVICE: &str = "/dev/zram0";

    pub fn new(bytes: u64) -> Result<Self> {
        if modprobe("zram", &[]).is_err() || !Path::new(Self::DEVICE).exists() {
            return skip("no zram to swap to: try a kernel with CONFIG_ZRAM");
        }
        fs::write("/sys/block/zram0/disksize", bytes.to_string())
            .context("setting the size of zram0")?;
        let swap = Self;
        for command in ["mkswap", "swapon"] {
            swap.run(command)?;
        }
        Ok(swap)
    }

    fn run(&self, command: &str) -> Result<()> {
        let status = Command::new(command)
            .arg(Self::DEVICE)
            .stdout(Stdio::null())
            .status()
            .with_context(|| command.to_owned())?;
        ensure!(status.success(), "{command} failed");
        Ok(())
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Err(error) = self.run("swapoff") {
            println!("{error:#}");
        }
        let _ = fs::write("/sys/block/zram0/reset", "1");
    }
}
