// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap try`: what the kernel answers, beside what the links say.

use super::Try;
use super::output::Output;
use super::rules;
use super::table::{Cell, Table};
use anyhow::{Result, bail};
use dmaheap::{
    Allocator, Call, Device, Error, Heap, Objection, Pieces, Reason, Refusal, System, Trial,
};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What came of a heap and a node.
pub struct Row {
    pub device: Device,
    pub node: PathBuf,
    pub heap: Heap,
    /// Why the device has no link to the heap.
    pub objection: Option<Objection>,
    /// What the kernel did, or why it was not asked.
    pub outcome: Result<Trial, String>,
    /// Whether the node takes a buffer in several pieces, if that is known.
    pub takes_pieces: Option<bool>,
    /// Whether no heap got beyond the call that failed, so that it is no matter of memory.
    pub fails_always: bool,
}

pub fn run(system: &System, output: &Output, arguments: &Try) -> Result<ExitCode> {
    let devices = super::devices(system, &arguments.devices)?;
    let heaps = super::open_heaps(system, output, arguments.heap.as_deref())?;
    let mut rows = Vec::new();
    let mut untried = Vec::new();
    let mut is_missing = false;
    for (device, handle) in devices.iter().zip(&arguments.devices) {
        let nodes = nodes(device, handle);
        if nodes.is_empty() {
            bail!("{} has no node to try: name another device", device.name);
        }
        let before = rows.len();
        for node in nodes {
            let tried = try_node(system, device, &node, &heaps, arguments, &mut rows);
            untried.extend(tried.err().map(|error| (node, error.to_string())));
        }
        is_missing |= rows.len() == before;
    }
    mark_what_fails_always(&mut rows);
    let rules = rules::that_agree(&rows, &system.rules()?);
    if output.is_json() {
        output.value(json!({
            "module_loaded": system.module_is_loaded(),
            "trials": rows.iter().map(to_json).collect::<Vec<_>>(),
            "untried": untried.iter().map(|(node, sentence)| {
                json!({ "node": node.to_string_lossy(), "sentence": sentence })
            }).collect::<Vec<_>>(),
            "rules": rules.links,
        }))?;
    } else if arguments.rules {
        print_rules(output, &rules)?;
    } else if !rows.is_empty() {
        output.line(&table(&rows).to_string())?;
    }
    super::note_missing_module(system, output);
    for (_, sentence) in &untried {
        output.note(sentence);
    }
    note_lost(&rows, output);
    Ok(ExitCode::from(match is_missing {
        true => super::NOT_DONE,
        false => u8::from(rows.iter().any(|row| row.agrees() == Some(false))),
    }))
}

/// The node that a handle stands for; if it stands for a device, those that import its buffers.
pub fn nodes(device: &Device, handle: &OsStr) -> Vec<PathBuf> {
    let number = |path: &Path| fs::metadata(path).ok().map(|file| file.rdev());
    // What is no device has number 0.
    let given = number(Path::new(handle)).filter(|number| *number != 0);
    let is_path = handle.as_bytes().contains(&b'/');
    let is_it = |node: &&PathBuf| match is_path {
        true => given.is_some() && number(node) == given,
        false => node.file_name() == Some(handle),
    };
    if let Some(node) = device.nodes.iter().find(is_it) {
        return vec![node.clone()];
    }
    let starts = |node: &&PathBuf, starts: &[&str]| {
        let name = node.file_name().unwrap_or_default().to_string_lossy();
        starts.iter().any(|start| name.starts_with(start))
    };
    // Both nodes of a display do the same.
    let display = device
        .nodes
        .iter()
        .find(|node| starts(node, &["card", "renderD"]));
    let others = device
        .nodes
        .iter()
        .filter(|node| starts(node, &["video", "accel"]));
    others.chain(display).cloned().collect()
}

