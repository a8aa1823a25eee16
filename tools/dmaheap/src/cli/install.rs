// SPDX-License-Identifier: MIT OR GPL-2.0

//! `dmaheap install`, for `make install`: this program, its man page, and its completions, which come
//! from its definition.

use super::Cli;
use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

const NAME: &str = "dmaheap";

const PAGE: &str = include_str!("../../man/dmaheap.1");

/// Where each shell looks.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions/dmaheap"),
    (Shell::Fish, "share/fish/vendor_completions.d/dmaheap.fish"),
    (Shell::Zsh, "share/zsh/site-functions/_dmaheap"),
];

/// What bash does besides: clap knows no names of heaps.
const HEAPS_IN_BASH: &str = r#"
_dmaheap_or_heap() {
    local before=${COMP_WORDS[COMP_CWORD-1]}
    if [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    fi
    if [[ $before == --heap && $2 != */* ]]; then
        COMPREPLY=($(compgen -W "$("$1" list --no-legend --output HEAP 2>/dev/null)" -- "$2"))
    else
        _dmaheap "$@"
    fi
}
complete -F _dmaheap_or_heap -o bashdefault -o default dmaheap
"#;

pub fn run(prefix: &Path) -> Result<()> {
    let program = place(prefix, "bin/dmaheap")?;
    fs::copy(std::env::current_exe()?, &program).with_context(|| program.display().to_string())?;

    let page = place(prefix, "share/man/man1/dmaheap.1")?;
    fs::write(&page, PAGE).with_context(|| page.display().to_string())?;

    for (shell, path) in COMPLETIONS {
        let path = place(prefix, path)?;
        let mut file = File::create(&path).with_context(|| path.display().to_string())?;
        generate(shell, &mut Cli::command(), NAME, &mut file);
        if shell == Shell::Bash {
            file.write_all(HEAPS_IN_BASH.as_bytes())
                .with_context(|| path.display().to_string())?;
        }
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

#[cfg(test)]
mod tests {
    use super::{Cli, NAME, PAGE};
    use clap::{CommandFactory as _, Parser as _};
    use std::collections::BTreeSet;

    /// The page has all commands and options, and no others.
    #[test]
    fn the_page_describes_what_there_is() {
        let mut definition = Cli::command().disable_help_subcommand(true);
        definition.build();
        let mut defined = BTreeSet::new();
        let commands = definition.get_subcommands();
        for command in commands.filter(|command| !command.is_hide_set()) {
            defined.insert(format!("Cm {}", command.get_name()));
        }
        let commands = definition.get_subcommands().chain([&definition]);
        for option in commands.flat_map(|command| command.get_arguments()) {
            defined.extend(option.get_long().map(|long| format!("Fl -{long}")));
            defined.extend(option.get_short().map(|short| format!("Fl {short}")));
        }

        // What items of lists are about.
        let mut described = BTreeSet::new();
        for item in PAGE.lines().filter_map(|line| line.strip_prefix(".It ")) {
            let words: Vec<_> = item.split(' ').collect();
            let pairs = words.windows(2).map(|pair| pair.join(" "));
            described.extend(pairs.filter(|pair| pair.starts_with("Fl ")));
            described.extend(item.starts_with("Cm ").then(|| item.to_owned()));
        }
        assert_eq!(described, defined);
    }

    /// What a line of the synopsis stands for: its words in mdoc, with or without what is optional.
    fn typed(line: &str, with_options: bool) -> Vec<String> {
        let mut typed: Vec<String> = Vec::new();
        let mut glued = false;
        let mut words = line.trim_start_matches('.').split(' ').peekable();
        while let Some(word) = words.next() {
            let mut next = || words.next().unwrap_or_default();
            let text = match word {
                // Lists and choices go on.
                "," | "|" => break,
                "Op" if !with_options => break,
                "Op" => continue,
                "Ns" => {
                    glued = true;
                    continue;
                }
                "Fl" => format!("-{}", next()),
                "Ar" => match next() {
                    "..." => continue,
                    "size" => "1M".into(),
                    "number" | "pid" | "seconds" => "1".into(),
                    name => name.into(),
                },
                "Cm" => next().into(),
                other => other.into(),
            };
            match typed.last_mut() {
                Some(last) if glued => last.push_str(&text),
                _ => typed.push(text),
            }
            glued = false;
        }
        typed
    }

    #[test]
    fn the_synopsis_can_be_typed() {
        let (_, synopsis) = PAGE.split_once(".Sh SYNOPSIS\n.Nm\n").unwrap();
        let (synopsis, _) = synopsis.split_once(".Sh ").unwrap();
        let mut verbs = BTreeSet::new();
        for lines in synopsis.split(".Nm\n") {
            let lines: Vec<_> = lines.lines().collect();
            // All that is optional, and without one of it.
            for left_out in 0..=lines.len() {
                let lines = lines.iter().enumerate();
                let words = lines.flat_map(|(place, line)| typed(line, place != left_out));
                let words: Vec<_> = [NAME.to_owned()].into_iter().chain(words).collect();
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{words:?}: {}", parsed.err().unwrap());
                verbs.extend(words.get(1).cloned());
            }
        }
        assert_eq!(verbs.len(), 9, "{verbs:?}");
    }
}
