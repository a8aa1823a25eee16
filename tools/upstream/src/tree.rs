// SPDX-License-Identifier: GPL-2.0

//! The kernel's files, as one patch after the other leaves them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::helpers::{self, insert_sorted};
use crate::rust;
use crate::series::{Edit, File, HELPERS, Patch};

const BINDINGS: &str = "rust/bindings/bindings_helper.h";
const PARAMETERS: &str = "rust/bindgen_parameters";
const HELPERS_C: &str = "rust/helpers/helpers.c";

/// How constants are called that bindgen cannot evaluate: ours, and theirs.
const OURS: &str = "DMACOH_";
const THEIRS: &str = "RUST_CONST_HELPER_";

/// Where the files come from, and what has become of them.
pub struct Tree {
    checkout: PathBuf,
    source: PathBuf,
    /// The files that differ from the source's.
    pub files: BTreeMap<String, String>,
    helpers: Vec<helpers::File>,
    /// The helpers that the patches so far need.
    wanted: BTreeSet<String>,
    /// The paths of files of the series.
    rust: Vec<String>,
}

/// The path of a file by its module.
fn path(module: &str) -> String {
    format!("rust/kernel/{}.rs", module.replace("::", "/"))
}

impl Tree {
    pub fn new(checkout: &Path, source: &Path) -> Result<Self> {
        let mut helpers = Vec::new();
        let directory = checkout.join("rust/helpers");
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.extension().is_some_and(|extension| extension == "c") && name != "helpers" {
                helpers.push(helpers::File::parse(&name, &fs::read_to_string(&path)?)?);
            }
        }
        helpers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            checkout: checkout.to_owned(),
            source: source.to_owned(),
            files: BTreeMap::new(),
            helpers,
            wanted: BTreeSet::new(),
            rust: Vec::new(),
        })
    }

    /// The file as it is in the source, if it is there.
    pub fn original(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.source.join(path)).ok()
    }

    fn read(&self, path: &str) -> Result<String> {
        self.files
            .get(path)
            .cloned()
            .or_else(|| self.original(path))
            .with_context(|| format!("the kernel has no {path}: is it another series?"))
    }

    fn ours(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.checkout.join(path)).with_context(|| path.to_owned())
    }

    /// Applies one patch.
    pub fn apply(&mut self, patch: &Patch) -> Result<()> {
        for header in patch.headers {
            self.include(header)?;
        }
        for edit in patch.edits {
            self.edit(edit)?;
        }
        let mut used = BTreeSet::new();
        for file in patch.files {
            let text = self.ours(&path(file.ours))?;
            let tests = format!("tools/upstream/kunit/{}.rs", file.theirs.replace("::", "_"));
            let tests = fs::read_to_string(self.checkout.join(tests)).ok();
            let new = rust::convert(file, &text, tests.as_deref())?;
            let new = self.formatted(&new).with_context(|| file.theirs)?;
            let left = called(&new, "bindings::");
            used.extend(
                called(&text, "bindings::dmacoh_")
                    .intersection(&left)
                    .cloned(),
            );
            for name in called(&text, &format!("bindings::{OURS}")).intersection(&left) {
                self.constant(name)?;
            }
            self.declare(file)?;
            self.files.insert(path(file.theirs), new);
            self.rust.push(path(file.theirs));
        }
        for name in &used {
            if !self.helpers.iter().any(|file| file.defines(name)) {
                bail!("no file of rust/helpers has dmacoh_{name}()");
            }
        }
        self.wanted.extend(used);
        self.helpers()
    }

    /// The text as the kernel lays it out: lines are longer or shorter now.
    pub fn formatted(&self, text: &str) -> Result<String> {
        let mut rustfmt = Command::new("rustfmt");
        rustfmt.args(["--edition", "2021", "--config-path"]);
        rustfmt.arg(self.source.join(".rustfmt.toml"));
        let mut child = rustfmt
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run rustfmt: install it")?;
        let mut stdin = child.stdin.take().context("rustfmt has no input")?;
        let text = text.to_owned();
        let writer = thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output()?;
        writer.join().ok().context("rustfmt does not read")??;
        ensure!(output.status.success(), "rustfmt failed");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The files of the series, with their texts.
    pub fn series(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rust
            .iter()
            .filter_map(|path| Some((path.as_str(), self.files.get(path)?.as_str())))
    }

    /// Has the bindings include a header.
    fn include(&mut self, header: &str) -> Result<()> {
        let text = self.read(BINDINGS)?;
        let line = format!("#include <{header}>");
        if !text.contains(&line) {
            let new = insert_sorted(&text, "#include <linux/", &line).context(BINDINGS)?;
            self.files.insert(BINDINGS.into(), new);
        }
        Ok(())
    }

    fn edit(&mut self, edit: &Edit) -> Result<()> {
        let text = self.read(edit.file)?;
        let at = format!("\n{}\n", edit.before);
        if text.matches(&at).count() != 1 {
            bail!(
                "{} has not one line {:?}: is it another series?",
                edit.file,
                edit.before
            );
        }
        let new = text.replace(&at, &format!("\n{}{}\n", edit.text, edit.before));
        self.files.insert(edit.file.into(), new);
        Ok(())
    }

    /// Has bindgen know the value of a macro.
    fn constant(&mut self, name: &str) -> Result<()> {
        let mut text = self.read(BINDINGS)?;
        if text.contains(&format!("{THEIRS}{name} ")) {
            return Ok(());
        }
        let ours = self.ours(BINDINGS)?;
        let line = ours
            .lines()
            .find(|line| line.contains(&format!("{OURS}{name} ")))
            .with_context(|| format!("{BINDINGS} has no {OURS}{name}"))?;
        let kind = line.split(OURS).next().unwrap_or_default();
        let line = line.replace(OURS, THEIRS);
        let lines: Vec<&str> = text.lines().collect();
        let last = |start: &str| {
            let alike = |line: &&str| line.starts_with(&format!("{start}{THEIRS}"));
            lines.iter().rposition(alike)
        };
        let at = last(kind)
            .or_else(|| last("const size_t "))
            .context(BINDINGS)?;
        let mut new = lines[..=at].to_vec();
        new.push(&line);
        new.extend_from_slice(&lines[at + 1..]);
        text = new.join("\n") + "\n";
        self.files.insert(BINDINGS.into(), text);

        // Where bindgen does know it, there would be two.
        let parameters = self.read(PARAMETERS)?;
        let start = "--blocklist-item ";
        let last = parameters.lines().rfind(|line| line.starts_with(start));
        let last = last.context(PARAMETERS)?;
        let new = parameters.replace(&format!("{last}\n"), &format!("{last}\n{start}{name}\n"));
        self.files.insert(PARAMETERS.into(), new);
        Ok(())
    }

    /// Has its parent declare a file.
    fn declare(&mut self, file: &File) -> Result<()> {
        let (parent, name) = match file.theirs.rsplit_once("::") {
            Some((parent, name)) => (path(parent), name),
            None => (path("lib"), file.theirs),
        };
        // A parent of ours declares its own.
        if self.rust.contains(&parent) {
            return Ok(());
        }
        let text = self.read(&parent)?;
        let cfg = match file.cfg {
            "" => String::new(),
            option => format!("#[cfg({option})]\n"),
        };
        let line = format!("{cfg}pub mod {name};\n");
        self.files.insert(parent, declared(&text, name, &line)?);
        Ok(())
    }

    /// Writes the helpers that are wanted by now.
    fn helpers(&mut self) -> Result<()> {
        for file in &self.helpers {
            let Some(part) = file.part(&self.wanted) else {
                continue;
            };
            let (_, name, guard) = HELPERS
                .iter()
                .find(|(ours, ..)| *ours == file.name)
                .with_context(|| {
                    format!(
                        "series.rs does not say what helpers/{}.c becomes",
                        file.name
                    )
                })?;
            let guarded = |text: &str| match *guard {
                "" => text.to_owned(),
                option => format!("#ifdef {option}\n{text}\n#endif\n"),
            };
            let path = format!("rust/helpers/{name}.c");
            let text = match self.original(&path) {
                Some(text) => {
                    file.added(&text, &guarded(&part).replace("\n\n#endif", "\n#endif"))?
                }
                None => {
                    let all = self.read(HELPERS_C)?;
                    let include = format!("#include \"{name}.c\"");
                    if !all.contains(&include) {
                        let line = guarded(&include);
                        let all = insert_sorted(&all, "#include \"", line.trim_end())
                            .context(HELPERS_C)?;
                        self.files.insert(HELPERS_C.into(), all);
                    }
                    file.whole(&part)
                }
            };
            self.files.insert(path, text);
        }
        Ok(())
    }
}