/// Tries all heaps. What concerns the node and not one heap is an error.
fn try_node(
    system: &System,
    device: &Device,
    node: &Path,
    heaps: &[(Heap, Allocator)],
    arguments: &Try,
    rows: &mut Vec<Row>,
) -> Result<(), Error> {
    let choice = system.choose(std::slice::from_ref(device))?;
    let takes_pieces = dmaheap::takes_pieces(node)?;
    for (heap, allocator) in heaps {
        let objections = choice.objections().iter();
        let objection = objections
            .filter(|objection| objection.heap == heap.name)
            .find(|objection| objection.device.is_some())
            .cloned();
        let is_refused = matches!(
            objection.as_ref().map(|objection| objection.reason),
            Some(Reason::DoesNotSnoop | Reason::Snoops)
        );
        // A video driver loses what is refused: let that be little.
        let size = if is_refused { 1 } else { arguments.size };
        let outcome = match dmaheap::try_import(node, allocator, size, arguments.frames) {
            Err(error @ Error::NoMemory { .. }) => Err(error.to_string()),
            trial => Ok(trial?),
        };
        rows.push(Row {
            device: device.clone(),
            node: node.into(),
            heap: heap.clone(),
            objection,
            outcome,
            takes_pieces,
            fails_always: false,
        });
    }
    Ok(())
}

/// A call after the import that fails with each heap which gets so far, and with several of them, does
/// not fail for the memory.
fn mark_what_fails_always(rows: &mut [Row]) {
    let reached: Vec<_> = rows
        .iter()
        .map(|row| (row.node.clone(), row.reached()))
        .collect();
    for row in rows {
        let Some(call) = row.refusal().map(|refusal| refusal.call) else {
            continue;
        };
        let mut others = reached.iter().filter(|(node, _)| *node == row.node);
        let got_further = others.any(|(_, reached)| *reached > Reached::Refused(call));
        row.fails_always = call.is_after_import() && !got_further;
    }
}

/// How far a heap got.
#[derive(PartialEq, PartialOrd)]
enum Reached {
    NotTried,
    Refused(Call),
    End,
}

impl Row {
    fn refusal(&self) -> Option<Refusal> {
        self.outcome.as_ref().ok()?.refusal
    }

    fn reached(&self) -> Reached {
        match &self.outcome {
            Err(_) => Reached::NotTried,
            Ok(trial) => trial
                .refusal
                .map_or(Reached::End, |refusal| Reached::Refused(refusal.call)),
        }
    }

    /// Whether the device is linked to the heap, if anything is known.
    pub fn is_linked(&self) -> Option<bool> {
        let order = self.device.order.as_ref()?;
        Some(order.contains(&self.heap.name))
    }

    /// Whether the kernel took the buffer, if that can be said.
    pub fn took(&self) -> Option<bool> {
        match (&self.outcome, self.refusal()) {
            (Err(_), _) => None,
            (Ok(_), None) => Some(true),
            (Ok(_), Some(_)) if self.fails_always => Some(true),
            // There may be memory at another time.
            (Ok(_), Some(refusal)) if refusal.errno == Errno::NOMEM.raw_os_error() => None,
            _ => Some(false),
        }
    }

    /// Whether the buffer is in one piece by chance, as the device takes no others.
    fn is_lucky(&self) -> bool {
        let may_have_several = self.heap.contiguous != Some(true);
        may_have_several && self.took() == Some(true) && self.takes_pieces == Some(false)
    }

    /// Whether links and kernel say the same, if both say anything. Links are to heaps that work each
    /// time; so one buffer that a device takes of another heap says little, unless the heap should
    /// have refused the device, or it is known in how many pieces the device takes buffers.
    pub fn agrees(&self) -> Option<bool> {
        let reason = self.objection.as_ref().map(|objection| objection.reason);
        match (self.is_linked()?, self.took()?, reason) {
            (linked, false, _) => Some(!linked),
            (true, true, _) => Some(!self.is_lucky()),
            (false, true, Some(Reason::DoesNotSnoop | Reason::Snoops)) => Some(false),
            (false, true, Some(Reason::OnePiece | Reason::PiecesUnknown)) => {
                self.takes_pieces.map(|takes| !takes)
            }
            (false, true, _) => None,
        }
    }

