// SPDX-License-Identifier: GPL-2.0

//! Which devices a heap accepts. The expected answer does not come from the heap. It comes
//! from the firmware's description of the device, and from what the device does with the
//! in-tree heap.

use super::Test;
use crate::bufinfo;
use crate::device::Snooping;
use crate::drm_node::Card;
use crate::expect::{outcome, skip};
use crate::importer::{Importer, Observation, observe};
use crate::importers;
use crate::memory::eventually;
use crate::options::Options;
use crate::reach::{Answer, Reach, answer, bits_of, bouncing_is_forced, memory_is_beyond};
use anyhow::{Context as _, Result, ensure};
use rustix::fd::AsFd as _;
use rustix::io::Errno;

pub const TESTS: &[Test] = &[
    Test::new(
        "import.accepted",
        "a device that the heap suits attaches, and detaches",
        accepted,
    ),
    Test::new(
        "import.refused",
        "a device that the heap does not suit gets EOPNOTSUPP",
        refused,
    ),
    Test::new(
        "import.cpu_only",
        "a driver that only uses the CPU is never refused",
        cpu_only,
    ),
    Test::new(
        "import.twice",
        "one device can import the same buffer several times",
        twice,
    ),
    Test::new(
        "import.together",
        "all devices that the heap suits attach at the same time",
        together,
    ),
    Test::new(
        "import.outlives_fd",
        "an imported buffer outlives its descriptor",
        outlives_fd,
    ),
];

/// The answer that the heap under test must give to a device.
#[derive(Debug, PartialEq)]
pub enum Expected {
    Accept,
    Refuse,
    /// The device never attaches, so there is nothing to refuse.
    Leave,
    /// It is not known whether the device snoops.
    Unknown,
}

impl Expected {
    /// Decides by what the device did with a buffer of the in-tree heap, and by what is
    /// known of the device.
    fn of(options: &Options, importer: &dyn Importer, control: &Observation) -> Result<Self> {
        let device = importer.device();
        let what = importer.describe();
        let (expected, why) = if control.attached.is_empty() {
            ensure!(
                control.result.is_ok(),
                "{what}: the in-tree heap's buffer was not even attached: {}",
                outcome(&control.result)
            );
            (Self::Leave, "it never attaches".into())
        } else {
            let of_mode = |reach| answer(&options.heap, reach) != Answer::Refused;
            let expected = |accepted| if accepted { Self::Accept } else { Self::Refuse };
            let (snooping, not) = (of_mode(Reach::Snooping), of_mode(Reach::NotSnooping));
            if snooping && not && of_mode(Reach::Bouncing) {
                (Self::Accept, "this heap takes every device".into())
            } else if let Some(why) = bounces(options, importer)? {
                (expected(of_mode(Reach::Bouncing)), why)
            } else {
                match device.snooping() {
                    Snooping::Yes(why) => (expected(snooping), why),
                    Snooping::No(why) => (expected(not), why),
                    Snooping::Unknown(why) => (Self::Unknown, why),
                }
            }
        };
        println!("{what}: {expected:?}, as {why}");
        Ok(expected)
    }
}

/// The reason why the device's DMA would bounce, if it would. It depends on where a buffer of the
/// heap under test lies.
fn bounces(options: &Options, importer: &dyn Importer) -> Result<Option<String>> {
    let device = importer.device();
    if device.is_behind_iommu() {
        return Ok(None);
    }
    if bouncing_is_forced()? {
        return Ok(Some("all DMA bounces".into()));
    }
    let Some(bits) = device.mask_bits()? else {
        return Ok(None);
    };
    if !memory_is_beyond(bits)? {
        return Ok(None);
    }
    let buffer = options.heap()?.alloc(importer.buffer_size())?;
    let needed = bits_of(&options.heap, &buffer)?;
    Ok((bits < needed)
        .then(|| format!("it reaches {bits} address bits, and a buffer needs {needed}")))
}

/// A device, what it did with the in-tree heap, and the answer that it must get.
pub struct Case {
    pub importer: Box<dyn Importer>,
    control: Observation,
    pub expected: Expected,
}

