// SPDX-License-Identifier: GPL-2.0

//! Debian's `v4l2-compliance`, unmodified, streams into buffers of each heap that a device is
//! linked to: vivid, and a USB camera.
//!
//! It imports the buffers that a second video device exports. A library that is loaded before it
//! replaces them with buffers of a heap.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::Kits;
use crate::results::{Case, Verdict};
use anyhow::Result;
use std::path::Path;
use vm::{Add, Arch};

/// The library that replaces exported buffers with buffers of a heap.
const PRELOAD: &str = "tools/testing/suites/heap_export.c";

/// How vivid imports: by the CPU, or by DMA.
const WAYS: [(&str, &str); 2] = [("cpu", ""), ("dma", "allocators=1,1")];

/// The nodes of vivid that are tested.
const NODES: [&str; 2] = ["vid-cap", "vid-out"];

/// The tests of the suite that stream over dma-bufs.
const TESTS: [&str; 2] = ["DMABUF (no poll)", "DMABUF (select)"];

/// The kernel's own heaps.
const IN_TREE: [&str; 2] = ["system", "default_cma_region"];

/// The way of the camera without hardware, whose driver is uvcvideo, and what it calls its node.
const USB: &str = "usb";
const CAMERA: &str = "Camera without hardware: Camera";

/// Runs the whole suite for each node and each heap of its order. Prints which, and all that the
/// suite says. The second device exports, and has to have room for what the first one asks for.
const SCRIPT: &str = r#"
insmod $DMABUF_COHERENCY_KO || exit
PATH=$PATH:/usr/bin
# The first node of this name.
named() {
	for node in /sys/class/video4linux/*; do
		[ "$(cat $node/name)" != "$1" ] || echo ${node##*/}
	done | head -n 1
}
# $1: the way; $2: what the node is called there; $3: its name; $4: the name of the exporter
suite() {
	export EXPORTER=/dev/$(named "$4") HEAP
	v4l2-ctl -d $EXPORTER --set-fmt-video=width=1920,height=1080 || exit
	node=$(named "$3")
	for heap in $(cat /sys/class/video4linux/$node/device/dma_heaps/order); do
		HEAP=/dev/dma_heap/$heap
		echo "= $1.$2[$heap]"
		LD_PRELOAD=/heap_export v4l2-compliance -C never -P -s2 -d /dev/$node -e $EXPORTER
	done
}
# $1: the way; $2: what makes vivid import so
vivid() {
	modprobe vivid n_devs=2 num_inputs=1,1 num_outputs=1,1 node_types=0x101,0x1 $2 || exit
	for name in $NODES; do
		suite $1 $name vivid-000-$name vivid-001-vid-cap
	done
	modprobe -r vivid || exit
}
# $1: the way; $2: the name of its nodes, of which the first is for video
usb_camera() {
	modprobe -a dummy_hcd raw_gadget uvcvideo || exit
	modprobe vivid node_types=0x1 || exit
	/dmabuf_coherency_camera >/dev/null & camera=$!
	tries=0
	until node=$(named "$2") && [ -s /sys/class/video4linux/$node/device/dma_heaps/order ]; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || exit
		usleep 100000
	done
	suite $1 vid-cap "$2" vivid-000-vid-cap
	kill $camera
	wait $camera
}
"#;

pub fn groups() -> Vec<Group> {
    let group = |arch: Arch| {
        let about =
            "v4l2-compliance of Debian, unmodified, on each heap of vivid and of a USB camera";
        Group::new(
            format!("{arch}-v4l2-compliance"),
            about,
            move |kits| match vm::v4l_utils(arch) {
                Ok(root) => run(kits, arch, &root),
                Err(error) => {
                    let reason = format!("{error:#}");
                    Ok(vec![Case::new("v4l2-compliance", Verdict::Skipped, reason)])
                }
            },
        )
    };
    Arch::ALL.into_iter().map(group).collect()
}

