// SPDX-License-Identifier: GPL-2.0

//! Byte patterns that differ from all others.

use anyhow::{Result, ensure};

/// A pattern of bytes. Bytes near each other differ, and so do patterns of different seeds.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_ne_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Fails unless each byte is as expected, and names the first that is not.
pub fn expect_bytes(what: &str, seen: &[u8], expected: &[u8]) -> Result<()> {
    let mut pairs = seen.iter().zip(expected);
    let wrong = pairs.position(|(seen, expected)| seen != expected);
    ensure!(
        wrong.is_none() && seen.len() == expected.len(),
        "{what}: expected {} bytes, got {}, the first wrong one at {wrong:x?}",
        expected.len(),
        seen.len()
    );
    Ok(())
}