impl Case {
    pub fn all(options: &Options) -> Result<Vec<Self>> {
        let mut cases = Vec::new();
        for importer in importers::all()? {
            let control = observe(&*importer, &options.control()?)?;
            let expected = Expected::of(options, &*importer, &control)?;
            cases.push(Self {
                importer,
                control,
                expected,
            });
        }
        Ok(cases)
    }

    /// Lets the device import a buffer of the heap under test.
    pub fn observe(&self, options: &Options) -> Result<Observation> {
        observe(&*self.importer, &options.heap()?).with_context(|| self.importer.describe())
    }
}

/// Whether the heap under test must serve this device: the device may attach, or its
/// driver may use the CPU.
pub fn may_use(options: &Options, importer: &dyn Importer) -> Result<bool> {
    let control = observe(importer, &options.control()?)?;
    let expected = Expected::of(options, importer, &control)?;
    Ok(matches!(expected, Expected::Accept | Expected::Leave))
}

/// Whether the heap under test must let this device attach.
pub fn may_attach(options: &Options, importer: &dyn Importer) -> Result<bool> {
    let control = observe(importer, &options.control()?)?;
    Ok(Expected::of(options, importer, &control)? == Expected::Accept)
}

/// The devices that must get this answer. Skips the test if there are none.
pub fn cases(options: &Options, expected: &Expected, needed: &str) -> Result<Vec<Case>> {
    let mut all = Case::all(options)?;
    all.retain(|case| case.expected == *expected);
    if all.is_empty() {
        return skip(format!("no device here {needed}"));
    }
    Ok(all)
}

fn accepted(options: &Options) -> Result<()> {
    for case in cases(options, &Expected::Accept, "that the heap must accept")? {
        let seen = case.observe(options)?;
        let what = case.importer.describe();
        let control = &case.control;
        ensure!(
            seen.attached == control.attached,
            "{what}: expected to see {:?} attach, got {:?}; {} ended with {}",
            control.attached,
            seen.attached,
            case.importer.call(),
            outcome(&seen.result)
        );
        // A device may attach and then fail by a rule of its own, with any heap.
        ensure!(
            seen.result == control.result && seen.held == control.held,
            "{what}: expected {} with {:?} attached, as with the in-tree heap, got {} with {:?}",
            outcome(&control.result),
            control.held,
            outcome(&seen.result),
            seen.held
        );
        ensure!(
            (seen.detached, seen.unmapped.len()) == (seen.attached.len(), seen.mapped.len()),
            "{what}: attached {} times, detached {} times, mapped {} times, unmapped {} times",
            seen.attached.len(),
            seen.detached,
            seen.mapped.len(),
            seen.unmapped.len()
        );
    }
    Ok(())
}

fn refused(options: &Options) -> Result<()> {
    for case in cases(options, &Expected::Refuse, "that the heap must refuse")? {
        let seen = case.observe(options)?;
        let what = format!("{}, {}", case.importer.describe(), case.importer.call());
        ensure!(
            seen.result == Err(Errno::OPNOTSUPP),
            "{what}: expected EOPNOTSUPP, got {}",
            outcome(&seen.result)
        );
        ensure!(
            seen.attached.is_empty() && seen.detached == 0,
            "{what}: it was refused, but {:?} was attached",
            seen.attached
        );
        if seen.lost {
            println!("{what}: the kernel lost a reference to the buffer, as with other exporters");
        }
    }
    Ok(())
}

fn cpu_only(options: &Options) -> Result<()> {
    for case in cases(
        options,
        &Expected::Leave,
        "uses buffers without attaching: try vivid",
    )? {
        let seen = case.observe(options)?;
        ensure!(
            seen.result.is_ok() && seen.attached.is_empty(),
            "{}: expected success without attaching, got {} with {:?}",
            case.importer.describe(),
            outcome(&seen.result),
            seen.attached
        );
    }
    Ok(())
}

