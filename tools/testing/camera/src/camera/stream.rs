// SPDX-License-Identifier: GPL-2.0

//! Frames on their way to the host.

use crate::{
    raw_gadget::{Endpoint, PACKET, RawGadget},
    uvc::PAYLOAD,
    worker::Stop,
};
use camera::Layout;
use rustix::io::Errno;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// The header of a payload: its length, and its flags.
const HEADER: usize = 2;
const FRAME_ID: u8 = 1 << 0;
const END_OF_FRAME: u8 = 1 << 1;
const END_OF_HEADER: u8 = 1 << 7;

/// How much is handed to the kernel at once, in bytes: it copies that into
/// contiguous memory. A multiple of payloads.
const CHUNK: usize = 4 * PAYLOAD;

/// A stream in a format that the host has chosen.
pub struct Stream {
    pub gadget: Arc<RawGadget>,
    pub endpoint: Endpoint,
    pub layout: Layout,
    /// The time between two frames.
    pub interval: Duration,
    /// The number of the next frame: how many were sent since the camera was
    /// plugged in.
    pub next: Arc<AtomicU32>,
    /// Send no more than this.
    pub limit: Option<u32>,
}

impl Stream {
    /// Sends frames until asked to stop. The host may take its time, but a
    /// camera does not hurry afterwards.
    pub fn run(self, stop: &Stop) -> Result<(), Errno> {
        let mut bytes = vec![0; self.layout.bytes()];
        let mut due = Instant::now();
        loop {
            let number = self.next.load(Ordering::Relaxed);
            if self.limit.is_some_and(|limit| number >= limit) {
                return Ok(());
            }
            camera::fill(number, self.layout, &mut bytes);
            let payloads = payloads(number, &bytes);
            if !stop.sleep_until(due) {
                return Ok(());
            }
            due = Instant::now().max(due + self.interval);
            for (chunk, is_last) in chunks(&payloads) {
                match self.send(chunk, is_last, stop) {
                    Ok(true) => (),
                    // Unplugged, or the host has reset the device.
                    Ok(false) | Err(Errno::SHUTDOWN) => return Ok(()),
                    Err(errno) => return Err(errno),
                }
            }
            self.next.store(number.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Sends a part of a frame; returns false if asked to stop, in which case
    /// some of it may have arrived.
    fn send(&self, chunk: &[u8], is_last: bool, stop: &Stop) -> Result<bool, Errno> {
        if stop.asked() {
            return Ok(false);
        }
        match self.gadget.send(self.endpoint, chunk, is_last) {
            Err(Errno::INTR) if stop.asked() => Ok(false),
            result => result.map(|()| true),
        }
    }
}

/// Cuts a frame into payloads. All but the last are full, so that it takes no
/// boundaries between transfers to tell them apart.
fn payloads(number: u32, frame: &[u8]) -> Vec<u8> {
    let parts = frame.chunks(PAYLOAD - HEADER);
    let last = parts.len() - 1;
    let mut bytes = Vec::with_capacity(frame.len() + parts.len() * HEADER);
    for (index, part) in parts.enumerate() {
        let mut flags = END_OF_HEADER;
        if number & 1 == 1 {
            flags |= FRAME_ID;
        }
        if index == last {
            flags |= END_OF_FRAME;
        }
        bytes.extend([HEADER as u8, flags]);
        bytes.extend(part);
    }
    bytes
}

/// Cuts payloads into what is sent at once, none of it tiny: the emulated
/// controller takes up to 64 bytes as sent although the host has not asked, and
/// would send them after a restart.
fn chunks(mut payloads: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    std::iter::from_fn(move || {
        if payloads.is_empty() {
            return None;
        }
        let length = if payloads.len() < CHUNK + PACKET {
            payloads.len()
        } else {
            CHUNK
        };
        let (chunk, rest) = payloads.split_at(length);
        payloads = rest;
        // A full payload ends by being full: an empty packet after it would
        // be one more payload, without a header.
        let is_last = rest.is_empty() && chunk.len() % PAYLOAD != 0;
        Some((chunk, is_last))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the host makes of payloads: parts of frames with their flags.
    fn decode(bytes: &[u8]) -> Vec<(u8, &[u8])> {
        bytes
            .chunks(PAYLOAD)
            .map(|payload| {
                assert_eq!(usize::from(payload[0]), HEADER);
                (payload[1], &payload[HEADER..])
            })
            .collect()
    }

    #[test]
    fn payloads_make_the_frame_again() {
        for length in [
            1,
            100,
            PAYLOAD - HEADER,
            PAYLOAD - HEADER + 1,
            153_600,
            614_400,
        ] {
            let frame: Vec<u8> = (0..length).map(|i| i as u8).collect();
            for number in [0, 1] {
                let bytes = payloads(number, &frame);
                let parts = decode(&bytes);
                let (last, others) = parts.split_last().unwrap();
                let id = 0x80 | number as u8;
                assert!(others.iter().all(|(flags, _)| *flags == id));
                assert_eq!(last.0, id | END_OF_FRAME);
                let joined: Vec<u8> = parts
                    .iter()
                    .flat_map(|(_, part)| part.iter().copied())
                    .collect();
                assert!(joined == frame);
            }
        }
    }

    #[test]
    fn chunks_lose_nothing_and_are_not_tiny() {
        for length in [
            513,
            CHUNK,
            CHUNK + 1,
            CHUNK + PACKET,
            10 * CHUNK + 64,
            10 * CHUNK + 600,
        ] {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let all: Vec<_> = chunks(&bytes).collect();
            assert!(all.iter().all(|(chunk, _)| chunk.len() >= PACKET));
            assert!(all.iter().rev().skip(1).all(|(_, is_last)| !is_last));
            let joined: Vec<u8> = all
                .iter()
                .flat_map(|(chunk, _)| chunk.iter().copied())
                .collect();
            assert!(joined == bytes);
        }
    }

    #[test]
    fn only_short_payloads_ask_for_an_empty_packet() {
        let is_last = |length: usize| chunks(&vec![0; length]).last().unwrap().1;
        assert!(is_last(CHUNK + 100));
        assert!(is_last(CHUNK + PACKET));
        assert!(!is_last(CHUNK));
        assert!(!is_last(CHUNK + PAYLOAD));
    }
}