/// The names in a text that follow `start`.
fn called(text: &str, start: &str) -> BTreeSet<String> {
    text.split(start)
        .skip(1)
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        })
        .collect()
}

/// A file that declares one more module.
fn declared(text: &str, name: &str, line: &str) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let module = |line: &str| {
        line.strip_prefix("pub mod ")
            .and_then(|rest| rest.strip_suffix(';'))
            .map(str::to_owned)
    };
    let all: Vec<usize> = (0..lines.len())
        .filter(|&at| module(lines[at]).is_some())
        .collect();
    let is_attribute = |line: &str| line.starts_with("#[") || line.starts_with("//");
    let at = match all
        .iter()
        .find(|&&at| module(lines[at]).is_some_and(|other| other.as_str() > name))
    {
        // Before the attributes of the next one.
        Some(&at) => (0..at)
            .rev()
            .find(|&at| !is_attribute(lines[at]))
            .map_or(0, |at| at + 1),
        None => match all.last() {
            Some(last) => last + 1,
            // Behind the imports, or else the comment about the file.
            None => {
                let end = match rust::last_import(text)? {
                    Some(line) => line,
                    None => lines
                        .iter()
                        .rposition(|line| line.starts_with("//!"))
                        .map_or(0, |at| at + 1),
                };
                let (head, rest) = (lines[..end].join("\n"), lines[end..].join("\n"));
                return Ok(format!("{head}\n\n{line}{rest}\n"));
            }
        },
    };
    Ok(format!(
        "{}\n{line}{}\n",
        lines[..at].join("\n"),
        lines[at..].join("\n")
    ))
}
