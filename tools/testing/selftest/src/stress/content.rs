// SPDX-License-Identifier: GPL-2.0

//! The content of a buffer: the tag that last filled each page.

use crate::mapping::page_size;
use anyhow::{Result, ensure};

/// The tag of a page that nobody has written to.
const ZEROED: u64 = 0;

/// The tag of a page whose content is not known.
const UNKNOWN: u64 = u64::MAX;

#[derive(Clone)]
pub struct Content(Vec<u64>);

impl Content {
    pub fn zeroed(pages: usize) -> Self {
        Self(vec![ZEROED; pages])
    }

    pub fn pages(&self) -> usize {
        self.0.len()
    }

    /// The tag that last filled a page.
    pub fn tag(&self, page: usize) -> u64 {
        self.0[page]
    }

    /// Notes that `pages` pages from `page` on were filled by [`bytes()`].
    pub fn fill(&mut self, page: usize, pages: usize, tag: u64) {
        self.0[page..page + pages].fill(tag);
    }

    /// Notes that something unknown was, or may have been, written to the first `pages` pages.
    pub fn forget(&mut self, pages: usize) {
        self.0[..pages].fill(UNKNOWN);
    }

    /// Notes that the first `pages` pages were copied from another buffer.
    pub fn copy(&mut self, pages: usize, from: &Self) {
        self.0[..pages].copy_from_slice(&from.0[..pages]);
    }

    /// Fails unless `seen` is the content from the start of `page` on.
    pub fn expect(&self, who: &str, page: usize, seen: &[u8]) -> Result<()> {
        for (number, seen) in seen.chunks(page_size()).enumerate() {
            let page = page + number;
            let tag = self.0[page];
            if tag == UNKNOWN {
                continue;
            }
            let wrong = seen
                .chunks_exact(8)
                .zip(words(page, tag))
                .position(|(seen, expected)| *seen != expected.to_le_bytes());
            ensure!(
                wrong.is_none(),
                "{who} reads wrong bytes: page {page} of {} was last filled with {tag:#x}, but at \
                 its byte {:#x} there are {:02x?}",
                self.pages(),
                wrong.unwrap_or_default() * 8,
                &seen[wrong.unwrap_or_default() * 8..][..8]
            );
        }
        Ok(())
    }
}

/// The words of a page that is filled with `tag`. Other pages have other words.
fn words(page: usize, tag: u64) -> impl Iterator<Item = u64> {
    let (start, step) = match tag {
        ZEROED => (0, 0),
        _ => (tag ^ (page as u64) << 40, 0x9e37_79b9_7f4a_7c15),
    };
    (0..).map(move |word: u64| start.wrapping_add(word.wrapping_mul(step)))
}

/// The bytes that fill `pages` pages from `page` on.
pub fn bytes(page: usize, pages: usize, tag: u64) -> Vec<u8> {
    (page..page + pages)
        .flat_map(|page| words(page, tag).take(page_size() / 8))
        .flat_map(u64::to_le_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_expected_and_nothing_else() {
        let mut content = Content::zeroed(4);
        content.fill(1, 2, 77);
        let mut seen = vec![0; page_size()];
        seen.extend(bytes(1, 2, 77));
        content.expect("it", 0, &seen).unwrap();
        content.expect("it", 1, &bytes(1, 1, 77)).unwrap();
        assert!(content.expect("it", 2, &bytes(1, 1, 77)).is_err());
        assert!(content.expect("it", 3, &bytes(3, 1, 77)).is_err());
        seen[page_size() - 1] = 1;
        assert!(content.expect("it", 0, &seen).is_err());
    }

    #[test]
    fn what_was_copied_is_expected_and_what_is_unknown_is_not() {
        let (mut content, mut from) = (Content::zeroed(3), Content::zeroed(2));
        from.fill(0, 2, 77);
        content.copy(1, &from);
        content.expect("it", 0, &bytes(0, 1, 77)).unwrap();
        assert!(content.expect("it", 1, &bytes(1, 1, 77)).is_err());
        content.forget(2);
        content.expect("it", 0, &bytes(0, 2, 78)).unwrap();
        assert!(content.expect("it", 2, &bytes(2, 1, 78)).is_err());
        content.fill(1, 1, 79);
        assert!(content.expect("it", 0, &bytes(0, 2, 78)).is_err());
    }
}