/// The importers that the heap must accept and that keep what they import.
fn keepers(options: &Options) -> Result<Vec<Box<dyn Importer>>> {
    let cases = cases(options, &Expected::Accept, "that the heap must accept")?.into_iter();
    let keepers: Vec<_> = cases.filter(|case| !case.control.held.is_empty()).collect();
    if keepers.is_empty() {
        return skip("no device here keeps a buffer that it imported");
    }
    Ok(keepers.into_iter().map(|case| case.importer).collect())
}

/// Fails unless exactly these devices are attached to a buffer after a while.
fn expect_attached(inode: u64, mut expected: Vec<String>, when: &str) -> Result<()> {
    let mut seen = Vec::new();
    expected.sort();
    let good = eventually(|| {
        seen = bufinfo::attached(inode)?;
        seen.sort();
        Ok(seen == expected)
    })?;
    ensure!(
        good,
        "{when}: expected {expected:?} to be attached, got {seen:?}"
    );
    Ok(())
}

/// The DRM devices that the heap must accept and that keep what they import.
fn cards(options: &Options) -> Result<Vec<Card>> {
    let keepers = keepers(options)?;
    let mut cards = Card::all()?;
    cards.retain(|card| keepers.iter().any(|keeper| keeper.node() == card.node()));
    if cards.is_empty() {
        return skip("no DRM device here keeps a buffer that it imported");
    }
    Ok(cards)
}

fn twice(options: &Options) -> Result<()> {
    for card in cards(options)? {
        let buffer = options.heap()?.alloc(1 << 20)?;
        let inode = buffer.inode();
        let what = card.describe();
        let name = card.attaches();
        let other = card.reopen()?;
        let first = card.import(&buffer).with_context(|| what.clone())?;
        // An open file has one handle for a buffer, and so one attachment. The handle is closed once.
        let again = card
            .import(&buffer)
            .with_context(|| format!("{what}, again"))?;
        std::mem::forget(again);
        expect_attached(inode, vec![name.clone()], "imported twice into one file")?;
        let elsewhere = other
            .import(&buffer)
            .with_context(|| format!("{what}, another file"))?;
        expect_attached(inode, vec![name.clone(); 2], "imported into two files")?;
        drop(elsewhere);
        expect_attached(inode, vec![name], "closed in one of two files")?;
        drop(first);
        expect_attached(inode, vec![], "closed in both files")?;
    }
    Ok(())
}

fn together(options: &Options) -> Result<()> {
    let keepers = keepers(options)?;
    let size = keepers
        .iter()
        .map(|keeper| keeper.buffer_size())
        .max()
        .unwrap_or_default();
    let buffer = options.heap()?.alloc(size)?;
    let mut held = Vec::new();
    let mut names = Vec::new();
    for keeper in &keepers {
        let what = || format!("{} besides {names:?}", keeper.describe());
        held.push(keeper.import(&buffer).with_context(what)?);
        names.push(keeper.attaches());
        expect_attached(buffer.inode(), names.clone(), "one more device")?;
    }
    // They detach in the order in which they attached, not in reverse.
    while !held.is_empty() {
        held.remove(0);
        names.remove(0);
        expect_attached(buffer.inode(), names.clone(), "one device less")?;
    }
    Ok(())
}

fn outlives_fd(options: &Options) -> Result<()> {
    for card in cards(options)? {
        let what = card.describe();
        let buffer = options.heap()?.alloc(1 << 20)?;
        let inode = buffer.inode();
        let mapping = buffer.map()?;
        mapping.stamp(3);
        let imported = card.prime(buffer.as_fd()).with_context(|| what.clone())?;
        drop((buffer, mapping));
        expect_attached(inode, vec![card.attaches()], "closed while imported")?;
        let again = card
            .export(imported.handle)
            .with_context(|| format!("{what}, exporting"))?;
        ensure!(
            again.inode() == inode,
            "{what}: expected to get the same buffer back, got another"
        );
        again
            .map()?
            .expect_stamped("got back from the device that had imported it", 3, 0)?;
    }
    Ok(())
}
