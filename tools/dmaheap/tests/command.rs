// SPDX-License-Identifier: MIT OR GPL-2.0

//! The command over made-up trees: what it prints, and its exit status.

mod tree;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use tree::{OTHERS, SNOOPING, Tree};

/// What the command said.
struct Said {
    status: i32,
    out: String,
    err: String,
}

fn dmaheap(root: &Path, arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_dmaheap"))
        .arg("--root")
        .arg(root)
        .args(arguments)
        .output()
        .expect("the command runs");
    Said {
        status: output.status.code().expect("no signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn json(root: &Path, arguments: &[&str]) -> serde_json::Value {
    let said = dmaheap(root, &[&["--json"], arguments].concat());
    assert_eq!(said.err, "", "{arguments:?}");
    let value: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(value["version"], 3);
    value
}

fn machine() -> Tree {
    let tree = Tree::new();
    tree.vivid(0, OTHERS);
    tree.card(2, SNOOPING);
    tree
}

#[test]
fn pick_prints_the_path_alone() {
    let tree = machine();
    let said = dmaheap(&tree.path(""), &["pick", "vivid.0", "00:02.0"]);
    let path = tree.path("dev/dma_heap/system-noncoherent");
    assert_eq!(
        (said.status, said.out),
        (0, format!("{}\n", path.display()))
    );
    assert_eq!(said.err, "");
}

#[test]
fn pick_explains_below_the_path() {
    let tree = machine();
    let root = tree.path("");
    let said = dmaheap(&root, &["pick", "--explain", "vivid.0", "00:02.0"]);
    let path = tree.path("dev/dma_heap/system-noncoherent");
    assert_eq!(said.out.lines().next(), path.to_str());
    assert_eq!(said.err, "");
    for line in [
        "system-noncoherent: the best that fits and may be opened (worst place 1, sum of places 2)",
        "system: fits, and stands behind the best (worst place 3, sum of places 6)",
        "system-coherent: vivid.0 does not snoop the CPU caches",
    ] {
        assert!(
            said.out.lines().any(|said| said == line),
            "{line}\n{}",
            said.out
        );
    }
    tree.vivid(1, "system-uncached");
    let none = dmaheap(&root, &["pick", "--explain", "vivid.1", "00:02.0"]);
    assert_eq!(none.status, 1);
    assert!(!none.out.starts_with('/'), "{}", none.out);
    let objection = "\nsystem: vivid.1 does not reach all of its memory without bounce buffers\n";
    assert!(none.out.contains(objection), "{}", none.out);
    assert_eq!(none.err.lines().count(), 1, "{}", none.err);
}

/// What others write to the same place stands before or behind, and not in between.
#[test]
fn one_message_is_one_write() {
    let tree = machine();
    for (arguments, wanted) in [
        (&["pick", "--explain", "vivid.0"][..], 1),
        (&["devices"], 1),
        (&["--json", "list"], 1),
        (&["pick", "nonesuch"], 1),
        // What is there, and that nothing is known of attached devices.
        (&["buffers"], 2),
    ] {
        let (writer, reader) = UnixDatagram::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dmaheap"));
        command.arg("--root").arg(tree.path("")).args(arguments);
        command.stdout(OwnedFd::from(writer.try_clone().unwrap()));
        command.stderr(OwnedFd::from(writer));
        command.status().unwrap();
        reader.set_nonblocking(true).unwrap();
        let mut message = vec![0; 1 << 20];
        let writes = std::iter::from_fn(|| reader.recv(&mut message).ok()).count();
        assert_eq!(writes, wanted, "{arguments:?}");
    }
}

/// As scripts want it, and as lsblk has it.
#[test]
fn columns_units_and_headings_can_be_chosen() {
    let tree = machine();
    let root = tree.path("");
    let out = |arguments: &[&str]| dmaheap(&root, arguments).out;
    for arguments in [
        &["list", "-n", "-b", "-o", "heap,CAPACITY,bytes,Limit"][..],
        &[
            "list",
            "--no-legend",
            "--bytes",
            "--output",
            "HEAP,CAPACITY,BYTES,LIMIT",
        ],
    ] {
        let said = out(arguments);
        let words: Vec<_> = said.lines().nth(5).unwrap().split_whitespace().collect();
        assert_eq!(words, ["system", "17179869184", "?", "-"], "{said}");
        assert_eq!(said.lines().count(), 9);
    }
    assert_eq!(
        out(&["list", "-o", "CAPACITY"]).lines().nth(1),
        Some("  64 MiB")
    );
    let devices = "DEVICE        HEAPS\n\
                   0000:00:02.0  system-coherent default_cma_region-coherent";
    let said = out(&["devices", "-o", "DEVICE,HEAPS"]);
    assert!(said.starts_with(devices), "{said}");
    assert!(
        said.lines()
            .nth(1)
            .unwrap()
            .ends_with(" default_cma_region")
    );
    assert_eq!(out(&["buffers", "-n"]), "");
    assert_eq!(out(&["buffers", "-o", "NAME,SIZE"]), "NAME  SIZE\n");
}

#[test]
fn standard_output_may_be_full_closed_or_a_pipe_that_nobody_reads() {
    let tree = machine();
    let (unread, _) = UnixStream::pair().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let problem = "dmaheap: writing to standard output: No space left on device";
    for (stdout, status, sentence) in [
        (OwnedFd::from(full), 3, problem),
        (OwnedFd::from(unread), 0, ""),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dmaheap"));
        command.arg("--root").arg(tree.path("")).arg("list");
        let output = command.stdout(stdout).output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(sentence), "{said}");
        assert_eq!(said.is_empty(), sentence.is_empty(), "{said}");
    }
    // In a session of its own it has no terminal either.
    for closed in [
        "exec \"$0\" --root \"$1\" list >&-",
        "exec setsid -w \"$0\" --root \"$1\" list <&- >&- 2>&-",
    ] {
        let mut shell = Command::new("sh");
        shell.args(["-c", closed]);
        shell.arg(env!("CARGO_BIN_EXE_dmaheap")).arg(tree.path(""));
        let output = shell.output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr),
            (Some(0), Vec::new()),
            "{closed}"
        );
    }
}

