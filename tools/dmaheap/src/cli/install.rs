// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap install`, for `make install`: this program, its man pages and its completions, all from
//! the one definition.

use super::Cli;
use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const NAME: &str = "dmaheap";

/// Where each shell looks.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions/dmaheap"),
    (Shell::Fish, "share/fish/vendor_completions.d/dmaheap.fish"),
    (Shell::Zsh, "share/zsh/site-functions/_dmaheap"),
];

pub fn run(prefix: &Path) -> Result<()> {
    let program = place(prefix, "bin/dmaheap")?;
    fs::copy(std::env::current_exe()?, &program).with_context(|| program.display().to_string())?;

    let man = place(prefix, "share/man/man1/dmaheap.1")?.with_file_name("");
    clap_mangen::generate_to(Cli::command(), &man).with_context(|| man.display().to_string())?;

    for (shell, path) in COMPLETIONS {
        let path = place(prefix, path)?;
        let mut file = File::create(&path).with_context(|| path.display().to_string())?;
        generate(shell, &mut Cli::command(), NAME, &mut file);
    }
    Ok(())
}

/// A path below `prefix`, in a directory that is there.
fn place(prefix: &Path, path: &str) -> Result<PathBuf> {
    let path = prefix.join(path);
    let directory = path.with_file_name("");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    Ok(path)
}
