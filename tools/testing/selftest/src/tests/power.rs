// SPDX-License-Identifier: GPL-2.0

//! Buffers, the pool, and the pool's thread, while CPUs or the whole machine stop and go
//! on.

use super::Test;
use super::pool::{files, leave};
use crate::background::Background;
use crate::expect::skip;
use crate::heap::{BLOCK, Buffer, Heap};
use crate::mapping::{Mapping, page_size};
use crate::memory::{eventually, meminfo};
use crate::options::Options;
use crate::swap::Swap;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Pid;
use rustix::thread::CpuSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub const TESTS: &[Test] = &[
    Test::new(
        "power.cpu_unplug",
        "buffers come and go, and the pool's thread works on, while its CPU is switched off",
        cpu_unplug,
    ),
    Test::new(
        "power.suspend",
        "buffers outlive each step of suspend, and the pool's thread works on afterwards",
        suspend,
    ),
    Test::new(
        "power.hibernate",
        "buffers are the same after hibernation, and the pool's thread works on",
        hibernate,
    ),
];

/// The CPU that is switched off. The first often cannot be.
const CPU: usize = 1;

/// Sets a file of the kernel to a value until this is dropped.
struct Setting<'a> {
    path: &'a Path,
    after: String,
}

impl<'a> Setting<'a> {
    fn new(path: &'a Path, value: &str, after: impl Into<String>) -> Result<Self> {
        fs::write(path, value).with_context(|| format!("{}: {value}", path.display()))?;
        let after = after.into();
        Ok(Self { path, after })
    }
}

impl Drop for Setting<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, &self.after) {
            println!("cannot set {} back: {error}", self.path.display());
        }
    }
}

/// The pool's thread.
struct Worker {
    pid: Pid,
    time: Background,
}

impl Worker {
    fn find() -> Result<Self> {
        let time = Background::find()?;
        let &[pid] = time.pids() else {
            bail!("expected one thread, got {:?}", time.pids());
        };
        Ok(Self {
            pid: Pid::from_raw(pid).context("a thread without a number")?,
            time,
        })
    }

    /// Lets it run on these CPUs only, as long as one of them is online.
    fn confine(&self, cpus: impl IntoIterator<Item = usize>) -> Result<()> {
        let mut set = CpuSet::new();
        cpus.into_iter().for_each(|cpu| set.set(cpu));
        rustix::thread::sched_setaffinity(Some(self.pid), &set).context("sched_setaffinity")
    }

    /// The CPU that it has run on last.
    fn cpu(&self) -> Result<usize> {
        let path = format!("/proc/{}/stat", self.pid.as_raw_nonzero());
        let text = fs::read_to_string(&path).context(path)?;
        // The second field is in brackets, and may contain anything. This is the 39th field.
        let (_, fields) = text.rsplit_once(") ").context("no name")?;
        let field = fields.split(' ').nth(36).context("too few fields")?;
        Ok(field.parse()?)
    }

    /// Gives the thread work, and waits until it has done some on a CPU that is `wanted`.
    fn works(&self, heap: &Heap, wanted: impl Fn(usize) -> bool) -> Result<()> {
        let before = self.time.used()?;
        leave(heap, BLOCK)?;
        let works = eventually(|| Ok(self.time.used()? > before && wanted(self.cpu()?)))?;
        ensure!(
            works,
            "the thread has done nothing, or only on CPU {}",
            self.cpu()?
        );
        Ok(())
    }
}

/// Allocates buffers in one thread for as long as `body` takes in this one.
fn beside_allocation<T>(heap: &Heap, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = &AtomicBool::new(false);
    let allocate = move || -> Result<u32> {
        let mut count = 0;
        while !done.load(Ordering::Relaxed) {
            for len in [page_size(), 96 << 10, 1 << 20, BLOCK] {
                let mapping = heap.alloc(len)?.map()?;
                mapping.expect_zeroed("a new buffer")?;
                mapping.fill(0x5a);
                count += 1;
            }
        }
        Ok(count)
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(allocate);
        let result = body();
        done.store(true, Ordering::Relaxed);
        let count = thread.join().unwrap_or_else(|_| bail!("panicked"));
        println!("{} buffers meanwhile", count.context("allocating")?);
        result
    })
}