#[test]
fn without_a_command_it_lists_the_heaps() {
    let tree = machine();
    let root = tree.path("");
    assert_eq!(dmaheap(&root, &[]).out, dmaheap(&root, &["list"]).out);
    assert_eq!(json(&root, &[]), json(&root, &["list"]));
}

#[test]
fn pick_takes_size_and_brackets_into_account() {
    let tree = machine();
    let root = tree.path("");
    for (arguments, heap) in [
        (&["--size", "64M"][..], "default_cma_region-noncoherent"),
        (&["--size", "65M"], "system-noncoherent"),
        (
            &["--without-brackets", "--size", "64M"],
            "default_cma_region-uncached",
        ),
        (&["--without-brackets", "--size", "65M"], "system-uncached"),
    ] {
        // It prefers contiguous memory.
        tree.vivid(
            7,
            "default_cma_region-noncoherent system-noncoherent default_cma_region-uncached \
             system-uncached",
        );
        let said = dmaheap(&root, &[&["pick", "vivid.7"], arguments].concat());
        let path = tree.path("dev/dma_heap").join(heap);
        assert_eq!(said.out, format!("{}\n", path.display()), "{arguments:?}");
    }
}

/// Each bad input has its sentence and its exit status, and prints nothing else.
#[test]
fn bad_input_gets_a_sentence_and_a_status() {
    let tree = machine();
    tree.vivid(1, "system-uncached");
    tree.device("platform", "", "platform/bare");
    // As in a container that has been given no heaps.
    tree.heap("hidden");
    tree.number("hidden", "252:9");
    for (name, order, constraints) in [
        ("nodeless", "hidden", "0 64 0 any"),
        ("strict", SNOOPING, "1 64 0 any"),
        ("isp", "system-noncoherent", "0 64 0 any"),
        ("vpu", "", "0 32 0 one"),
    ] {
        tree.device("platform", "", &format!("platform/{name}"))
            .links(order)
            .constraints(constraints);
    }
    let root = tree.path("");
    let file = tree.path("sys/module/dmabuf_coherency/parameters/links");
    let file = file.to_str().unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["pick"], 2, "required arguments"),
        (
            &["pick", "vivid.1", "00:02.0"],
            1,
            "no heap fits all of these devices: copy between",
        ),
        (
            &["pick", "/dev/video99"],
            3,
            "there is no device /dev/video99",
        ),
        (&["pick", "/dev/null"], 3, "the device of /dev/null is gone"),
        (&["pick", file], 3, "a file, and no device node"),
        (
            &["pick", "bare"],
            3,
            "nothing is known of bare: it has no driver",
        ),
        (
            &["pick", "vivid"],
            3,
            "stands for several devices: name one of vivid.0 and vivid.1",
        ),
        (
            &["pick", "--size", "64T", "vivid.0"],
            3,
            "no heap that fits all of these devices has memory for 70368744177664 bytes",
        ),
        (
            &["alloc", "--for", "vivid.0", "--size", "64T"],
            3,
            "has memory for 70368744177664 bytes",
        ),
        (
            &["pick", "--contiguous", "vivid.1"],
            1,
            "no heap that fits all of these devices is contiguous: reserve",
        ),
        (
            &["pick", "--without-brackets", "strict", "isp"],
            1,
            "right without brackets, because of those that are not known to snoop the CPU caches: \
             isp. Bracket each access of the CPU by DMA_BUF_IOCTL_SYNC",
        ),
        (
            &[
                "alloc",
                "--without-brackets",
                "--size",
                "1",
                "--for",
                "strict",
                "isp",
            ],
            1,
            "right without brackets",
        ),
        (
            &["pick", "vpu", "00:02.0"],
            1,
            "no heap suits vpu: it needs each buffer in one physical piece",
        ),
        (&["pick", "--size", "0", "vivid.0"], 2, "at least 1 byte"),
        (&["alloc", "--size", "8M"], 2, "--for"),
        (
            &[
                "alloc",
                "--heap",
                "system",
                "--size",
                "1",
                "--without-brackets",
            ],
            2,
            "cannot be used with",
        ),
        (
            &["alloc", "--heap", "system", "--size", "1", "--contiguous"],
            2,
            "cannot be used with",
        ),
        (&["alloc", "--for", "vivid.0"], 2, "--size"),
        (
            &["alloc", "--for", "vivid.0", "--size", "0"],
            2,
            "a buffer has at least 1 byte",
        ),
        (
            &["alloc", "--for", "vivid.0", "--size", "8Q"],
            2,
            "Q is no unit",
        ),
        (
            &["alloc", "--for", "vivid.0", "--size", "99999999T"],
            2,
            "64 bits",
        ),
        (
            &["alloc", "--heap", "x", "--size", "1"],
            3,
            "there is no heap x: there are default_cma",
        ),
        (
            &["pick", "nodeless"],
            3,
            "hidden fits, but no node has the heap's device number, neither",
        ),
        (
            &["alloc", "--for", "nodeless", "--size", "1"],
            3,
            "mount devtmpfs on /dev, or give the node to the container (--device ",
        ),
        (&["buffers", "--follow=0"], 2, "an interval is in seconds"),
        (
            &["buffers", "--follow", "--totals"],
            2,
            "cannot be used with",
        ),
        (&["bench", "--samples", "0"], 2, "0 is not in 1.."),
        (&["bench", "--size", "4K,0"], 2, "at least 1 byte"),
        (&["bench", "--heap", "x"], 3, "there is no heap x"),
        (&["try"], 2, "required arguments"),
        (&["try", "--heap", "x", "vivid.0"], 3, "there is no heap x"),
        (
            &["try", "nodeless"],
            3,
            "nodeless has no node to try: name another device",
        ),
        (
            &["try", "card2"],
            3,
            "/dev/dri/card2: No such file or directory",
        ),
        (&["try", "--size", "0", "card2"], 2, "at least 1 byte"),
        (
            &["buffers", "--pid", "999999999"],
            3,
            "there is no process 999999999",
        ),
        (
            &["devices", "-o", "DEVICE,nonesuch"],
            2,
            "there is no column nonesuch: there are DEVICE, BUS, DRIVER, SNOOPS, REACHES, PIECES, \
             NODES, HEAPS",
        ),
        (&["nonesuch"], 2, "unrecognized subcommand"),
    ];
    for (arguments, status, sentence) in cases {
        let said = dmaheap(&root, arguments);
        assert_eq!(said.status, *status, "{arguments:?}: {}", said.err);
        assert!(said.err.contains(sentence), "{arguments:?}: {}", said.err);
        assert_eq!(said.out, "", "{arguments:?}");
    }
}

