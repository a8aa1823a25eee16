// SPDX-License-Identifier: GPL-2.0

//! System calls with random arguments, on everything of the module that a process can open. They may
//! fail with the errors that are listed here. They must not change anything.

use super::action::Action;
use super::state::{Live, State};
use super::tally::Outcome;
use crate::heap::ALLOC;
use crate::ioctl;
use crate::mapping::{Mapping, Window, page_size};
use crate::options::is_ours;
use crate::query::QUERY;
use anyhow::{Result, bail};
use fastrand::Rng;
use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use rustix::ioctl::Opcode;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

/// The errors that a call with random arguments may end with.
const ERRORS: [Errno; 14] = [
    Errno::ACCESS,
    Errno::BADF,
    Errno::TOOBIG,
    Errno::FAULT,
    Errno::INVAL,
    Errno::ISDIR,
    Errno::NODEV,
    Errno::NOMEM,
    Errno::NOTTY,
    Errno::NXIO,
    Errno::OPNOTSUPP,
    Errno::OVERFLOW,
    Errno::PERM,
    Errno::SPIPE,
];

/// Numbers that are more likely to be wrong in an interesting way.
const EDGES: [u64; 12] = [
    0,
    1,
    4095,
    4096,
    4097,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// A page for arguments, and after it a page that cannot be accessed.
struct Scratch(Mapping);

impl Scratch {
    fn new(rng: &mut Rng) -> Result<Self> {
        let page = page_size();
        let mapping = Mapping::anonymous(2 * page)?;
        let behind = mapping.pointer().wrapping_byte_add(page);
        // SAFETY: The page belongs to the mapping, and nobody accesses it.
        unsafe { rustix::mm::mprotect(behind, page, MprotectFlags::empty())? };
        let words: Vec<u8> = (0..page / 8)
            .flat_map(|_| number(rng).to_ne_bytes())
            .collect();
        mapping.write(0, &words);
        Ok(Self(mapping))
    }

    /// An address for an argument: in the memory, across its end, or nowhere.
    fn address(&self, rng: &mut Rng) -> usize {
        let start = self.0.address();
        match rng.u32(..10) {
            0..6 => start + 8 * rng.usize(..page_size() / 16),
            6 => start + page_size() - rng.usize(1..=256),
            7 => start + rng.usize(..page_size() / 2),
            8 => rng.usize(..page_size()),
            // The kernel's half.
            _ => rng.usize(1 << 63..),
        }
    }
}

fn number(rng: &mut Rng) -> u64 {
    match rng.u32(..4) {
        0 => EDGES[rng.usize(..EDGES.len())],
        1 => rng.u64(..256),
        2 => rng.u64(..1 << 32),
        _ => rng.u64(..),
    }
}

/// The kind of file that a call is made on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    Heap,
    Buffer,
    Query,
}

impl State {
    /// Makes a few calls.
    pub fn fuzz(&mut self, action: &Action) -> Result<Outcome> {
        let rng = &mut Rng::with_seed(action.tag);
        let buffer = self.find(action.slot, Live::is_open);
        let buffer = buffer.map(|slot| self.lives[slot].as_ref().map(|live| &live.descriptors[0]));
        // An in-tree heap would kill processes to find the memory.
        let ours = self.heaps.iter().filter(|(name, _)| is_ours(name));
        let heaps: Vec<_> = ours.map(|(_, heap)| heap).collect();
        let scratch = Scratch::new(rng)?;
        for _ in 0..8 {
            let (target, fd) = match (rng.u32(..4), buffer.flatten()) {
                (0, _) | (2.., None) => {
                    let heap = heaps[rng.usize(..heaps.len())];
                    (Target::Heap, heap.as_fd())
                }
                (1, _) => (Target::Query, self.query.as_fd()),
                (_, Some(buffer)) => (Target::Buffer, buffer.as_fd()),
            };
            let mut said = String::new();
            let result = if rng.bool() {
                call_ioctl(rng, &scratch, target, fd, &mut said)
            } else {
                call_other(rng, fd, &mut said)
            };
            if let Some(errno) = result.err().filter(|errno| !ERRORS.contains(errno)) {
                bail!(
                    "{said} on {target:?}: {} is not one of the expected errors",
                    crate::expect::name(errno)
                );
            }
        }
        Ok(Outcome::Done)
    }
}

fn call_ioctl(
    rng: &mut Rng,
    scratch: &Scratch,
    target: Target,
    fd: BorrowedFd<'_>,
    said: &mut String,
) -> Result<(), Errno> {
    let opcode = opcode(rng, target);
    let address = scratch.address(rng);
    prepare(rng, scratch, address, target, fd.as_raw_fd());
    *said = format!("ioctl {opcode:#x} at {address:#x}");
    // SAFETY: What the kernel writes there is the scratch memory, the page without access behind
    // it, or no memory of a process.
    unsafe { ioctl::at_address(fd, opcode, address)? };
    // Some return a descriptor, as a number in their argument.
    let given = match (target, opcode & 0xff) {
        (Target::Heap, 0) => Some(8),
        (Target::Buffer, 2) => Some(4),
        _ => None,
    };
    if let Some(offset) = given {
        let mut fd = [0; 4];
        let at = address + offset - scratch.0.address();
        scratch.0.read(at, &mut fd);
        // SAFETY: The ioctl has succeeded, so the descriptor is new and ours.
        drop(unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(fd)) });
    }
    Ok(())
}

