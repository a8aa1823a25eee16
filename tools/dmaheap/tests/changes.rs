// SPDX-License-Identifier: MIT OR GPL-2.0

//! A tree of sysfs that changes while it is read, and one with very many devices.

mod tree;

use dmaheap::{Error, System};
use std::fs;
use std::ops::Range;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tree::{OTHERS, Tree};

/// Has a device and a heap come and go, in all the states that are between.
fn change(tree: &Tree, done: &AtomicBool) -> u32 {
    let device = tree.path("sys/devices/platform/vivid.1");
    let heap = tree.path("sys/devices/virtual/dma_heap/system-uncached");
    let away = tree.path("away");
    let mut rounds = 0;
    while !done.load(Ordering::Relaxed) {
        fs::rename(&heap, &away).unwrap();
        fs::rename(&away, &heap).unwrap();
        // One file after the other, as the kernel does.
        fs::remove_dir_all(&device).unwrap();
        fs::create_dir_all(device.join("dma_heaps")).unwrap();
        tree.vivid(1, OTHERS);
        rounds += 1;
    }
    rounds
}

/// Looks at everything, of which only what comes and goes may be missing.
fn look(system: &System) {
    let devices = system.devices().unwrap();
    let stays = devices.iter().find(|device| device.name == "vivid.0");
    let stays = stays.expect("what stays is seen").clone();
    assert_eq!(stays.order.as_deref().unwrap_or_default().len(), 6);
    assert!(system.heaps().unwrap().len() >= 8);
    for handle in ["vivid.1", "video1", "vivid"] {
        match system.device(handle) {
            Ok(found) => drop(system.choose(&[found, stays.clone()]).unwrap()),
            Err(Error::NoSuchDevice(_) | Error::Ambiguous { .. }) => (),
            Err(error) => panic!("{handle}: {error}"),
        }
    }
    let path = stays.path.with_file_name("vivid.1");
    match system.device(path) {
        Ok(_) | Err(Error::NoSuchDevice(_) | Error::NotADevice { .. }) => (),
        Err(error) => panic!("{error}"),
    }
    let choice = system.choose(&[stays]).unwrap();
    assert!(choice.best().is_ok());
}

#[test]
fn what_comes_and_goes_while_one_looks_is_there_or_not() {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    tree.vivid(1, OTHERS);
    let done = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let changes = scope.spawn(|| change(&tree, &done));
        let start = Instant::now();
        let mut looks = 0;
        while start.elapsed() < Duration::from_secs(2) || looks < 50 {
            look(&tree.system());
            looks += 1;
        }
        done.store(true, Ordering::Relaxed);
        changes.join().unwrap()
    });
    assert!(rounds > 10, "{rounds}");
}

/// CPU time of the programs that this one has run, in ticks: fields 16 and 17 by proc_pid_stat(5).
fn worked() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |field: usize| fields[field - 3].parse::<u64>().unwrap();
    ticks(16) + ticks(17)
}

/// These look at all devices, and work in proportion to their number.
#[test]
fn ten_thousand_devices_are_no_problem() {
    let tree = Tree::in_memory();
    tree.vivid(1, OTHERS);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dmaheap"));
        command.arg("--root").arg(tree.path("")).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let grow = |numbers: Range<usize>| {
        for number in numbers.clone() {
            let device = tree.device("platform", "", &format!("platform/d{number}"));
            device.links("");
        }
        let before = worked();
        let said = run(&["devices", "-n", "-o", "DEVICE"]);
        assert_eq!(said.lines().count(), 1 + numbers.end);
        worked() - before
    };
    let few = grow(0..2_500);
    let many = grow(2_500..10_000);
    // Short times are seldom exact.
    assert!(many < 10 * few.max(10), "{few}, {many}");
    assert!(run(&["pick", "vivid"]).ends_with("system-noncoherent\n"));
    let svg = run(&["graph"]);
    assert!(svg.contains("10000 devices that no heap suits"));
}
