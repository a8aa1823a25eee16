// SPDX-License-Identifier: GPL-2.0

//! Compiles and runs the blocks of README.md and Documentation unchanged.
//!
//! Each block names its language, by `code-block` or after the fence. Shell runs in a guest of
//! arm64, page by page. The guest has to print the output that a `console` block shows. C, Rust,
//! Kbuild and TOML go into the files of `tools/testing/documents` that ask for them by
//! `snippet: NAME`. The block has that name in its option `:name:`. `text` is for people.
//!
//! A comment before a block, which no reader sees, may say `First: COMMAND`. The guest runs that
//! command before the block. It may also say `Not run: REASON`. Of such a block only the syntax is
//! checked.

use crate::boot::{Boot, text};
use crate::command::{done, make, output, unless_done};
use crate::group::Group;
use crate::kit::Kits;
use crate::results::{Case, Verdict};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use vm::{Add, Arch};

/// Files that snippets are put into: programs for a guest, a crate, and kernel modules.
const CONTEXTS: &str = "tools/testing/documents";

/// The commands that a guest runs before the first page.
const LOAD: &str = "PATH=$PATH:/; insmod $DMABUF_COHERENCY_KO && modprobe -a bochs vgem";

/// The commands that a guest runs before each page. This vivid takes memory in one piece only.
const PAGE: &str = "cd / && modprobe -qr vivid; modprobe vivid allocators=1\n";

/// Prints the files of Python that a snippet needs, one on each line.
const PYTHON: &str = "import fcntl, os, struct, sys\n\
    for module in list(sys.modules.values()):\n    \
        if getattr(module, '__file__', None): print(module.__file__)\n\
    print(os.path.realpath(sys.executable), sys.base_prefix, sep='\\n')";

/// How the lines begin by which the guest separates commands.
const MARK: &str = "@@";

pub fn groups() -> Vec<Group> {
    vec![
        Group::new(
            "x86_64-documents",
            "snippets of the documents are compiled; programs among them run",
            compiled,
        ),
        Group::new(
            "arm64-documents",
            "the shell of the documents runs, and prints what they show",
            sessions,
        ),
    ]
}

/// A block of a document.
#[derive(Default)]
struct Snippet {
    /// The page without its suffix, and the number of the line.
    page: String,
    line: usize,
    language: String,
    name: String,
    text: String,
    first: String,
    not_run: Option<String>,
}