#[test]
fn a_kernel_without_heaps_is_told_so() {
    let tree = Tree::empty();
    for arguments in [&["list"][..], &["graph"], &["pick", "/dev/null"]] {
        let said = dmaheap(&tree.path(""), arguments);
        assert_eq!((said.status, said.out.as_str()), (3, ""), "{arguments:?}");
    }
    let said = dmaheap(&tree.path(""), &["list"]);
    assert!(
        said.err.contains("this kernel has no DMA heaps"),
        "{}",
        said.err
    );
    let said = dmaheap(&tree.path(""), &["devices"]);
    assert_eq!(said.status, 0);
    assert!(
        said.err.contains("there is no device with a node"),
        "{}",
        said.err
    );
}

/// That nothing is there to read is not said of the kernel.
#[test]
fn a_root_has_to_be_a_directory_with_sysfs_and_proc() {
    let tree = machine();
    for (root, problem) in [
        ("nonesuch", "No such file or directory"),
        (
            "sys/module/dmabuf_coherency/parameters/links",
            "it is no directory",
        ),
    ] {
        let said = dmaheap(&tree.path(root), &["list"]);
        assert_eq!((said.status, said.out.as_str()), (2, ""), "{root}");
        assert!(
            said.err.contains("for '--root <DIRECTORY>'"),
            "{}",
            said.err
        );
        assert!(said.err.contains(problem), "{}", said.err);
    }
    // The files of a container that does not run.
    let files = Tree::empty();
    for directory in ["dev", "etc", "proc", "sys"] {
        files.directory(directory);
    }
    for (arguments, status) in [(&["list"][..], 3), (&["devices"], 0), (&["buffers"], 0)] {
        let said = dmaheap(&files.path(""), arguments);
        assert_eq!(said.status, status, "{arguments:?}");
        for directory in ["sys", "proc"] {
            let place = files.path(directory);
            let note = format!("dmaheap: nothing is mounted on {}: try ", place.display());
            assert_eq!(said.err.matches(&note).count(), 1, "{}", said.err);
        }
    }
    let said = dmaheap(&tree.path(""), &["list"]);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
}

