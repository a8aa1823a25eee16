// SPDX-License-Identifier: GPL-2.0

//! The module parameter that changes the links of a driver's devices.

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::fs;

const PARAMETER: &str = "/sys/module/dmabuf_coherency/parameters/links";

/// The rules. Dropping this restores those of before.
pub struct Rules {
    saved: String,
}

impl Rules {
    pub fn save() -> Result<Self> {
        Ok(Self { saved: read()? })
    }

    pub fn get(&self) -> Result<String> {
        read()
    }

    pub fn set(&self, text: &str) -> Result<()> {
        self.try_set(text)
            .with_context(|| format!("setting links={text}"))
    }

    pub fn try_set(&self, text: &str) -> Result<(), Errno> {
        // An empty write does not reach the parameter.
        let text = format!("{text}\n");
        fs::write(PARAMETER, text)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        if let Err(errno) = self.try_set(&self.saved) {
            println!("cannot restore the rules: {errno}");
        }
    }
}

fn read() -> Result<String> {
    let text = fs::read_to_string(PARAMETER).context(PARAMETER)?;
    Ok(text.trim_end().to_owned())
}