fn cpu_unplug(options: &Options) -> Result<()> {
    drop(files(options)?);
    let switch = format!("/sys/devices/system/cpu/cpu{CPU}/online");
    let switch = Path::new(&switch);
    if !switch.exists() {
        return skip(format!("CPU {CPU} is not there, or cannot be switched off"));
    }
    let heap = &options.heap()?;
    let worker = Worker::find()?;
    let result = beside_allocation(heap, || {
        for round in 0..options.rounds {
            let what = || format!("round {round}");
            worker.confine([CPU])?;
            worker.works(heap, |cpu| cpu == CPU).with_context(what)?;
            let _off = Setting::new(switch, "0", "1")?;
            worker.works(heap, |cpu| cpu != CPU).with_context(what)?;
        }
        Ok(())
    });
    worker.confine(0..CpuSet::MAX_CPU)?;
    result
}

/// Buffers of several sizes with something in them.
fn stamped(heap: &Heap) -> Result<Vec<(Buffer, Mapping)>> {
    let sizes = [page_size(), 100 << 10, BLOCK, BLOCK + (1 << 20)];
    let make = |(len, tag)| {
        let buffer = heap.alloc(len)?;
        let mapping = buffer.map()?;
        mapping.stamp(tag);
        Ok((buffer, mapping))
    };
    sizes.into_iter().zip(1..).map(make).collect()
}

/// How to suspend, and the steps after which the kernel can be told to go back.
fn ways() -> Result<(&'static str, &'static [&'static str])> {
    // To RAM if the machine can do that. Suspend to idle has fewer steps.
    let modes = fs::read_to_string("/sys/power/mem_sleep").unwrap_or_default();
    let (mode, steps): (_, &[_]) = if modes.contains("deep") {
        fs::write("/sys/power/mem_sleep", "deep").context("mem_sleep")?;
        (
            "mem",
            &["freezer", "devices", "platform", "processors", "core"],
        )
    } else {
        ("freeze", &["freezer", "devices", "platform"])
    };
    Ok((mode, if has_ports() { &steps[..1] } else { steps }))
}

/// Whether the output goes through virtio ports. These take no output any more once they have been
/// suspended: Linux 7.3 asks for their state before it can get an answer.
fn has_ports() -> bool {
    fs::read_dir("/sys/class/virtio-ports").is_ok_and(|dir| dir.count() > 0)
}

/// Fails unless buffers hold what they were given by `stamped()`.
fn expect_all_stamped(what: &str, buffers: &[(Buffer, Mapping)]) -> Result<()> {
    let mut buffers = buffers.iter().zip(1..);
    buffers.try_for_each(|((_, mapping), tag)| mapping.expect_stamped(what, tag, 0))
}

fn suspend(options: &Options) -> Result<()> {
    drop(files(options)?);
    let test = Path::new("/sys/power/pm_test");
    let state = Path::new("/sys/power/state");
    let delay = Path::new("/sys/module/suspend/parameters/pm_test_delay");
    if !test.exists() {
        return skip("the kernel cannot suspend, or lacks CONFIG_PM_SLEEP_DEBUG");
    }
    let heap = &options.heap()?;
    let worker = Worker::find()?;
    let buffers = stamped(heap)?;
    // The number of seconds until the kernel goes back by itself.
    let _delay = Setting::new(delay, "0", fs::read_to_string(delay)?)?;
    let (mode, steps) = ways()?;
    for step in steps {
        let _test = Setting::new(test, step, "none")?;
        beside_allocation(heap, || {
            // The thread should have work when it is stopped.
            for _ in 0..3 {
                leave(heap, BLOCK)?;
            }
            fs::write(state, mode).with_context(|| format!("{mode}, no further than {step}"))?;
            worker.works(heap, |_| true)
        })
        .with_context(|| format!("after {step}"))?;
        expect_all_stamped(&format!("after {step}"), &buffers)?;
    }
    println!("{mode}: {}", steps.join(", "));
    Ok(())
}

/// The kernel saves its memory, and restores it at once, as it would after a reboot.
fn hibernate(options: &Options) -> Result<()> {
    drop(files(options)?);
    let (way, state) = (Path::new("/sys/power/disk"), Path::new("/sys/power/state"));
    let ways = fs::read_to_string(way).unwrap_or_default();
    if !ways.contains("test_resume") {
        return skip("the kernel cannot hibernate: try one with CONFIG_HIBERNATION");
    }
    if has_ports() {
        return skip("this guest could print nothing afterwards: the groups *-sleep run this test");
    }
    let mut words = ways.split_whitespace();
    let chosen = words.find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    let heap = &options.heap()?;
    let worker = Worker::find()?;
    let buffers = stamped(heap)?;
    let _swap = Swap::new(meminfo("MemTotal")?)?;
    let _way = Setting::new(way, "test_resume", chosen.context("no way is chosen")?)?;
    beside_allocation(heap, || {
        fs::write(state, "disk").context("hibernation")?;
        worker.works(heap, |_| true)
    })?;
    expect_all_stamped("after hibernation", &buffers)
}
