// SPDX-License-Identifier: GPL-2.0

//! Finds out whether KVM works. `/dev/kvm` may exist where KVM does not work, above
//! all in a guest, so a trial boot decides.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;

use crate::{
    cache,
    guest::{Accelerator, Guest},
    image::Image,
};

/// How long the probe may take. A guest that works boots in a second or two.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a guest boots with KVM. The answer is kept until the host reboots.
pub(crate) fn works(image: &Image) -> Result<bool> {
    let arch = image.kernel.arch;
    if !arch.is_host() || !Path::new("/dev/kvm").exists() {
        return Ok(false);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let answer = cache::subdir("kvm")?.join(format!("{arch}-{}", boot.trim()));
    let _lock = cache::lock("kvm")?;
    if let Ok(answer) = fs::read_to_string(&answer) {
        return Ok(answer == "yes");
    }
    let probe = Guest::new(image)
        .command(["true"])
        .accelerator(Accelerator::Kvm)
        .timeout(PATIENCE);
    let works = probe.run().is_ok_and(|outcome| outcome.is_healthy());
    cache::replace(&answer, if works { b"yes" } else { b"no" })?;
    Ok(works)
}
