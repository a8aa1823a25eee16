// SPDX-License-Identifier: GPL-2.0

//! Failures on demand: the kernel's fault injection for the calls of one task.

use crate::expect::{outcome, skip};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The file by which a thread chooses the place that fails.
const NTH: &str = "/proc/thread-self/fail-nth";

/// Settings of fault injection that `fail-nth` needs, so that slabs, pages and copies fail
/// without a message. By themselves they make nothing fail.
const SETTINGS: &[(&str, &str)] = &[
    ("failslab/ignore-gfp-wait", "N"),
    ("failslab/cache-filter", "Y"),
    ("failslab/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/ignore-gfp-highmem", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "0"),
    ("fail_usercopy/verbose", "0"),
];

/// Caches for the records of a debug kernel. If it cannot allocate a record, it goes on
/// without, so a fault there shows nothing.
const DEBUGGING: [&str; 2] = ["kmemleak_", "debug_objects_"];

/// More places that may fail than any call has.
pub const MANY: usize = 5000;

/// Fault injection for the calling thread.
pub struct Faults {
    nth: File,
}

impl Faults {
    /// Whether the kernel has fault injection.
    pub fn possible() -> bool {
        Path::new(NTH).exists()
    }

    /// Sets up fault injection. Skips the test if the kernel has none.
    pub fn new() -> Result<Self> {
        if !Self::possible() {
            return skip(format!(
                "no {NTH}: try a kernel with CONFIG_FAULT_INJECTION"
            ));
        }
        let nth = File::options()
            .read(true)
            .write(true)
            .open(NTH)
            .context(NTH)?;
        for (name, value) in SETTINGS {
            let path = format!("/sys/kernel/debug/{name}");
            fs::write(&path, value).context(path)?;
        }
        for cache in fs::read_dir("/sys/kernel/slab")? {
            let cache = cache?;
            let name = cache.file_name().to_string_lossy().into_owned();
            let fails = !DEBUGGING.iter().any(|start| name.starts_with(start));
            // Caches that share their slabs refuse this, and then do not fail.
            let _ = fs::write(cache.path().join("failslab"), if fails { "1" } else { "0" });
        }
        Ok(Self { nth })
    }

    /// Runs `call`, and makes the `nth` place that may fail in it fail. Also returns
    /// whether the call has reached that place.
    pub fn run<T>(&self, nth: usize, call: impl FnOnce() -> T) -> Result<(T, bool)> {
        let text = nth.to_string();
        self.nth.write_all_at(text.as_bytes(), 0)?;
        let result = call();
        // If `call` has not reached the place, this read or this write may fail instead.
        let mut left = [b'1'; 8];
        let read = self.nth.read_at(&mut left, 0);
        let hit = read.is_ok() && left[0] == b'0';
        if self.nth.write_all_at(b"0", 0).is_err() {
            self.nth.write_all_at(b"0", 0)?;
        }
        Ok((result, hit))
    }

    /// How many places that may fail are in a call that ends with an error.
    pub fn count<T>(&self, call: impl FnOnce() -> Result<T, Errno>) -> Result<usize> {
        const HUGE: usize = 1_000_000;
        self.nth.write_all_at(HUGE.to_string().as_bytes(), 0)?;
        let result = call();
        let mut left = [0; 8];
        let len = self.nth.read_at(&mut left, 0)?;
        self.nth.write_all_at(b"0", 0)?;
        ensure!(result.is_err(), "expected an error, but the call succeeded");
        let left: usize = std::str::from_utf8(&left[..len])?.trim().parse()?;
        Ok(HUGE - left)
    }

    /// Runs `call` again and again, and makes one place after the other fail, until the
    /// call has no further place. Each time the call must succeed or end with an
    /// `expected` errno, and succeed when tried again. `done` gets the result, checks it,
    /// and undoes it.
    pub fn sweep<T>(
        &self,
        what: &str,
        expected: &[Errno],
        mut call: impl FnMut() -> Result<T, Errno>,
        mut done: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let mut failed = 0;
        for nth in 1..MANY {
            let place = || format!("{what}, fault {nth}");
            let (seen, hit) = self.run(nth, &mut call)?;
            match seen {
                Ok(value) => done(value).with_context(place)?,
                Err(errno) if hit && expected.contains(&errno) => failed += 1,
                Err(errno) => bail!("{}: got {}", place(), outcome::<()>(&Err(errno))),
            }
            let again = call().context("the next attempt").and_then(&mut done);
            again.with_context(place)?;
            if !hit {
                println!(
                    "{what}: {} faults, of which {failed} made the call fail",
                    nth - 1
                );
                ensure!(failed > 0, "{what}: expected some fault to fail the call");
                return Ok(());
            }
        }
        bail!("{what}: the call has more than {MANY} places that may fail")
    }
}