/// All heaps of a machine, with what one wants to know first.
#[test]
fn heaps_are_listed_in_80_columns() {
    let tree = machine();
    let said = dmaheap(&tree.path(""), &["list"]);
    let expected = [
        "HEAP                            DEVICES       CPU-MAPPING      PIECES  MAY-USE",
        "default_cma_region              any           write-back       one     yes",
        "default_cma_region-coherent     snooping      write-back       one     yes",
        "default_cma_region-noncoherent  any           write-back       one     yes",
        "default_cma_region-uncached     non-snooping  write-combining  one     yes",
        "reserved                        any           write-back       one     yes",
        "system                          any           write-back       any     yes",
    ];
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines[..expected.len()], expected);
    let longest = lines.iter().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{longest:?}");
    let all = dmaheap(&tree.path(""), &["list", "-v"]).out;
    let headings = all.lines().next().unwrap();
    assert!(
        headings.ends_with("MAY-USE  CAPACITY  BUFFERS  BYTES  LIMIT  REFUSED"),
        "{headings}"
    );
}

/// Help is for 80 columns where nobody says how wide the terminal is, as in a pipe.
#[test]
fn help_has_80_columns() {
    let root = Tree::empty();
    for verb in [
        "", "list", "devices", "pick", "alloc", "try", "buffers", "bench", "graph", "watch",
    ] {
        for long in ["-h", "--help"] {
            let arguments: Vec<_> = [verb, long]
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect();
            let said = dmaheap(&root.path(""), &arguments);
            assert_eq!((said.status, said.err.as_str()), (0, ""), "{arguments:?}");
            for line in said.out.lines() {
                assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
            }
        }
    }
}

