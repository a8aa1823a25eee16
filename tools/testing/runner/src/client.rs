// SPDX-License-Identifier: GPL-2.0

//! A client that does not know our module: Debian's libcamera, in a guest. And the same client with
//! a patch, so that it asks which heap suits the devices.

use crate::boot::{Boot, text};
use crate::group::Group;
use crate::kit::Kits;
use crate::results::{Case, Verdict};
use anyhow::{Error, Result};
use std::path::Path;
use vm::{Add, Arch, Outcome};

/// The heap that the rule names.
const HEAP: &str = "system-noncoherent";
/// The name that libcamera looks for first.
const LINK: &str = "/dev/dma_heap/linux,cma";
const RULE: &str = "tools/udev/61-dmabuf-coherency-libcamera.rules";
const RULES: &str = "/etc/udev/rules.d/";
/// The rules for names that vendors' programs look for. They are installed only at the end.
const NAMES: &str = "tools/udev/61-dmabuf-coherency-names.rules";
const LATER: &str = "/later/";
/// The description of a camera, and the directory in which libcamera looks for it.
const CAMERA: &str = "tools/testing/runner/data/virtual.yaml";
const CAMERAS: &str = "/usr/share/libcamera/pipeline/virtual/";
/// How many frames are compared.
const FRAMES: usize = 8;

