// SPDX-License-Identifier: GPL-2.0

//! Random sequences for any length of time, in a guest of each architecture.

use crate::boot::text;
use crate::kit::Kits;
use crate::suite::crowded;
use anyhow::{Result, bail};
use clap::Args;
use std::time::Duration;
use vm::{Arch, Stream};

/// The extra time limit for the boot and the last round, in seconds.
const GRACE: u64 = 900;

#[derive(Args)]
pub struct Stress {
    /// How many seconds to run
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// The seed of the random numbers. By default each run has another one
    #[arg(long)]
    seed: Option<u64>,
    /// The kernels of the guests: a configuration in tools/vm/kernel, or the path of
    /// a build tree
    #[arg(long, value_name = "NAME", default_value = vm::DEFAULT)]
    pub kernel: String,
    /// Only this architecture
    #[arg(long)]
    arch: Option<Arch>,
}

impl Stress {
    /// Runs on all architectures at once. Returns whether all was well.
    pub fn run(&self, kits: &Kits) -> Result<bool> {
        let archs = Arch::ALL.into_iter();
        let archs = archs.filter(|arch| self.arch.is_none_or(|only| only == *arch));
        std::thread::scope(|scope| {
            let guests: Vec<_> = archs
                .map(|arch| scope.spawn(move || self.run_on(arch, kits)))
                .collect();
            let mut well = true;
            for guest in guests {
                well &= guest
                    .join()
                    .unwrap_or_else(|_| bail!("a thread panicked"))?;
            }
            Ok(well)
        })
    }

    fn run_on(&self, arch: Arch, kits: &Kits) -> Result<bool> {
        let mut arguments = format!("--seconds {}", self.seconds);
        if let Some(seed) = self.seed {
            arguments += &format!(" --seed {seed}");
        }
        let mut boot = crowded(arch, &arguments);
        boot.timeout = Duration::from_secs(self.seconds + GRACE);
        let mut line = Vec::new();
        let outcome = boot.run_with(kits, |stream, piece| {
            if stream == Stream::Console {
                return;
            }
            for byte in piece {
                if *byte == b'\n' {
                    println!("{arch}: {}", text(&line));
                    line.clear();
                } else {
                    line.push(*byte);
                }
            }
        })?;
        let well = outcome.is_healthy() && outcome.status == Some(0);
        if !well {
            println!("{arch}: {outcome}\n{}", boot.repeat(kits)?);
        }
        Ok(well)
    }
}