#[test]
fn a_kernel_without_the_module_is_no_failure() {
    let tree = Tree::without_module();
    tree.device("platform", "vivid", "platform/vivid.0")
        .node("video4linux", "video0", (81, 0));
    let root = tree.path("");
    let said = dmaheap(&root, &["list", "-v"]);
    assert_eq!(said.status, 0);
    assert!(
        said.err.contains("try `modprobe dmabuf_coherency`"),
        "{}",
        said.err
    );
    let system: Vec<_> = said
        .out
        .lines()
        .last()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        system,
        [
            "system",
            "any",
            "write-back",
            "any",
            "yes",
            "?",
            "?",
            "?",
            "-",
            "?"
        ]
    );
    let said = dmaheap(&root, &["devices"]);
    assert_eq!(said.status, 0);
    let node = tree.path("dev/video0");
    let expected = [
        "DEVICE   BUS       DRIVER  SNOOPS  REACHES  PIECES",
        "vivid.0  platform  vivid   no      ?        ?",
        &format!("    nodes: {}", node.display()),
        "    heaps: ?",
    ];
    assert_eq!(said.out.lines().collect::<Vec<_>>(), expected);
    let said = dmaheap(&root, &["pick", "video0"]);
    assert_eq!((said.status, said.out.as_str()), (3, ""));
    assert!(
        said.err.contains("The heap system takes any device"),
        "{}",
        said.err
    );
}

#[test]
fn json_says_the_same() {
    let tree = machine();
    tree.vivid(1, "system-uncached");
    let root = tree.path("");
    let list = json(&root, &["list"]);
    assert_eq!(list["module_loaded"], true);
    assert_eq!(list["heaps"].as_array().unwrap().len(), 9);
    let devices = json(&root, &["devices"]);
    assert_eq!(devices["devices"][0]["name"], "0000:00:02.0");
    assert_eq!(devices["devices"][0]["order"][0], "system-coherent");
    let pick = json(&root, &["pick", "vivid.0", "card2"]);
    assert_eq!(pick["heap"]["name"], "system-noncoherent");
    assert_eq!(pick["problem"], serde_json::Value::Null);
    assert_eq!(pick["fits"][0]["worst_place"], 1);
    let none = json(&root, &["pick", "vivid.1", "card2"]);
    assert_eq!(none["heap"], serde_json::Value::Null);
    assert!(
        none["problem"]
            .as_str()
            .unwrap()
            .starts_with("no heap fits")
    );
    assert_eq!(
        dmaheap(&root, &["--json", "pick", "vivid.1", "card2"]).status,
        1
    );
    let error = json(&root, &["pick", "nonesuch"]);
    assert!(
        error["error"]
            .as_str()
            .unwrap()
            .starts_with("there is no device nonesuch")
    );
    assert_eq!(dmaheap(&root, &["--json", "pick", "nonesuch"]).status, 3);
}

