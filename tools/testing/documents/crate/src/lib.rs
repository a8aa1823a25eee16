// SPDX-License-Identifier: GPL-2.0

//! What the documents show in Rust.

pub mod readme {
    #[expect(unused, reason = "what is allocated last, the reader is to use")]
    pub fn allocate() -> Result<(), Box<dyn std::error::Error>> {
        // snippet: README-rust
        Ok(())
    }
}

pub mod links {
    // snippet: links-rust

    // snippet: links-several

    pub fn best() -> io::Result<Option<String>> {
        common(&[Path::new("/dev/video0"), Path::new("/dev/dri/card0")])
    }
}
