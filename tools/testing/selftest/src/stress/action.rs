// SPDX-License-Identifier: GPL-2.0

//! The actions of a worker: a random sequence that depends only on its seed. It does not
//! depend on the results of actions, so that it can be repeated.

use fastrand::Rng;

/// The kinds of actions on a buffer, or on a device that imports it. The device is one of the test
/// importer or of an in-tree driver.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    Allocate,
    Release,
    Again,
    Close,
    Duplicate,
    Send,
    Receive,
    Map,
    Unmap,
    Resize,
    Hole,
    Write,
    Read,
    Bracket,
    Fork,
    ChildWrite,
    ChildRead,
    Reap,
    Device,
    Attach,
    Detach,
    DeviceMap,
    DeviceUnmap,
    DeviceWrite,
    DeviceRead,
    Vmap,
    Vunmap,
    KernelWrite,
    KernelRead,
    Card,
    Prime,
    Export,
    CloseHandle,
    Camera,
    Converter,
    Stream,
    Unqueue,
    Fence,
    Pending,
    Query,
    Name,
    Links,
    Files,
    Fuzz,
}

/// Each kind, and its weight.
const WEIGHTS: &[(Kind, u32)] = &[
    (Kind::Allocate, 12),
    (Kind::Release, 3),
    (Kind::Again, 4),
    (Kind::Close, 4),
    (Kind::Duplicate, 3),
    (Kind::Send, 3),
    (Kind::Receive, 3),
    (Kind::Map, 6),
    (Kind::Unmap, 3),
    (Kind::Resize, 2),
    (Kind::Hole, 2),
    (Kind::Write, 8),
    (Kind::Read, 6),
    (Kind::Bracket, 4),
    (Kind::Fork, 1),
    (Kind::ChildWrite, 2),
    (Kind::ChildRead, 2),
    (Kind::Reap, 1),
    (Kind::Device, 4),
    (Kind::Attach, 8),
    (Kind::Detach, 3),
    (Kind::DeviceMap, 8),
    (Kind::DeviceUnmap, 4),
    (Kind::DeviceWrite, 5),
    (Kind::DeviceRead, 5),
    (Kind::Vmap, 3),
    (Kind::Vunmap, 2),
    (Kind::KernelWrite, 3),
    (Kind::KernelRead, 3),
    (Kind::Card, 3),
    (Kind::Prime, 7),
    (Kind::Export, 3),
    (Kind::CloseHandle, 3),
    (Kind::Camera, 3),
    (Kind::Converter, 3),
    (Kind::Stream, 4),
    (Kind::Unqueue, 1),
    (Kind::Fence, 3),
    (Kind::Pending, 2),
    (Kind::Query, 3),
    (Kind::Name, 1),
    (Kind::Links, 1),
    (Kind::Files, 2),
    (Kind::Fuzz, 8),
];

/// How many buffers of its own a worker has at most. The slot after them has the shared buffer.
pub const SLOTS: usize = 10;

/// How many pages an access has at most.
pub const RUN: usize = 8;

/// One action. Values that do not fit the state are brought into range: it takes the next slot where
/// the action is possible, and an offset within the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    pub kind: Kind,
    /// Which buffer.
    pub slot: usize,
    /// Which of several descriptors, mappings, heaps, devices or directions.
    pub pick: usize,
    /// Where in the buffer, in pages.
    pub page: usize,
    /// How long, in pages.
    pub pages: usize,
    /// The tag to write, and the seed of other random values.
    pub tag: u64,
}

impl Action {
    fn random(rng: &mut Rng) -> Self {
        let kind = kind(rng);
        Self {
            kind,
            slot: rng.usize(..=SLOTS),
            pick: rng.usize(..1 << 16),
            page: rng.usize(..1 << 16),
            pages: match kind {
                Kind::Allocate => size(rng),
                // A window of any length, at any offset.
                Kind::Map | Kind::Resize | Kind::Hole => {
                    let bits = rng.u32(..12);
                    rng.usize(1..=1 << bits)
                }
                _ => rng.usize(1..=RUN),
            },
            tag: rng.u64(1..),
        }
    }
}

fn kind(rng: &mut Rng) -> Kind {
    let sum: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let mut rest = rng.u32(..sum);
    for (kind, weight) in WEIGHTS {
        match rest.checked_sub(*weight) {
            Some(left) => rest = left,
            None => return *kind,
        }
    }
    unreachable!("the number is below the sum of all weights")
}

/// The size of a new buffer in pages. It is mostly small, sometimes so large that huge entries map it,
/// and sometimes larger than the largest block.
fn size(rng: &mut Rng) -> usize {
    match rng.u32(..100) {
        0..70 => rng.usize(1..=16),
        70..92 => rng.usize(17..=256),
        92..98 => rng.usize(512..=1030),
        _ => rng.usize(1025..=2305),
    }
}

/// Random numbers for one part of one round.
pub fn rng(seed: u64, round: u64, part: u64) -> Rng {
    [round, part]
        .into_iter()
        .fold(Rng::with_seed(seed), |mut rng, number| {
            Rng::with_seed(rng.u64(..) ^ number)
        })
}

/// The actions of a worker in a round.
pub fn script(rng: &mut Rng, actions: usize) -> Vec<Action> {
    (0..actions).map(|_| Action::random(rng)).collect()
}

/// All kinds, to find those that never succeeded.
pub fn kinds() -> impl Iterator<Item = Kind> {
    WEIGHTS.iter().map(|(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn sum(script: &[Action]) -> u64 {
        let words = script
            .iter()
            .flat_map(|action| [action.kind as u64, action.pages as u64, action.tag]);
        words.fold(0, |sum, word| sum.rotate_left(7) ^ word)
    }

    /// A seed is only useful if it always gives the same numbers.
    #[test]
    fn a_seed_stays_what_it_is() {
        assert_eq!(rng(1, 2, 3).u64(..), 15_247_452_600_988_469_591);
        assert_eq!(
            sum(&script(&mut rng(1, 2, 3), 99)),
            sum(&script(&mut rng(1, 2, 3), 99))
        );
    }

    #[test]
    fn rounds_and_workers_differ() {
        let sums: BTreeSet<_> = (0..10)
            .flat_map(|round| (0..10).map(move |worker| (round, worker)))
            .map(|(round, worker)| sum(&script(&mut rng(1, round, worker), 50)))
            .collect();
        assert_eq!(sums.len(), 100);
    }

    #[test]
    fn every_kind_comes() {
        let script = script(&mut rng(1, 0, 0), 5000);
        let seen: BTreeSet<_> = script.iter().map(|action| action.kind).collect();
        assert_eq!(seen, kinds().collect());
    }
}