/// What each device needs is in the table of devices, in no more than 80 columns.
#[test]
fn devices_are_listed_with_what_they_need() {
    let tree = Tree::new();
    for (name, order, constraints) in [
        ("fdea0000.video-codec", "default_cma_region", "0 32 0 one"),
        ("fe000000.gpu", OTHERS, "0 40 1 any"),
        ("fe100000.npu", "", "1 0 0 unknown"),
    ] {
        tree.device("platform", "rockchip-vop2", &format!("platform/{name}"))
            .links(order)
            .constraints(constraints);
    }
    tree.device("platform", "vivid", "platform/vivid.0")
        .node("video4linux", "radio0", (81, 2))
        .node("video4linux", "video10", (81, 1))
        .node("video4linux", "video9", (81, 0));
    let said = dmaheap(&tree.path(""), &["devices", "-v"]);
    let node = |name: &str| tree.path("dev").join(name).display().to_string();
    let expected = [
        "DEVICE                BUS       DRIVER         SNOOPS  REACHES  PIECES",
        "fdea0000.video-codec  platform  rockchip-vop2  no      32 bits  one",
        "    heaps: default_cma_region",
        "fe000000.gpu          platform  rockchip-vop2  no      IOMMU    any",
        "    heaps: system-noncoherent default_cma_region-noncoherent system",
        "        default_cma_region system-uncached default_cma_region-uncached",
        "fe100000.npu          platform  rockchip-vop2  yes     none     unknown",
        "    heaps: none suits it",
        "vivid.0               platform  vivid          no      ?        ?",
        &format!("    nodes: {} {}", node("video9"), node("video10")),
        &format!("        {}", node("radio0")),
        "    heaps: ?",
    ];
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(lines, expected);
    let said = dmaheap(&tree.path(""), &["devices"]);
    let lines: Vec<_> = said.out.lines().collect();
    let heaps = "    heaps: system-noncoherent default_cma_region-noncoherent system and 3 more";
    assert_eq!(lines[4], heaps);
    assert!(lines[8].ends_with(" and 1 more") || lines[8].ends_with("radio0"));
    for line in lines {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

/// `--explain` begins with what the devices need.
#[test]
fn what_devices_need_is_part_of_the_explanation() {
    let tree = machine();
    tree.device("platform", "vpu", "platform/vpu.0")
        .links("default_cma_region-noncoherent")
        .constraints("0 32 0 one");
    let said = dmaheap(&tree.path(""), &["pick", "--explain", "vpu.0", "card2"]);
    assert_eq!(said.status, 0);
    for line in [
        "vpu.0: does not snoop the CPU caches, reaches 32 address bits, needs one piece",
        "0000:00:02.0: snoops the CPU caches, reaches 64 address bits, takes any number of pieces",
        "system: vpu.0 needs each buffer in one physical piece, and this heap does not promise that",
    ] {
        assert!(
            said.out.lines().any(|said| said == line),
            "{line}\n{}",
            said.out
        );
    }
}

/// A process and debugfs with so many buffers.
fn with_buffers(count: u32) -> Tree {
    let tree = machine();
    let inodes = 1000..1000 + count;
    let row = |inode| {
        format!(
            "00004096\t00000002\t00080007\t00000001\tsystem\t{inode:08}\tframe\n\
             \tAttached Devices:\nTotal 0 devices attached\n\n"
        )
    };
    let mapping = |inode| format!("7f00-7f10 rw-s 00000000 00:0c {inode}   /dmabuf:frame\n");
    let listed: String = inodes.clone().map(row).collect();
    let mapped: String = inodes.map(mapping).collect();
    tree.file("sys/kernel/debug/dma_buf/bufinfo", &listed);
    tree.file("proc/42/maps", &mapped);
    tree.file("proc/42/comm", "cam\n");
    tree.directory("proc/42/fd");
    tree
}

#[test]
fn totals_are_by_exporter_process_and_kernel() {
    let tree = with_buffers(3);
    tree.file(
        "proc/43/maps",
        "7f00-7f10 rw-s 00000000 00:0c 1001   /dmabuf:frame\n",
    );
    tree.file("proc/43/comm", "show\n");
    tree.directory("proc/43/fd");
    let said = dmaheap(&tree.path(""), &["buffers", "--totals"]);
    let expected = [
        "OF        NAME      BUFFERS   BYTES   SHARE",
        "exporter  system          3  12 KiB  12 KiB",
        "process   cam[42]         3  12 KiB  10 KiB",
        "process   show[43]        1   4 KiB   2 KiB",
        "kernel    -               0     0 B     0 B",
    ];
    assert_eq!(said.out.lines().collect::<Vec<_>>(), expected);
}

/// It tells what changes, and ends when nobody reads.
#[test]
fn buffers_are_followed_until_nobody_reads() {
    let tree = with_buffers(1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmaheap"));
    command.arg("--root").arg(tree.path(""));
    command.args(["buffers", "--follow=0.01"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(next(), "present  1000 4 KiB system frame cam[42] mapped\n");
    let row = "00004096\t00000002\t00080007\t00000001\tsystem\t00001001\ta\tb\n";
    // All at once.
    let replace = |text: &str| {
        tree.file("sys/kernel/debug/dma_buf/next", text);
        let path = |name| tree.path("sys/kernel/debug/dma_buf").join(name);
        fs::rename(path("next"), path("bufinfo")).unwrap();
    };
    replace(row);
    assert_eq!(next(), "new      1001 4 KiB system a\\tb\n");
    replace(&format!("{row}\tAttached Devices:\n\tvivid.0\n"));
    assert_eq!(next(), "attached 1001 4 KiB system a\\tb to vivid.0\n");
    replace("");
    assert_eq!(next(), "gone     1001 4 KiB system a\\tb\n");
    drop(lines);
    assert!(child.wait().unwrap().success());
}

/// Sixteen times as many buffers take about sixteen times as long. If each was looked for among all,
/// it would be 256 times. A busy machine does not bring the one near the other.
#[test]
fn many_buffers_are_listed_in_linear_time() {
    let time = |count| {
        let tree = with_buffers(count);
        let run = || {
            let start = Instant::now();
            let said = dmaheap(&tree.path(""), &["buffers"]);
            assert_eq!(said.out.lines().count(), 1 + count as usize);
            start.elapsed()
        };
        (0..3).map(|_| run()).min().unwrap()
    };
    let (few, many) = (time(1_250), time(20_000));
    assert!(many < 64 * few, "{few:?}, {many:?}");
}

/// Names of buffers and of processes are other people's.
#[test]
fn names_neither_move_the_cursor_nor_forge_rows() {
    let tree = machine();
    let row = "00004096\t00000002\t00080007\t00000001\tsystem\t00000018";
    let names = ["\x1b[2J\x1b[31m", "a\tb", "\u{9b}31m\r\x7f"];
    let listed = names.map(|name| format!("{row}\t{name}\n\tAttached Devices:\n"));
    for (number, listed) in listed.iter().enumerate() {
        let inode = format!("0000001{number}");
        let path = "sys/kernel/debug/dma_buf/bufinfo";
        tree.file(path, &listed.replace("00000018", &inode));
        let root = tree.path("");
        let said = dmaheap(&root, &["buffers"]);
        assert_eq!(said.out.lines().count(), 2, "{}", said.out);
        let is_plain = |text: &str| text.lines().all(|line| !line.contains(char::is_control));
        assert!(is_plain(&said.out), "{:?}", said.out);
        let json = dmaheap(&root, &["--json", "buffers"]);
        assert!(is_plain(&json.out), "{:?}", json.out);
        let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(value["buffers"][0]["name"], names[number]);
        let error = dmaheap(&root, &["pick", names[number]]);
        assert!(is_plain(&error.err), "{:?}", error.err);
        assert_eq!(error.err.lines().count(), 1);
    }
    tree.file(
        "sys/kernel/debug/dma_buf/bufinfo",
        &format!("{row}\tframe\n"),
    );
    tree.file("proc/42/comm", "cam\n42 system\x1b[m\n");
    tree.directory("proc/42/fd");
    tree.file(
        "proc/42/maps",
        "7f00-7f10 rw-s 00000000 00:0c 18   /dmabuf:frame\n",
    );
    let said = dmaheap(&tree.path(""), &["buffers"]);
    let held_by = r"cam\n42 system\u{1b}[m[42] mapped";
    assert!(said.out.contains(held_by), "{}", said.out);
}

/// A hundred devices of four kinds.
fn crowd() -> Tree {
    let tree = Tree::new();
    for number in 0..64 {
        tree.vivid(number, OTHERS);
    }
    for number in 0..10 {
        tree.card(number, SNOOPING);
    }
    for number in 0..20 {
        tree.device("usb", "uvcvideo", &format!("usb{number}/{number}-1:1.0"))
            .node(
                "video4linux",
                &format!("video{}", 100 + number),
                (82, number),
            )
            .links(OTHERS);
    }
    for number in 0..6 {
        tree.device(
            "platform",
            "loop\"<back>&",
            &format!("platform/loop.{number}"),
        )
        .node(
            "video4linux",
            &format!("video{}", 200 + number),
            (83, number),
        );
    }
    tree
}

#[test]
fn a_hundred_devices_can_be_drawn() {
    let tree = crowd();
    let root = tree.path("");
    let svg = dmaheap(&root, &["graph"]).out;
    // Three groups: those that snoop, those that do not, those of which nothing is known.
    assert_eq!(svg.matches("<g class=\"group\"").count(), 3);
    assert_eq!(svg.matches("<path ").count(), 6 + 6);
    assert_eq!(svg.matches("<path class=\"best\"").count(), 2);
    // One for each device and heap.
    assert_eq!(svg.matches("<title>").count(), 100 + 9);
    // Names stand there in full, with their nodes.
    assert!(svg.contains(">vivid.63 (video63)</text>"));
    let words = svg.split_once("<desc id=\"words\">").unwrap().1;
    let words = words.split_once("</desc>").unwrap().0;
    for sentence in [
        "10 devices, best with system-coherent, then default_cma_region-coherent, then ",
        "; bochs-drm (pci), snoops: 0000:00:00.0 (card0), 0000:00:01.0 (card1), ",
        "6 devices of which nothing is known; loop&quot;&lt;back&gt;&amp; (platform), does not snoop",
        "Heap system: any device, write-back.",
    ] {
        assert!(words.contains(sentence), "{sentence}\n{words}");
    }
    assert!(svg.contains("prefers-color-scheme:dark"));
    // What has a colour of its own has one for either.
    assert_eq!(svg.matches(" fill=").count(), 0);
    assert!(svg.contains("loop&quot;&lt;back&gt;&amp; (platform), does not snoop"));
    assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
    let dot = dmaheap(&root, &["graph", "--format", "dot"]).out;
    assert_eq!(dot.matches(" -> ").count(), 6 + 6);
    assert_eq!(dot.matches("penwidth=3").count(), 2);
    assert!(
        dot.contains(r#"loop\"<back>& (platform), does not snoop:\l"#),
        "{dot}"
    );
    assert!(!svg.contains("that no heap suits"));
    tree.device("platform", "vpu", "platform/vpu.0")
        .links("")
        .constraints("0 32 0 one");
    let none = dmaheap(&root, &["graph"]).out;
    assert!(none.contains("1 device that no heap suits"));
    assert!(none.contains("reaches 32 address bits, needs one piece\nno heap suits it"));
    assert_eq!(none.matches("<path ").count(), 6 + 6);
    if let Some(path) = std::env::var_os("DMAHEAP_TEST_SVG") {
        fs::write(path, svg).unwrap();
    }
}

#[test]
fn man_pages_have_the_usual_form() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in [
        "man/dmaheap.1",
        "capi/libdmaheap.3",
        "../../Documentation/dmabuf_coherency.4",
    ] {
        let mut mandoc = Command::new("mandoc");
        mandoc.args(["-T", "lint"]).arg(top.join(page));
        let output = mandoc.output().expect("mandoc, of the package mandoc");
        let said = String::from_utf8(output.stdout).unwrap();
        // They refer to each other before they are installed.
        let mistakes = said
            .lines()
            .filter(|line| !line.contains("referenced manual not found"));
        assert_eq!(mistakes.collect::<Vec<_>>(), [""; 0], "{page}");
    }
}

#[test]
fn program_man_page_and_completions_are_installed() {
    let prefix = tempfile::TempDir::new().unwrap();
    let said = dmaheap(
        Path::new("/"),
        &["install", prefix.path().to_str().unwrap()],
    );
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    let read = |path: &str| fs::read_to_string(prefix.path().join(path)).expect(path);
    let page = read("share/man/man1/dmaheap.1");
    assert_eq!(page, include_str!("../man/dmaheap.1"));
    assert!(prefix.path().join("bin/dmaheap").exists());
    for path in [
        "share/bash-completion/completions/dmaheap",
        "share/fish/vendor_completions.d/dmaheap.fish",
        "share/zsh/site-functions/_dmaheap",
    ] {
        assert!(read(path).contains("explain"), "{path}");
    }
}

/// In bash `--heap` completes names, and paths as any word does.
#[test]
fn bash_completes_names_of_heaps() {
    let tree = machine();
    let prefix = tree.path("usr");
    let said = dmaheap(Path::new("/"), &["install", prefix.to_str().unwrap()]);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    let mut complete = Command::new("bash");
    complete.args([
        "-c",
        r#"source "$0/share/bash-completion/completions/dmaheap"
        dmaheap() { "$DMAHEAP" --root "$ROOT" "$@"; }
        tell() {
            COMP_WORDS=(dmaheap "$@") COMP_CWORD=$# COMPREPLY=()
            _dmaheap_or_heap dmaheap "${!#}" "${@: -2:1}"
            echo "${COMPREPLY[*]}"
        }
        tell alloc --heap system-
        tell try --heap = sys
        tell bench --he
        tell alloc --heap "$ROOT"dev/dma_heap/system-u
        complete -p dmaheap"#,
    ]);
    complete.arg(&prefix).env("ROOT", tree.path(""));
    complete.env("DMAHEAP", env!("CARGO_BIN_EXE_dmaheap"));
    let output = complete.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let path = tree.path("dev/dma_heap/system-uncached");
    let expected = [
        "system-coherent system-noncoherent system-uncached",
        "system system-coherent system-noncoherent system-uncached",
        "--heap --help",
        path.to_str().unwrap(),
        "complete -o bashdefault -o default -F _dmaheap_or_heap dmaheap",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}