/// Loads the module, and defines how to capture. `$libraries` may name a directory with libraries to
/// use. After 20 frames `capture` prints the exporter of each buffer that `cam` holds, from the
/// fdinfo of `cam`. Its argument stands at the start of these lines.
const CAPTURE: &str = r#"
insmod $DMABUF_COHERENCY_KO || exit
mkdir -p /run/udev
PATH=$PATH:/usr/bin
capture() {
	# Not left to the program's own redirection: frames of the first time would count.
	: >/tmp/frames
	LD_LIBRARY_PATH=$libraries cam -c 1 --capture=1000000 >/tmp/frames 2>/tmp/errors & cam=$!
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
"#;

/// Captures twice, without the rule and with it. Prints the link that udev would make by the rule,
/// and how many buffers the heap has at the end. The guest has no udevd, so the script makes the link.
const BY_RULE: &str = r#"
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

/// Machines: a name, the command that turns the machine before into this one, and the heap that has
/// to be chosen. It is `None` if the list of names has to decide.
const MACHINES: [(&str, &str, Option<&str>); 5] = [
    ("no_devices", "true", None),
    (
        "in_pieces",
        "modprobe -a vkms vivid",
        Some("system-noncoherent"),
    ),
    (
        "in_one_piece",
        "modprobe dmabuf_display helpers=dma",
        Some("default_cma_region-noncoherent"),
    ),
    (
        "next_best",
        "rm /dev/dma_heap/default_cma_region-noncoherent",
        Some("default_cma_region"),
    ),
    (
        "none_for_all",
        "echo vivid=system-uncached >/sys/module/dmabuf_coherency/parameters/links",
        None,
    ),
];

/// Captures on a machine with Debian's libraries and with the patched ones. The arguments are the
/// machine's name and the command that makes it. Prints the heap that `dmaheap` picks for all devices,
/// and checksums of the first frames.
const ON_MACHINE: &str = r#"
on_machine() {
	eval "$2" || exit
	echo "$1.picked $(/dmaheap pick $(ls -d /dev/dri/card* /dev/video* 2>/dev/null) 2>/dev/null)"
	for libraries in '' /patched; do
		name=$1.${libraries:+patched}
		capture $name
		mkdir /tmp/shots
		LD_LIBRARY_PATH=$libraries cam -c 1 --capture=$frames --file=/tmp/shots/ >/tmp/log 2>&1 || {
			cat /tmp/log >&2
			exit 1
		}
		for shot in /tmp/shots/*; do
			echo "$name.frame $(md5sum <$shot)"
		done
		rm -r /tmp/shots
	done
}
"#;

pub fn groups() -> Vec<Group> {
    let groups = |arch: Arch| {
        let about = "Debian's libcamera, unmodified, captures into buffers of our heap";
        let unmodified = Group::new(format!("{arch}-client"), about, move |kits| {
            let root = match vm::libcamera(arch) {
                Ok(root) => root,
                Err(error) => return Ok(skipped(&error)),
            };
            by_rule(kits, arch, &root)
        });
        let about = "libcamera with our patch asks for the heap that suits the devices";
        let patched = Group::new(format!("{arch}-patched-client"), about, move |kits| {
            let root = match vm::libcamera_source(arch).and_then(|_| vm::libcamera(arch)) {
                Ok(root) => root,
                Err(error) => return Ok(skipped(&error)),
            };
            by_patch(kits, arch, &root)
        });
        [unmodified, patched]
    };
    Arch::ALL.into_iter().flat_map(groups).collect()
}

fn skipped(error: &Error) -> Vec<Case> {
    vec![Case::new("libcamera", Verdict::Skipped, error.to_string())]
}

/// The output of a guest.
struct Printed {
    outcome: Outcome,
    output: String,
}

impl Printed {
    /// Runs a script in a guest with Debian's libcamera, a camera for it, and more.
    fn by(boot: &mut Boot, kits: &Kits, root: &Path) -> Result<Self> {
        boot.adds
            .push(Add::new(vm::checkout().join(CAMERA), CAMERAS)?);
        for entry in std::fs::read_dir(root)? {
            boot.adds.push(Add::new(entry?.path(), "")?);
        }
        let outcome = boot.run(kits)?;
        let output = text(&outcome.stdout);
        Ok(Self { outcome, output })
    }

    /// The rest of each line that begins with this word.
    fn lines(&self, what: &str) -> Vec<&str> {
        let lines = self.output.lines().filter_map(|line| line.split_once(' '));
        lines
            .filter_map(|(key, value)| (key == what).then_some(value))
            .collect()
    }

    fn judge(&self, name: &str, is_right: bool) -> Case {
        let problem = || {
            let errors = text(&self.outcome.stderr);
            format!(
                "the guest ended with {:?}:\n{}{errors}",
                self.outcome.status, self.output
            )
        };
        Case::judged(format!("libcamera.{name}"), (!is_right).then(problem))
    }
}

/// Whether there are buffers, and all of them come from this heap.
fn all_from(exporters: &[&str], heap: &str) -> bool {
    !exporters.is_empty() && exporters.iter().all(|exporter| *exporter == heap)
}

fn by_rule(kits: &Kits, arch: Arch, root: &Path) -> Result<Vec<Case>> {
    let mut boot = Boot {
        adds: vec![
            Add::new(vm::checkout().join(RULE), RULES)?,
            Add::new(vm::checkout().join(NAMES), LATER)?,
        ],
        ..Boot::new(arch, format!("{CAPTURE}{BY_RULE}"))
    };
    let printed = Printed::by(&mut boot, kits, root)?;
    let without = printed.lines("without");
    Ok(vec![
        printed.judge(
            "own_choice",
            !without.is_empty() && !without.contains(&HEAP),
        ),
        printed.judge("rule", printed.lines("link") == [LINK]),
        printed.judge(
            "names",
            printed.lines("names")
                == [
                    "system-noncoherent linux,cma",
                    "system-noncoherent mtk_mm",
                    "system-noncoherent vidbuf_cached",
                    "system-uncached mtk_mm-uncached",
                ],
        ),
        printed.judge("served", all_from(&printed.lines("with"), HEAP)),
        printed.judge(
            "nothing_left",
            printed.lines("left") == ["0"] && printed.outcome.status == Some(0),
        ),
        boot.health(kits, &printed.outcome)?,
    ])
}

fn by_patch(kits: &Kits, arch: Arch, root: &Path) -> Result<Vec<Case>> {
    let mut script = format!("{CAPTURE}{ON_MACHINE}frames={FRAMES}\n");
    for (name, make, _) in MACHINES {
        script += &format!("on_machine {name} '{make}'\n");
    }
    script += "echo left $(cat /sys/class/dma_heap/*/buffers)\n";
    let mut boot = Boot {
        adds: Vec::new(),
        ..Boot::new(arch, script)
    };
    for entry in std::fs::read_dir(vm::patched_libcamera(arch)?)? {
        boot.adds.push(Add::new(entry?.path(), "/patched/")?);
    }
    let printed = Printed::by(&mut boot, kits, root)?;
    let mut cases = Vec::new();
    // The heap that Debian's libraries use on every machine.
    let by_name = printed
        .lines("no_devices.")
        .first()
        .copied()
        .unwrap_or_default();
    let frames = printed.lines("no_devices..frame");
    let moves = frames.len() == FRAMES && frames.windows(2).all(|two| two[0] != two[1]);
    cases.push(printed.judge("camera_moves", moves));
    for (machine, _, best) in MACHINES {
        let lines = |what: &str| printed.lines(&format!("{machine}.{what}"));
        cases.push(printed.judge(
            &format!("{machine}.unpatched"),
            all_from(&lines(""), by_name),
        ));
        cases.push(printed.judge(
            &format!("{machine}.patched"),
            all_from(&lines("patched"), best.unwrap_or(by_name)),
        ));
        let picked = best.map(|heap| format!("/dev/dma_heap/{heap}"));
        cases.push(printed.judge(
            &format!("{machine}.as_dmaheap"),
            lines("picked") == [picked.as_deref().unwrap_or_default()],
        ));
        cases.push(printed.judge(
            &format!("{machine}.frames"),
            lines(".frame") == frames && lines("patched.frame") == frames,
        ));
    }
    let left = printed.lines("left").join(" ");
    let left = !left.is_empty() && left.split(' ').all(|count| count == "0");
    cases.push(printed.judge("nothing_left", left && printed.outcome.status == Some(0)));
    cases.push(boot.health(kits, &printed.outcome)?);
    Ok(cases)
}
