// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap generate`: man pages and completions, for `make install`.

use super::Cli;
use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use std::fs;
use std::path::Path;

/// Where each shell looks below `share`.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Fish, "fish/vendor_completions.d"),
    (Shell::Zsh, "zsh/site-functions"),
];

pub fn run(share: &Path) -> Result<()> {
    let make = |path: &str| {
        let directory = share.join(path);
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        anyhow::Ok(directory)
    };
    clap_mangen::generate_to(Cli::command(), make("man/man1")?).context("writing man pages")?;
    for (shell, path) in SHELLS {
        generate_to(shell, &mut Cli::command(), "dmaheap", make(path)?)
            .with_context(|| format!("writing completions for {shell}"))?;
    }
    // bash looks for the command's name.
    let bash = share.join(SHELLS[0].1);
    fs::rename(bash.join("dmaheap.bash"), bash.join("dmaheap")).context("naming completions")
}