fn run(kits: &Kits, arch: Arch, root: &Path) -> Result<Vec<Case>> {
    let mut script = format!("NODES='{}'{SCRIPT}", NODES.join(" "));
    for (way, parameters) in WAYS {
        script += &format!("vivid {way} '{parameters}'\n");
    }
    script += &format!("usb_camera {USB} '{CAMERA}'\n");
    script += "echo '= left'; cat /sys/class/dma_heap/*/buffers";
    let mut boot = Boot::new(arch, script);
    boot.adds.push(Add::new(vm::c_library(arch, PRELOAD)?, "")?);
    for entry in std::fs::read_dir(root)? {
        boot.adds.push(Add::new(entry?.path(), "")?);
    }
    let outcome = boot.run(kits)?;
    let output = format!("\n{}", text(&outcome.stdout));
    let runs = output.split("\n= ").filter_map(Run::parse);
    let (left, runs): (Vec<_>, Vec<_>) = runs.partition(|run| run.name == "left");
    let mut cases: Vec<Case> = runs.iter().map(Run::streams).collect();
    let of_vivid = WAYS
        .iter()
        .flat_map(|(way, _)| NODES.map(|node| (*way, node)));
    for (way, node) in of_vivid.chain([(USB, NODES[0])]) {
        let start = format!("{way}.{node}[");
        let of_node = runs.iter().filter(|run| run.name.starts_with(&start));
        cases.push(same_failures(&start, &of_node.collect::<Vec<_>>()));
    }
    let counts: Vec<_> = left.iter().flat_map(|left| left.said.lines()).collect();
    let none_left = !counts.is_empty() && counts.iter().all(|count| *count == "0");
    let problem = || format!("{output}{}", text(&outcome.stderr));
    cases.push(Case::judged("nothing_left", (!none_left).then(problem)));
    cases.push(boot.health(kits, &outcome)?);
    Ok(cases)
}

/// One run of the suite.
struct Run<'a> {
    name: &'a str,
    said: &'a str,
}

impl<'a> Run<'a> {
    fn parse(part: &'a str) -> Option<Self> {
        let (name, said) = part.split_once('\n')?;
        Some(Self { name, said })
    }

    /// The tests that ended with this word.
    fn tests(&self, word: &str) -> Vec<&str> {
        let tests = self.said.lines().filter_map(|line| {
            let (test, result) = line.trim().strip_prefix("test ")?.rsplit_once(": ")?;
            (result == word).then_some(test)
        });
        tests.collect()
    }

    /// Judges whether all tests over dma-bufs passed, and used buffers of the heap.
    fn streams(&self) -> Case {
        let right = self.tests("OK");
        let used = format!("buffers of /dev/dma_heap/{}", self.heap());
        let mut uses = self.said.lines().filter(|line| line.ends_with(&used));
        let is_used = uses.any(|line| !line.starts_with("heap_export: 0 "));
        let is_right = is_used && TESTS.iter().all(|test| right.contains(test));
        Case::judged(self.name, (!is_right).then(|| self.said.to_owned()))
    }

    fn heap(&self) -> &str {
        let heap = self.name.split_once('[').unwrap_or_default().1;
        heap.trim_end_matches(']')
    }
}

/// The suite's other failures are the driver's. They have to be the same with each heap, including
/// the kernel's own.
fn same_failures(start: &str, runs: &[&Run<'_>]) -> Case {
    let name = format!("{start}*] the same failures");
    let own = runs.iter().find(|run| IN_TREE.contains(&run.heap()));
    let Some(own) = own else {
        return Case::judged(
            name,
            Some("the order has none of the kernel's own heaps".into()),
        );
    };
    let expected = own.tests("FAIL");
    let other = runs.iter().find(|run| run.tests("FAIL") != expected);
    let problem = other.map(|run| {
        let got = run.tests("FAIL");
        format!("{}: expected {expected:?}, got {got:?}", run.name)
    });
    Case::judged(name, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Run<'_> {
        Run::parse(text).unwrap()
    }

    #[test]
    fn buffers_have_to_be_the_heaps_and_both_tests_right() {
        let all = "cpu.vid-cap[x]\n\ttest DMABUF (no poll): OK\n\ttest DMABUF (select): OK\n\
            heap_export: 4 buffers of /dev/dma_heap/x\n";
        assert_eq!(run(all).streams().verdict, Verdict::Passed);
        for (part, other) in [
            (": 4", ": 0"),
            ("heap/x", "heap/y"),
            ("(select): OK", "(select): FAIL"),
            ("\ttest DMABUF (no poll): OK\n", ""),
        ] {
            let text = all.replace(part, other);
            assert_eq!(run(&text).streams().verdict, Verdict::Failed, "{text}");
        }
    }

    #[test]
    fn each_heap_has_the_failures_of_the_kernels_own() {
        let own = run("w[system]\ntest A: FAIL\ntest B: OK\n");
        let same = run("w[x]\ntest A: FAIL\ntest C: OK\n");
        let other = run("w[y]\ntest A: FAIL\ntest B: FAIL\n");
        let verdict = |runs: &[&Run<'_>]| same_failures("w[", runs).verdict;
        assert_eq!(verdict(&[&same, &own]), Verdict::Passed);
        assert_eq!(verdict(&[&same, &own, &other]), Verdict::Failed);
        assert_eq!(verdict(&[&same]), Verdict::Failed);
    }
}