impl Snippet {
    fn at(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// The commands of a shell, each with the output that the page shows.
    fn commands(&self) -> Vec<(String, Vec<&str>)> {
        if self.language == "sh" {
            return vec![(self.text.clone(), Vec::new())];
        }
        let mut commands: Vec<(String, Vec<&str>)> = Vec::new();
        let mut goes_on = false;
        for line in self.text.lines() {
            let command = line.strip_prefix("$ ").or(line.strip_prefix("# "));
            match (commands.last_mut(), command) {
                (Some((last, _)), _) if goes_on => {
                    last.push('\n');
                    last.push_str(line);
                }
                (_, Some(command)) => commands.push((command.into(), Vec::new())),
                (Some((_, shown)), None) => shown.push(line),
                (None, None) => commands.push((line.into(), Vec::new())),
            }
            goes_on = line.ends_with('\\');
        }
        commands
    }

    fn is_shell(&self) -> bool {
        matches!(self.language.as_str(), "sh" | "console")
    }
}

fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![vm::checkout().join("README.md")];
    for entry in fs::read_dir(vm::checkout().join("Documentation"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == "rst") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}

fn snippets() -> Result<Vec<Snippet>> {
    let mut snippets = Vec::new();
    for path in pages()? {
        let text = fs::read_to_string(&path)?;
        let found = match path.extension() {
            Some(suffix) if suffix == "md" => markdown(&text),
            _ => restructured(&text),
        };
        let page = path.file_stem().unwrap_or_default().to_string_lossy();
        for mut snippet in found.with_context(|| path.display().to_string())? {
            snippet.page = page.clone().into_owned();
            if snippet.name.is_empty() {
                snippet.name = format!("{page}-{}", snippet.language);
            }
            snippets.push(snippet);
        }
    }
    Ok(snippets)
}

/// The blocks of a page: those between fences, and those of commands, which are indented.
fn markdown(page: &str) -> Result<Vec<Snippet>> {
    let mut snippets: Vec<Snippet> = Vec::new();
    let (mut fenced, mut indented) = (false, false);
    for (index, line) in page.lines().enumerate() {
        let begin = |language: &str| Snippet {
            line: index + 1,
            language: language.into(),
            ..Snippet::default()
        };
        let command = line.strip_prefix("    ").filter(|_| !fenced);
        if let Some(language) = line.strip_prefix("```") {
            fenced = !fenced;
            if fenced {
                ensure!(
                    !language.is_empty(),
                    "line {}: name the language after ```",
                    index + 1
                );
                snippets.push(begin(language));
            }
        } else if let Some(command) = command {
            if !indented {
                let not_run = Some("it is for the machine that the tests run on".into());
                snippets.push(Snippet {
                    not_run,
                    ..begin("sh")
                });
            }
            append(&mut snippets, command);
        } else if fenced {
            append(&mut snippets, line);
        }
        indented = command.is_some();
    }
    Ok(snippets)
}

fn append(snippets: &mut [Snippet], line: &str) {
    if let Some(snippet) = snippets.last_mut() {
        snippet.text.push_str(line);
        snippet.text.push('\n');
    }
}

fn restructured(page: &str) -> Result<Vec<Snippet>> {
    let mut snippets = Vec::new();
    let mut next = Snippet::default();
    let lines: Vec<&str> = page.lines().collect();
    // The lines after a line that are indented more than it.
    let body = |at: usize| {
        let margin = indent(lines[at]);
        let inner = move |line: &&&str| line.is_empty() || indent(line) > margin;
        lines[at + 1..].iter().take_while(inner).copied()
    };
    for (at, line) in lines.iter().enumerate() {
        let start = line.trim_start();
        if let Some(reason) = start.strip_prefix(".. Not run: ") {
            next.not_run = Some(reason.into());
        } else if let Some(command) = start.strip_prefix(".. First: ") {
            let more = body(at).map(str::trim);
            let lines: Vec<_> = [command].into_iter().chain(more).collect();
            next.first = lines.join("\n");
        } else if let Some(language) = start.strip_prefix(".. code-block:: ") {
            next.line = at + 1;
            next.language = language.into();
            let is_option = |line: &&str| !line.is_empty();
            for option in body(at).take_while(is_option) {
                match option.trim().strip_prefix(":name: ") {
                    Some(name) => next.name = name.into(),
                    None => bail!("line {}: unknown option {option}", at + 1),
                }
            }
            let text: Vec<_> = body(at).skip_while(is_option).collect();
            let filled = text.iter().filter(|line| !line.is_empty());
            let margin = filled.map(|line| indent(line)).min().unwrap_or(0);
            let lines = text.iter().map(|line| line.get(margin..).unwrap_or(""));
            let text = lines.collect::<Vec<_>>().join("\n");
            next.text = format!("{}\n", text.trim_matches('\n'));
            snippets.push(std::mem::take(&mut next));
        } else if line.ends_with("::") && !start.starts_with("..") {
            bail!(
                "line {}: name the language, or text, by `.. code-block::`",
                at + 1
            );
        }
    }
    Ok(snippets)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn compiled(kits: &Kits) -> Result<Vec<Case>> {
    let snippets = snippets()?;
    let root = std::env::temp_dir().join(format!("documents.{}", std::process::id()));
    let cases = compile_in(&root, &snippets, kits);
    fs::remove_dir_all(&root)?;
    cases
}

fn compile_in(root: &Path, snippets: &[Snippet], kits: &Kits) -> Result<Vec<Case>> {
    let mut unused: BTreeSet<&str> = BTreeSet::new();
    let mut cases = Vec::new();
    for snippet in snippets {
        let problem = match snippet.language.as_str() {
            "text" => not_a_rule_of_ours(&snippet.text)?.or(other_figures(snippet)?),
            "sh" | "console" => bad_shell(snippet)?,
            "python" => bad_python(root, snippet)?,
            "c" | "rust" | "make" | "toml" if unused.insert(&snippet.name) => None,
            "c" | "rust" | "make" | "toml" => Some("give it a `:name:` of its own".into()),
            language => Some(format!("no test knows the language {language}")),
        };
        cases.push(Case::judged(snippet.at(), problem));
    }
    fill(&vm::checkout().join(CONTEXTS), root, snippets, &mut unused)?;
    cases.push(Case::judged(
        "used",
        (!unused.is_empty()).then(|| format!("no file in {CONTEXTS} asks for {unused:?}")),
    ));
    cases.push(html(&root.join("out"))?);
    let judge = |name: &str, result: Result<String>| {
        let problem = result.err().map(|error| format!("{error:#}"));
        Case::judged(name, problem)
    };
    cases.push(judge("rust", check_crate(&root.join("crate"))));
    for arch in Arch::ALL {
        let name = format!("kernel.{arch}");
        let built = build_modules(root, arch, kits);
        cases.push(judge(&name, built));
    }
    cases.extend(run_programs(root, snippets, kits)?);
    Ok(cases)
}

/// Finds a udev rule that is in no file of tools/udev.
fn not_a_rule_of_ours(snippet: &str) -> Result<Option<String>> {
    let mut ours = String::new();
    for entry in fs::read_dir(vm::checkout().join("tools/udev"))? {
        ours += &fs::read_to_string(entry?.path())?;
    }
    // Every rule has a match, whatever it matches by.
    let is_rule = |line: &&str| line.contains("==\"");
    let mut rules = snippet.lines().filter(is_rule);
    let unknown = rules.find(|rule| !ours.lines().any(|line| line == *rule));
    Ok(unknown.map(|rule| format!("no file in tools/udev has the rule {rule}")))
}

/// Finds a figure that differs from the measured one. It looks at blocks whose name begins with an
/// architecture.
fn other_figures(snippet: &Snippet) -> Result<Option<String>> {
    let archs = Arch::ALL.into_iter();
    let mut archs = archs.filter(|arch| snippet.name.starts_with(&format!("{arch}-")));
    let Some(arch) = archs.next() else {
        return Ok(None);
    };
    let path = format!("Documentation/performance-{arch}.txt");
    let measured = fs::read_to_string(vm::checkout().join(&path))?;
    let figure = |title: &str, heap: &str, at: &str| -> Option<String> {
        let table = |block: &&str| cells(block.lines().next().unwrap_or_default())[0] == title;
        let mut lines = measured.split("\n\n").find(table)?.lines().map(cells);
        let column = lines.next()?.iter().position(|cell| *cell == at)?;
        let row = lines.find(|cells| cells[0] == heap)?;
        row.get(column).map(|cell| (*cell).to_owned())
    };
    for block in snippet.text.split("\n\n") {
        let mut lines = block.lines().map(cells);
        let head = lines.next().unwrap_or_default();
        for line in lines {
            for (at, shown) in head.iter().zip(&line).skip(1) {
                let found = figure(head[0], line[0], at);
                if found.as_deref() != Some(*shown) {
                    let what = format!("{}, {}, {at}", head[0], line[0]);
                    return Ok(Some(format!("{what}: {path} has {found:?}, not {shown}")));
                }
            }
        }
    }
    Ok(None)
}

/// Finds a device that README.md shows differently from the demonstration's table.
pub fn other_devices(rows: &[[String; 7]]) -> Result<Option<String>> {
    let snippets = snippets()?;
    let mut shown = snippets
        .iter()
        .filter(|shown| shown.page == "README" && shown.text.starts_with("DEVICE"));
    let shown = shown.next().context("README.md shows no devices")?;
    let is_there = |line: &&str| rows.iter().any(|row| cells(line) == row[1..]);
    let other = shown.text.lines().skip(1).find(|line| !is_there(line));
    Ok(other.map(|line| format!("the table has no line `{line}`, but {rows:?}")))
}

/// The cells of a line of a table. Two blanks or more separate them.
fn cells(line: &str) -> Vec<&str> {
    let mut cells: Vec<&str> = line.split("  ").map(str::trim).collect();
    cells.retain(|cell| !cell.is_empty());
    if cells.is_empty() {
        cells.push("");
    }
    cells
}

fn bad_shell(snippet: &Snippet) -> Result<Option<String>> {
    for (command, _) in snippet.commands() {
        let parsed = output(Command::new("sh").args(["-n", "-c", &command]))?;
        if let Some(problem) = unless_done(&parsed) {
            return Ok(Some(problem));
        }
        for line in command.lines() {
            if let Some(problem) = missing_target(line)? {
                return Ok(Some(problem));
            }
        }
    }
    Ok(None)
}

/// Finds a target or a program of this tree that a command names but that does not exist.
fn missing_target(command: &str) -> Result<Option<String>> {
    let top = vm::checkout();
    let mut words = command.split_whitespace();
    let word = words.next().unwrap_or_default();
    if word.starts_with("tools/") && !top.join(word).exists() {
        return Ok(Some(format!("there is no {word}")));
    }
    if word != "make" {
        return Ok(None);
    }
    let mut files = vec!["Makefile", "tools/checks.mk", "tools/packages.mk"];
    let mut quoted = false;
    while let Some(word) = words.next() {
        let outside = !quoted;
        quoted ^= word.matches('\'').count() == 1;
        match word {
            "#" => break,
            "-C" if words.next() == Some("tools/testing") => files = vec!["tools/testing/Makefile"],
            _ if outside && !word.contains(['=', '-', '/']) => {
                let mut known = String::new();
                for file in &files {
                    known += &fs::read_to_string(top.join(file))?;
                }
                let target = format!("{word}:");
                if !known.lines().any(|line| line.starts_with(&target)) {
                    return Ok(Some(format!("make has no target {word}")));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

fn bad_python(root: &Path, snippet: &Snippet) -> Result<Option<String>> {
    fs::create_dir_all(root)?;
    let file = root.join(format!("{}.py", snippet.name));
    fs::write(&file, &snippet.text)?;
    let compiled = output(Command::new("python3").args(["-m", "py_compile"]).arg(file))
        .context("Python checks its snippets: on Debian install python3")?;
    Ok(unless_done(&compiled))
}

/// Copies the contexts, with the snippets that they ask for.
fn fill(from: &Path, to: &Path, snippets: &[Snippet], unused: &mut BTreeSet<&str>) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if path.is_dir() {
            fill(&path, &to, snippets, unused)?;
            continue;
        }
        let mut filled = String::new();
        for line in fs::read_to_string(&path)?.lines() {
            let Some((before, name)) = line.split_once("snippet: ") else {
                filled += &format!("{line}\n");
                continue;
            };
            let name = name.trim_end_matches("*/").trim();
            let snippet = snippets.iter().find(|snippet| snippet.name == name);
            let snippet = snippet.with_context(|| format!("{}: {line}", path.display()))?;
            unused.remove(name);
            let margin = &before[..before.len() - before.trim_start().len()];
            for line in snippet.text.lines() {
                filled += &format!("{margin}{line}\n");
            }
        }
        fs::write(to, filled)?;
    }
    Ok(())
}

/// Makes HTML of the pages. That fails if the markup is wrong, or if a link or a picture leads
/// nowhere. README.md is not one of these pages, so its links to them are checked here.
fn html(root: &Path) -> Result<Case> {
    if output(Command::new("sphinx-build").arg("--version")).is_err() {
        let reason =
            "there is no sphinx-build: `make setup` installs it, of Debian's python3-sphinx";
        return Ok(Case::new("html", Verdict::Skipped, reason));
    }
    let mut make = make(vm::checkout());
    let built = output(make.arg("htmldocs").arg(format!("OUT={}", root.display())))?;
    let readme = fs::read_to_string(vm::checkout().join("README.md"))?;
    let problem = match unless_done(&built) {
        None => dead_link(&readme, &root.join("html"))?,
        problem => problem,
    };
    Ok(Case::judged("html", problem))
}

/// Finds a link of a page in markdown to a file, or to a section of a page, that does not exist.
fn dead_link(page: &str, html: &Path) -> Result<Option<String>> {
    let links = page.split("](").skip(1);
    for link in links.filter_map(|rest| Some(rest.split_once(')')?.0)) {
        let (file, section) = link.split_once('#').unwrap_or((link, ""));
        let file = vm::checkout().join(file);
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let is_there = match section {
            "" => file.exists(),
            section => fs::read_to_string(html.join(format!("{name}.html")))
                .is_ok_and(|page| page.contains(&format!("id=\"{section}\""))),
        };
        if !is_there {
            return Ok(Some(format!("README.md: there is no {link}")));
        }
    }
    Ok(None)
}

fn check_crate(directory: &Path) -> Result<String> {
    let tools = vm::checkout().join("tools");
    // The tools are built with these versions, so they are downloaded already.
    fs::copy(tools.join("Cargo.lock"), directory.join("Cargo.lock"))?;
    let manifest = directory.join("Cargo.toml");
    let library = tools.join("dmaheap").display().to_string();
    let text = fs::read_to_string(&manifest)?.replace(".../tools/dmaheap", &library);
    fs::write(&manifest, text)?;
    done(
        Command::new("cargo")
            .args(["check", "--quiet", "--offline", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(vm::cache_dir()?.join("documents")),
    )
}

/// Builds the modules as the driver guide says, beside a tree that was built before.
fn build_modules(root: &Path, arch: Arch, kits: &Kits) -> Result<String> {
    let kernel = vm::kernel(arch, kits.kernel())?;
    let built = vm::module(&kernel)?;
    let tree = root.join(format!("tree.{arch}"));
    fs::create_dir_all(&tree)?;
    for directory in ["include", "tools"] {
        symlink(vm::checkout().join(directory), tree.join(directory))?;
    }
    fs::copy(
        built.with_file_name("Module.symvers"),
        tree.join("Module.symvers"),
    )?;
    let mo = root.join(format!("mo.{arch}"));
    fs::create_dir_all(&mo)?;
    let mut make = vm::kernel_make()?;
    make.arg("-C").arg(&kernel.tree);
    make.arg(format!("ARCH={arch}"));
    make.arg(format!("M={}", root.join("kernel").display()));
    make.arg(format!("MO={}", mo.display()));
    make.arg(format!("DMABUF_COHERENCY={}", tree.display()));
    done(make.args(["KCFLAGS=-Werror", "modules"]))
}

/// Builds the programs, and runs them in a guest, and those in Python too.
fn run_programs(root: &Path, snippets: &[Snippet], kits: &Kits) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut script = format!("{LOAD} vivid || exit\n");
    let mut names = Vec::new();
    let mut adds = Vec::new();
    let programs = root.join("programs");
    fs::create_dir(programs.join("linux"))?;
    fs::copy(
        vm::checkout().join("include/uapi/linux/dmabuf_coherency.h"),
        programs.join("linux/dmabuf_coherency.h"),
    )?;
    for entry in fs::read_dir(programs)? {
        let source = entry?.path();
        if source.extension().is_none_or(|suffix| suffix != "c") {
            continue;
        }
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        match vm::c_program_with_libdmaheap(Arch::X86_64, &source.display().to_string()) {
            Ok(program) => adds.push(Add::new(program, "/snippets/")?),
            Err(error) => {
                cases.push(Case::judged(
                    format!("program.{name}"),
                    Some(format!("{error:#}")),
                ));
                continue;
            }
        }
        script += &format!("/snippets/{name} || exit\necho {MARK} {name}\n");
        names.push(name.into_owned());
    }
    for snippet in snippets
        .iter()
        .filter(|snippet| snippet.language == "python")
    {
        let (name, python) = (&snippet.name, python()?);
        let Some((python, files)) = python.filter(|_| Arch::X86_64.is_host()) else {
            let reason = "the guest uses this machine's Python, and there is none for x86_64";
            cases.push(Case::new(name, Verdict::Skipped, reason));
            continue;
        };
        let file = root.join(format!("{name}.py"));
        for file in files {
            adds.push(Add::new(&file, &file)?);
        }
        adds.push(Add::new(file, "/snippets/")?);
        script += &format!("{python} /snippets/{name}.py || exit\necho {MARK} {name}\n");
        names.push(name.clone());
    }
    let boot = Boot {
        adds,
        ..Boot::new(Arch::X86_64, script)
    };
    let outcome = boot.run(kits)?;
    let (said, errors) = (text(&outcome.stdout), text(&outcome.stderr));
    for name in names {
        let done = said.lines().any(|line| line == format!("{MARK} {name}"));
        let problem =
            (!done).then(|| format!("it failed, or a program before it failed:\n{said}{errors}"));
        cases.push(Case::judged(format!("program.{name}"), problem));
    }
    cases.push(boot.health(kits, &outcome)?);
    Ok(cases)
}

/// The command that runs this machine's Python, and all files that it needs for a snippet.
fn python() -> Result<Option<(String, Vec<String>)>> {
    let Ok(printed) = Command::new("python3")
        .args(["-I", "-S", "-c", PYTHON])
        .output()
    else {
        return Ok(None);
    };
    let mut files: Vec<String> = text(&printed.stdout).lines().map(str::to_owned).collect();
    let home = files.pop().context("Python has no home")?;
    let program = files.last().context("Python has no program")?.clone();
    let libraries = done(Command::new("ldd").arg(&program))?;
    let words = libraries.split_whitespace();
    files.extend(
        words
            .filter(|word| word.starts_with('/'))
            .map(str::to_owned),
    );
    Ok(Some((format!("PYTHONHOME={home} {program} -S"), files)))
}

/// Runs all shell in a guest, each page from the root directory.
fn sessions(kits: &Kits) -> Result<Vec<Case>> {
    let snippets = snippets()?;
    let run = |snippet: &&Snippet| snippet.is_shell() && snippet.not_run.is_none();
    let mut script = format!("{LOAD}\n");
    let mut steps = Vec::new();
    let mut page = "";
    for snippet in snippets.iter().filter(run) {
        if page != snippet.page {
            page = &snippet.page;
            script += PAGE;
        }
        script += &format!("{}\n", snippet.first);
        for (command, shown) in snippet.commands() {
            script += &format!("echo; echo {MARK}\n{{ {command}\n}} 2>&1\necho; echo {MARK} $?\n");
            steps.push((format!("{}: {command}", snippet.at()), shown));
        }
    }
    let boot = Boot {
        cma: Some("64M"),
        ..Boot::new(Arch::Arm64, script)
    };
    let outcome = boot.run(kits)?;
    let said = text(&outcome.stdout);
    let mark = format!("\n{MARK}");
    let mut parts = said.split(&mark).skip(1);
    let mut cases = Vec::new();
    for (name, shown) in steps {
        let output = parts.next().unwrap_or_default();
        let status = parts.next().and_then(|part| part.lines().next());
        let problem = match status.map(str::trim) {
            None => Some(format!(
                "the guest did not get there: {}",
                text(&outcome.stderr)
            )),
            Some(_) if !shown.is_empty() => differs(output, &shown),
            Some("0") => None,
            Some(status) => Some(format!("it ended with {status}:{output}")),
        };
        cases.push(Case::judged(name, problem));
    }
    cases.push(boot.health(kits, &outcome)?);
    Ok(cases)
}

/// Finds a line that is shown but is not in the output, or comes in another order.
fn differs(output: &str, shown: &[&str]) -> Option<String> {
    let mut lines = output.lines();
    let missing = shown
        .iter()
        .find(|pattern| !lines.any(|line| is_like(line, pattern)))?;
    Some(format!("expected `{missing}`, got:{output}"))
}

/// Whether a line is as shown. `...` matches anything, and all blanks are alike.
fn is_like(line: &str, pattern: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, pattern) = (plain(line), plain(pattern));
    let mut parts = pattern.split("...");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found() {
        let page = "Title\n=====\n\n.. Not run: no\n\n.. code-block:: sh\n   :name: one\n\n   a\n     b\n\nText\n\n\
            .. First: x\n   y\n\n.. code-block:: console\n\n   $ c \\\n   d\n   e\n   # f\n";
        let found = restructured(page).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].text.as_str()), (6, "a\n  b\n"));
        assert_eq!(found[0].not_run.as_deref(), Some("no"));
        assert_eq!(found[0].name, "one");
        assert_eq!(found[1].first, "x\ny\n");
        let expected = [("c \\\nd".into(), vec!["e"]), ("f".into(), vec![])];
        assert_eq!(found[1].commands(), expected);
        assert!(restructured("Text::\n\n   a\n").is_err());

        let found = markdown("a\n\n    make x\n\n```c\nint x;\n```\n").unwrap();
        assert_eq!(found[0].text, "make x\n");
        assert_eq!(found[1].text, "int x;\n");
        assert!(markdown("```\na\n```\n").is_err());
    }

    #[test]
    fn output_is_compared() {
        assert_eq!(differs("a\nb  c\nd 17 e\n", &["a", "b c", "d ... e"]), None);
        assert!(differs("b\na\n", &["a", "b"]).is_some());
        assert!(!is_like("ab", "a") && !is_like("ab", "b") && is_like("ab", "...b"));
    }

    #[test]
    fn figures_are_compared() {
        let snippet = |text: &str| Snippet {
            name: "arm64-x".into(),
            text: text.into(),
            ..Snippet::default()
        };
        let shown = |text: String| other_figures(&snippet(&text)).unwrap();
        let path = vm::checkout().join("Documentation/performance-arm64.txt");
        let table = fs::read_to_string(path).unwrap();
        let block = table
            .split("\n\n")
            .find(|block| block.starts_with("query"))
            .unwrap();
        assert_eq!(shown(block.to_owned()), None);
        assert!(shown(block.replace('8', "9")).is_some());
        assert!(shown("query  1 MiB\n  nonesuch  1.00\n".into()).is_some());
    }

    #[test]
    fn dead_links_are_found() {
        let html = std::env::temp_dir().join(format!("links.{}", std::process::id()));
        fs::create_dir(&html).unwrap();
        fs::write(html.join("index.html"), "<section id=\"terms\">").unwrap();
        let dead = |link: &str| {
            dead_link(&format!("a [b]({link}) c"), &html)
                .unwrap()
                .is_some()
        };
        let found = [
            "README.md",
            "Documentation/index.rst#terms",
            "Documentation/index.rst#term",
            "Documentation/nonesuch.rst#terms",
            "nonesuch",
        ]
        .map(dead);
        fs::remove_dir_all(&html).unwrap();
        assert_eq!(found, [false, false, true, true, true]);
    }

    #[test]
    fn targets_are_looked_for() {
        for good in [
            "make demo # it",
            "make TESTS='a b' test",
            "make -C tools/testing install",
            "ls nothing",
        ] {
            assert_eq!(missing_target(good).unwrap(), None, "{good}");
        }
        for bad in ["make nonesuch", "tools/nonesuch"] {
            assert!(missing_target(bad).unwrap().is_some(), "{bad}");
        }
    }
}
