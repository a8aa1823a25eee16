// SPDX-License-Identifier: GPL-2.0

//! Failures on demand: the kernel's fault injection, for the calls of one task.

use crate::expect::{outcome, skip};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Where a thread says which place is to fail.
const NTH: &str = "/proc/thread-self/fail-nth";

/// What may fail, and how it has to be set so that it does for `fail-nth`, and
/// quietly. By itself none of that makes anything fail.
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

/// Caches of what the kernel notes while it looks for mistakes. It does without
/// where it cannot allocate that, so that a fault there shows nothing.
const DEBUGGING: [&str; 2] = ["kmemleak_", "debug_objects_"];

/// No call has as many places that may fail.
pub const MANY: usize = 5000;

/// Fault injection for the calling thread.
pub struct Faults {
    nth: File,
}

impl Faults {
    /// Whether the kernel has such a thing.
    pub fn possible() -> bool {
        Path::new(NTH).exists()
    }

    /// Skips the test where it has not.
    pub fn new() -> Result<Self> {
        if !Self::possible() {
            return skip(format!("no {NTH}: the kernel injects no faults"));
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

    /// Runs `call` so that the `nth` place that may fail does; says whether it
    /// came to that.
    pub fn run<T>(&self, nth: usize, call: impl FnOnce() -> T) -> Result<(T, bool)> {
        let text = nth.to_string();
        self.nth.write_all_at(text.as_bytes(), 0)?;
        let result = call();
        // Both may be what fails: then `call` has left one place for them.
        let mut left = [b'1'; 8];
        let read = self.nth.read_at(&mut left, 0);
        let hit = read.is_ok() && left[0] == b'0';
        if self.nth.write_all_at(b"0", 0).is_err() {
            self.nth.write_all_at(b"0", 0)?;
        }
        Ok((result, hit))
    }

    /// How many places that may fail there are in a call that ends with an error.
    pub fn count<T>(&self, call: impl FnOnce() -> Result<T, Errno>) -> Result<usize> {
        const HUGE: usize = 1_000_000;
        self.nth.write_all_at(HUGE.to_string().as_bytes(), 0)?;
        let result = call();
        let mut left = [0; 8];
        let len = self.nth.read_at(&mut left, 0)?;
        self.nth.write_all_at(b"0", 0)?;
        ensure!(result.is_err(), "expected an error, it succeeded");
        let left: usize = std::str::from_utf8(&left[..len])?.trim().parse()?;
        Ok(HUGE - left)
    }

    /// Runs `call` again and again, with the first, the second and each further
    /// place failing, until none is hit any more. It must end well or with an
    /// errno that is `expected`, and well when tried again. `done` gets what it
    /// has returned, looks at that, and undoes it.
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
                println!("{what}: {} faults, {failed} of them failed it", nth - 1);
                ensure!(failed > 0, "{what}: expected some fault to fail the call");
                return Ok(());
            }
        }
        bail!("{what}: more than {MANY} faults")
    }
}
