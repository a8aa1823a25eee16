// SPDX-License-Identifier: GPL-2.0

//! libdmaheap where there is memory to give: the example in C chooses a heap, allocates from it,
//! maps the buffer and writes in a bracket. Threads do so with the same objects at once.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::Kits;
use crate::results::Case;
use anyhow::Result;
use vm::{Add, Arch};

const SOURCES: [&str; 2] = [
    "tools/dmaheap/examples/share.c",
    "tools/dmaheap/tests/threads.c",
];

/// Prints what the example says, what the command picks for the same devices, how the threads did,
/// and how many buffers live in the end.
const SCRIPT: &str = "insmod $DMABUF_COHERENCY_KO && modprobe -a vivid bochs && \
    /share / vivid bochs && echo picked $(/dmaheap pick --size 8M vivid bochs) && \
    { /threads vivid bochs; echo threads $?; } && \
    echo left $(cat /sys/class/dma_heap/*/buffers | sort -u) && ! /share / vivid nonesuch";

pub fn groups() -> Vec<Group> {
    let group = |(name, arch)| {
        let about = "libdmaheap: the example in C allocates, and so do threads at once";
        Group::new(name, about, move |kits| test(kits, arch))
    };
    [
        ("x86_64-libdmaheap", Arch::X86_64),
        ("arm64-libdmaheap", Arch::Arm64),
    ]
    .map(group)
    .into()
}

fn test(kits: &Kits, arch: Arch) -> Result<Vec<Case>> {
    let mut boot = Boot::new(arch, SCRIPT);
    for source in SOURCES {
        let program = vm::c_program_with_libdmaheap(arch, source)?;
        boot.adds.push(Add::new(program, "/")?);
    }
    let outcome = boot.run(kits)?;
    let (output, errors) = (text(&outcome.stdout), text(&outcome.stderr));
    let line = |start| output.lines().find_map(|line| line.strip_prefix(start));
    let judge = |name: &str, is_right: bool| {
        let problem = || {
            let status = outcome.status;
            format!("the guest ended with {status:?}:\n{output}{errors}")
        };
        Case::judged(name, (!is_right).then(problem))
    };
    let best = line("the best is ");
    Ok(vec![
        judge(
            "libdmaheap.choice",
            best.is_some() && best == line("picked "),
        ),
        judge("libdmaheap.threads", line("threads ") == Some("0")),
        judge("libdmaheap.nothing_left", line("left ") == Some("0")),
        judge(
            "libdmaheap.sentence",
            outcome.status == Some(0) && errors.contains("there is no device nonesuch"),
        ),
        boot.health(kits, &outcome)?,
    ])
}
