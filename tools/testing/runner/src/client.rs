// SPDX-License-Identifier: GPL-2.0

//! A client that knows nothing of us: Debian's libcamera, in a guest.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::Kits;
use crate::results::{Case, Verdict};
use anyhow::Result;
use std::path::Path;
use vm::{Add, Arch};

/// The heap that the rule names.
const HEAP: &str = "system-noncoherent";
/// The name that libcamera looks for first.
const LINK: &str = "/dev/dma_heap/linux,cma";
const RULE: &str = "udev/61-dmabuf-coherency-libcamera.rules";
const RULES: &str = "/etc/udev/rules.d/";
/// Names for programs of vendors, which are there only in the end.
const NAMES: &str = "udev/61-dmabuf-coherency-names.rules";
const LATER: &str = "/later/";
/// A camera for libcamera, and where it looks for it.
const CAMERA: &str = "testing/runner/data/virtual.yaml";
const CAMERAS: &str = "/usr/share/libcamera/pipeline/virtual/";

/// Captures twice, without the rule and with it. Prints who has exported the
/// buffers that `cam` holds after 20 frames, as its own fdinfo has it, what udev
/// makes of the rule, and how many buffers the heap has at the end. The guest has
/// no udevd, so the link is made as udev says.
const SCRIPT: &str = r#"
insmod $DMABUF_COHERENCY_KO || exit
mkdir -p /run/udev
capture() {
	# Not left to the program's own redirection: frames of the first time would count.
	: >/tmp/frames
	cam -c 1 --capture=1000000 >/tmp/frames 2>/tmp/errors & cam=$!
	tries=0
	until grep -q 'seq: 00002' /tmp/frames; do
		tries=$((tries + 1))
		if ! kill -0 $cam || [ $tries = 1500 ]; then
			cat /tmp/errors /proc/$cam/task/*/stack >&2
			exit 1
		fi
		usleep 20000
	done
	sed -n "s/^exp_name:\t*/$1 /p" /proc/$cam/fdinfo/*
	# It may miss one. When it has been waited for, there is nobody to kill.
	while kill -INT $cam; do usleep 200000; done 2>/dev/null &
	wait $cam || exit
}
PATH=$PATH:/usr/bin
capture without
link=$(udevadm test -a add /sys/class/dma_heap/system-noncoherent 2>/dev/null |
	sed -n 's/^ *DEVLINKS=//p')
echo link $link
ln -s system-noncoherent "$link" || exit
capture with
echo left $(cat /sys/class/dma_heap/system-noncoherent/buffers)
mv /later/* /etc/udev/rules.d/
for heap in system system-noncoherent system-uncached; do
	udevadm test -a change /sys/class/dma_heap/$heap 2>/dev/null | sed -n 's/^ *DEVLINKS=//p' |
		tr ' ' '\n' | sort | sed "s|^/dev/dma_heap/|names $heap |"
done
"#;

pub fn groups() -> Vec<Group> {
    let group = |(name, arch)| {
        let about = "Debian's libcamera, unmodified, captures into buffers of our heap";
        Group::new(name, about, move |kits| test(kits, arch))
    };
    [
        ("x86_64-client", Arch::X86_64),
        ("arm64-client", Arch::Arm64),
    ]
    .map(group)
    .into()
}

fn test(kits: &Kits, arch: Arch) -> Result<Vec<Case>> {
    let root = match vm::libcamera(arch) {
        Ok(root) => root,
        Err(error) => {
            let reason = format!("{error:#}");
            return Ok(vec![Case::new("libcamera", Verdict::Skipped, reason)]);
        }
    };
    let tools = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut adds = vec![
        Add::new(tools.join(RULE), RULES)?,
        Add::new(tools.join(NAMES), LATER)?,
        Add::new(tools.join(CAMERA), CAMERAS)?,
    ];
    for entry in std::fs::read_dir(root)? {
        adds.push(Add::new(entry?.path(), "")?);
    }
    let boot = Boot {
        adds,
        ..Boot::new(arch, SCRIPT)
    };
    let outcome = boot.run(kits)?;
    let output = text(&outcome.stdout);
    let lines = |what: &str| -> Vec<&str> {
        let lines = output.lines().filter_map(|line| line.split_once(' '));
        lines
            .filter_map(|(key, value)| (key == what).then_some(value))
            .collect()
    };
    let judge = |name: &str, is_right: bool| {
        let problem = || {
            let errors = text(&outcome.stderr);
            format!(
                "the guest ended with {:?}:\n{output}{errors}",
                outcome.status
            )
        };
        Case::judged(name, (!is_right).then(problem))
    };
    let (without, with) = (lines("without"), lines("with"));
    Ok(vec![
        judge(
            "libcamera.own_choice",
            !without.is_empty() && without.iter().all(|exporter| *exporter != HEAP),
        ),
        judge("libcamera.rule", lines("link") == [LINK]),
        judge(
            "libcamera.names",
            lines("names")
                == [
                    "system-noncoherent linux,cma",
                    "system-noncoherent mtk_mm",
                    "system-noncoherent vidbuf_cached",
                    "system-uncached mtk_mm-uncached",
                ],
        ),
        judge(
            "libcamera.served",
            !with.is_empty() && with.iter().all(|exporter| *exporter == HEAP),
        ),
        judge(
            "libcamera.nothing_left",
            lines("left") == ["0"] && outcome.status == Some(0),
        ),
        boot.health(kits, &outcome)?,
    ])
}