/// The code of an ioctl. It is most often one that exists, with any size and direction.
fn opcode(rng: &mut Rng, target: Target) -> Opcode {
    let known = match target {
        Target::Heap => ALLOC,
        Target::Query => QUERY | rng.u32(..2),
        Target::Buffer => u32::from(b'b') << 8,
    };
    let opcode = match rng.u32(..8) {
        0 => rng.u32(..),
        1 => known & 0xffff | rng.u32(..) & 0xffff_0000,
        2 => known & 0xffff_ff00 | rng.u32(..256),
        _ if target == Target::Buffer => buffer_opcode(rng),
        _ => known,
    };
    // A heap allocates whatever the code's direction and size are. It returns the descriptor, which
    // has to be closed again, only if both are right.
    if target == Target::Heap {
        opcode & 0xc0ff_ffff | 0xc010_0000
    } else {
        opcode
    }
}

fn buffer_opcode(rng: &mut Rng) -> Opcode {
    use crate::heap::{SET_NAME, SYNC};
    match rng.u32(..4) {
        0 => SYNC,
        1 => SET_NAME,
        2 => rustix::ioctl::opcode::read_write::<u64>(b'b', 2),
        _ => rustix::ioctl::opcode::write::<u64>(b'b', 3),
    }
}

/// Makes some parts of the argument right, so that not every call fails at the first check.
fn prepare(rng: &mut Rng, scratch: &Scratch, address: usize, target: Target, own: RawFd) {
    let mut argument: Vec<u8> = match target {
        Target::Heap => {
            let pages = if rng.bool() {
                rng.u64(..8) << 12
            } else {
                number(rng)
            };
            let fd = if rng.bool() { 0 } else { rng.u32(..4) };
            let flags = if rng.bool() {
                0o2000002
            } else {
                number(rng) as u32
            };
            let heap_flags = if rng.bool() { 0 } else { number(rng) };
            [
                pages.to_ne_bytes(),
                pair(fd, flags),
                heap_flags.to_ne_bytes(),
            ]
            .concat()
        }
        Target::Query => {
            let size = [0, 8, 32, 95, 96, 97, 4096, 4097, number(rng) as u32][rng.usize(..9)];
            let fd = [own as u32, 0, u32::MAX, number(rng) as u32][rng.usize(..4)];
            let flags = [0, rng.u32(..8), number(rng) as u32][rng.usize(..3)];
            [pair(size, fd), pair(flags, 0)].concat()
        }
        Target::Buffer => {
            let fd = [u32::MAX, own as u32, 0][rng.usize(..3)];
            pair(rng.u32(..8), fd).to_vec()
        }
    };
    let start = scratch.0.address();
    let Some(offset) = address.checked_sub(start).filter(|at| *at < page_size()) else {
        return;
    };
    argument.truncate(page_size() - offset);
    scratch.0.write(offset, &argument);
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    bytes
}

/// Makes another system call on a file.
fn call_other(rng: &mut Rng, fd: BorrowedFd<'_>, said: &mut String) -> Result<(), Errno> {
    let (one, two) = (number(rng), number(rng));
    let mut note = |call: &str| *said = format!("{call}({one:#x}, {two:#x})");
    match rng.u32(..7) {
        0 => {
            note("mmap");
            // A mapping that succeeds is never accessed, and goes at once.
            let window = Window {
                offset: one & !0xfff,
                len: (two as usize).max(1),
                protection: ProtFlags::from_bits_retain(rng.u32(..8)),
                flags: [
                    MapFlags::SHARED,
                    MapFlags::PRIVATE,
                    MapFlags::SHARED_VALIDATE,
                ][rng.usize(..3)],
            };
            Mapping::new(fd, &window).map(drop)
        }
        1 => {
            note("lseek");
            let from = [
                SeekFrom::Start(one),
                SeekFrom::Current(one as i64),
                SeekFrom::End(one as i64),
            ];
            rustix::fs::seek(fd, from[rng.usize(..3)]).map(drop)
        }
        2 => {
            note("read");
            rustix::io::read(fd, &mut [0; 64]).map(drop)
        }
        3 => {
            note("write");
            rustix::io::write(fd, &[0; 64]).map(drop)
        }
        4 => {
            note("ftruncate");
            rustix::fs::ftruncate(fd, one)
        }
        5 => {
            note("fallocate");
            rustix::fs::fallocate(fd, FallocateFlags::empty(), one, two)
        }
        _ => {
            note("pread");
            rustix::io::pread(fd, &mut [0; 64], one).map(drop)
        }
    }
}