    /// What the kernel said, if that takes a sentence.
    fn answer(&self) -> Option<String> {
        match (&self.outcome, self.refusal()) {
            (Err(sentence), _) => Some(sentence.clone()),
            (Ok(_), None) if self.is_lucky() => {
                Some("takes this one, which is in one physical piece by chance".into())
            }
            (Ok(_), None) => None,
            (Ok(_), Some(refusal)) => {
                let so = if self.fails_always {
                    "; so it is with every heap, after the import"
                } else {
                    ""
                };
                Some(format!(
                    "{}: {}, {}{so}",
                    refusal.call.as_str(),
                    name(refusal.errno),
                    meaning(refusal)
                ))
            }
        }
    }

    /// What the links say.
    fn link(&self) -> String {
        match (self.is_linked(), &self.objection) {
            (Some(true), _) => format!("{} works each time", self.heap.name),
            (_, Some(objection)) => {
                let text = objection.to_string();
                let start = format!("{}: ", objection.heap);
                text.strip_prefix(&start).unwrap_or(&text).to_owned()
            }
            _ => "nothing".into(),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    const HEADINGS: [&str; 6] = ["NODE", "HEAP", "LINK", "PIECES", "KERNEL", "AGREES"];
    let mut table = Table::new(&HEADINGS, &["kernel", "links"]);
    for row in rows {
        let trial = row.outcome.as_ref().ok();
        let kernel = match (trial, row.refusal()) {
            (None, _) => "?".into(),
            (Some(_), Some(refusal)) if !row.fails_always => name(refusal.errno),
            _ => "takes it".into(),
        };
        table.row([
            Cell::text(row.node.to_string_lossy()),
            Cell::text(&row.heap.name),
            Cell::known(
                row.is_linked()
                    .map(|linked| if linked { "yes" } else { "no" }),
            ),
            Cell::known(row.takes_pieces.map(pieces)),
            Cell::text(kernel),
            Cell::judged(row.agrees(), "yes", "NO"),
        ]);
        table.sentence("kernel", row.answer().as_deref());
        if row.agrees() != Some(true) && trial.is_some() {
            table.sentence("links", Some(&row.link()));
        }
    }
    table
}

/// In how many pieces a node takes a buffer.
fn pieces(takes_several: bool) -> &'static str {
    match takes_several {
        true => Pieces::Any.as_str(),
        false => Pieces::One.as_str(),
    }
}

fn to_json(row: &Row) -> Value {
    let trial = row.outcome.as_ref().ok();
    let refusal = row.refusal();
    json!({
        "device": row.device.name,
        "driver": row.device.driver,
        "node": row.node.to_string_lossy(),
        "heap": row.heap.name,
        "linked": row.is_linked(),
        "reason": row.objection.as_ref().map(|objection| objection.reason),
        "took": row.took(),
        "call": refusal.map(|refusal| refusal.call.as_str()),
        "errno": refusal.map(|refusal| name(refusal.errno)),
        "sentence": row.answer(),
        "size": trial.map(|trial| trial.size),
        "pieces": row.takes_pieces.map(pieces),
        "frames": trial.map(|trial| trial.frames),
        "framebuffer": trial.map(|trial| trial.framebuffer),
        "lost": trial.is_some_and(|trial| trial.lost),
        "agrees": row.agrees(),
    })
}

/// The line for modprobe.d alone, to be written to a file.
fn print_rules(output: &Output, rules: &rules::Rules) -> Result<()> {
    for sentence in &rules.sentences {
        output.note(sentence);
    }
    let Some(links) = &rules.links else {
        if rules.sentences.is_empty() {
            output.note("the rules need no change");
        }
        return Ok(());
    };
    output.line(&format!("options dmabuf_coherency links={links}\n"))?;
    output.note(&format!(
        "that is for /etc/modprobe.d. As root, this takes effect at once: \
         `echo '{links}' > /sys/module/dmabuf_coherency/parameters/links`"
    ));
    Ok(())
}

fn note_lost(rows: &[Row], output: &Output) {
    let trials = rows.iter().filter_map(|row| row.outcome.as_ref().ok());
    let lost = trials.filter(|trial| trial.lost);
    let bytes: usize = lost.map(|trial| trial.size).sum();
    if bytes > 0 {
        output.note(&format!(
            "the kernel has lost buffers of {} until the next boot: videobuf2 forgets those whose \
             heap refuses the device",
            super::size::show(bytes as u64)
        ));
    }
}

/// The name of an errno, or its number where it is none that is met here.
fn name(errno: i32) -> String {
    let known = match Errno::from_raw_os_error(errno) {
        Errno::ACCESS => "EACCES",
        Errno::BADF => "EBADF",
        Errno::BUSY => "EBUSY",
        Errno::FAULT => "EFAULT",
        Errno::INVAL => "EINVAL",
        Errno::IO => "EIO",
        Errno::NODEV => "ENODEV",
        Errno::NOENT => "ENOENT",
        Errno::NOLINK => "ENOLINK",
        Errno::NOMEM => "ENOMEM",
        Errno::NOSPC => "ENOSPC",
        Errno::NOSYS => "ENOSYS",
        Errno::NOTTY => "ENOTTY",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::PERM => "EPERM",
        Errno::PIPE => "EPIPE",
        Errno::RANGE => "ERANGE",
        Errno::TIMEDOUT => "ETIMEDOUT",
        _ => return format!("errno {errno}"),
    };
    known.into()
}

/// What it means, as far as one can say.
fn meaning(refusal: Refusal) -> String {
    let errno = Errno::from_raw_os_error(refusal.errno);
    let known = match (refusal.call, errno) {
        (_, Errno::NOMEM) => "the kernel has no memory for that now",
        (Call::Prime | Call::Queue, Errno::OPNOTSUPP) => {
            "the heap refuses the device, or the driver takes no buffers of others"
        }
        (Call::Prime, Errno::NODEV | Errno::NOSYS | Errno::PERM) => {
            "the driver takes no buffers of others"
        }
        (Call::Prime, Errno::INVAL) => {
            "the driver wants one physical piece, or takes no buffers of others by PRIME"
        }
        (Call::Queue, Errno::FAULT) => "the driver wants one physical piece",
        (Call::Prime | Call::Queue, Errno::IO) => "the device does not reach the memory",
        (Call::RequestBuffers, Errno::INVAL) => "the driver takes no dma-bufs",
        (Call::Framebuffer, Errno::INVAL) => "the display does not show such a picture",
        (Call::Start, Errno::PIPE | Errno::NOLINK) => {
            "the parts of the camera are not set up for each other: use media-ctl"
        }
        (Call::Dequeue, Errno::TIMEDOUT) => "no frame has come: see whether there is a signal",
        (Call::Dequeue, Errno::IO) => "the driver calls the frame damaged",
        (Call::Queue, Errno::INVAL) => "the driver does not take such a buffer",
        _ => {
            let text = io::Error::from(errno).to_string();
            let (text, _) = text.split_once(" (os error").unwrap_or((&text, ""));
            return text.to_lowercase();
        }
    };
    known.into()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A device with links to these heaps; it is `driver.0`.
    pub fn device(driver: &str, order: &[&str]) -> Device {
        let order = order.iter().map(ToString::to_string).collect();
        let name = format!("{driver}.0");
        let mut device = Device::new(name.clone(), format!("/sys/devices/{name}"), Some(order));
        device.driver = Some(driver.into());
        device
    }

    pub fn heap(name: &str) -> Heap {
        let mut heap = Heap::new(name, "");
        heap.contiguous = Some(name.contains("cma"));
        heap
    }

    pub fn row(device: &Device, name: &str, refusal: Option<(Call, Errno)>) -> Row {
        let mut trial = Trial::default();
        trial.refusal = refusal.map(|(call, errno)| Refusal {
            call,
            errno: errno.raw_os_error(),
        });
        let heap = heap(name);
        let choice = dmaheap::choose(
            std::slice::from_ref(&heap),
            std::slice::from_ref(device),
            dmaheap::Requirement::default(),
        );
        Row {
            device: device.clone(),
            node: "/dev/video0".into(),
            objection: choice.objections().first().cloned(),
            heap,
            outcome: Ok(trial),
            takes_pieces: None,
            fails_always: false,
        }
    }

    const FAULT: Option<(Call, Errno)> = Some((Call::Queue, Errno::FAULT));
    const TIMEOUT: Option<(Call, Errno)> = Some((Call::Dequeue, Errno::TIMEDOUT));

    #[test]
    fn links_and_kernel_are_compared() {
        let camera = device("cam", &["linked"]);
        let nothing = Device::new("x.0", "/sys/devices/x.0", None);
        let no_memory = Some((Call::Queue, Errno::NOMEM));
        for (device, heap, refusal, agrees) in [
            (&camera, "linked", None, Some(true)),
            (&camera, "linked", FAULT, Some(false)),
            (&camera, "linked", no_memory, None),
            (&camera, "other", FAULT, Some(true)),
            // It may be one that need not work each time.
            (&camera, "other", None, None),
            (&nothing, "linked", FAULT, None),
        ] {
            let row = row(device, heap, refusal);
            assert_eq!(row.agrees(), agrees, "{heap}, {refusal:?}");
        }
        let mut row = row(&camera, "linked", None);
        for (takes, agrees) in [(Some(true), true), (Some(false), false), (None, true)] {
            row.takes_pieces = takes;
            assert_eq!(row.agrees(), Some(agrees), "{takes:?}");
        }
        row.outcome = Err("no memory".into());
        assert_eq!((row.took(), row.agrees()), (None, None));
    }

    #[test]
    fn what_fails_with_every_heap_is_no_matter_of_memory() {
        let camera = device("cam", &["a", "b", "c"]);
        let rows = |refusals: &[_]| {
            let heaps = ["a", "b", "c"].into_iter();
            let mut rows: Vec<_> = heaps
                .zip(refusals)
                .map(|(heap, refusal)| row(&camera, heap, *refusal))
                .collect();
            mark_what_fails_always(&mut rows);
            rows.iter().map(Row::agrees).collect::<Vec<_>>()
        };
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(rows(&[TIMEOUT, TIMEOUT, FAULT]), [yes, yes, no]);
        assert_eq!(rows(&[TIMEOUT, None, FAULT]), [no, yes, no]);
        assert_eq!(rows(&[FAULT, FAULT, FAULT]), [no, no, no]);
        let start = Some((Call::Start, Errno::PIPE));
        assert_eq!(rows(&[start, TIMEOUT, TIMEOUT]), [no, yes, yes]);
    }

    #[test]
    fn a_node_stands_for_itself_and_a_device_for_all_that_import() {
        let mut gpu = device("gpu", &[]);
        let path = |name: &str| Path::new("/nonesuch").join(name);
        gpu.nodes = ["card1", "video9", "accel0", "renderD128", "vbi0"]
            .map(path)
            .into();
        let of = |handle: &str| nodes(&gpu, OsStr::new(handle));
        assert_eq!(of("vbi0"), [path("vbi0")]);
        assert_eq!(of("gpu.0"), ["video9", "accel0", "card1"].map(path));
        assert_eq!(of("/nonesuch/vbi0").len(), 3);
    }

    #[test]
    fn answers_are_sentences() {
        let camera = device("cam", &["a"]);
        let mut row = row(&camera, "a", FAULT);
        let sentence = "VIDIOC_QBUF: EFAULT, the driver wants one physical piece";
        assert_eq!(row.answer().as_deref(), Some(sentence));
        assert_eq!(row.link(), "a works each time");
        row.fails_always = true;
        let more = "; so it is with every heap, after the import";
        assert!(row.answer().unwrap().ends_with(more));
        assert_eq!(name(7), "errno 7");
    }
}
