// SPDX-License-Identifier: GPL-2.0

//! The helpers in C: those that the series calls, by the names that the kernel gives them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use crate::LICENSE;

/// What ours are called, and theirs.
const OURS: &str = "dmacoh_";
const THEIRS: &str = "rust_helper_";

/// How long a line may be.
const WIDTH: usize = 80;

/// A piece of a C file.
#[derive(Debug)]
enum Piece {
    /// A function, or what stands between functions, with the comment before it.
    Text(String),
    /// Pieces under a condition, and those otherwise.
    Condition(String, Vec<Piece>, Vec<Piece>),
}

/// A C file with helpers.
#[derive(Debug)]
pub struct File {
    pub name: String,
    includes: Vec<String>,
    pieces: Vec<Piece>,
}

impl File {
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut lines = text.lines().peekable();
        let mut includes = Vec::new();
        // A condition around an include is kept with it.
        while let Some(line) = lines.peek() {
            let line = *line;
            let header = line.is_empty() || line.starts_with("//") || line.starts_with("#include");
            let conditional =
                line.starts_with("#ifdef") && text.contains(&format!("{line}\n#include"));
            if conditional {
                let block: Vec<&str> = lines.by_ref().take(3).collect();
                includes.push(block.join("\n"));
                continue;
            }
            if !header {
                break;
            }
            if line.starts_with("#include <") {
                includes.push(line.to_owned());
            }
            lines.next();
        }
        let mut rest = lines.collect::<Vec<_>>().into_iter();
        let (pieces, end) = pieces(&mut rest)?;
        if let Some(end) = end {
            bail!("helpers/{name}.c has a stray {end}");
        }
        Ok(Self {
            name: name.to_owned(),
            includes,
            pieces,
        })
    }

    /// Whether it has the helper.
    pub fn defines(&self, helper: &str) -> bool {
        fn find(pieces: &[Piece], helper: &str) -> bool {
            pieces.iter().any(|piece| match piece {
                Piece::Text(text) => defined(text).as_deref() == Some(helper),
                Piece::Condition(_, then, other) => find(then, helper) || find(other, helper),
            })
        }
        find(&self.pieces, helper)
    }

    /// The part of it that has these helpers, without its includes; nothing if it has none of them.
    pub fn part(&self, wanted: &BTreeSet<String>) -> Option<String> {
        let mut wanted = wanted.clone();
        // Those that others call as well.
        loop {
            let count = wanted.len();
            close(&self.pieces, &mut wanted);
            if wanted.len() == count {
                break;
            }
        }
        let text = print(&self.pieces, &wanted);
        (!text.is_empty()).then_some(text)
    }

    /// A whole file of its own with this part.
    pub fn whole(&self, part: &str) -> String {
        let includes = self.includes.join("\n");
        format!("{LICENSE}\n{includes}\n\n{part}")
    }

    /// The text of a file of the kernel, with this part added.
    pub fn added(&self, text: &str, part: &str) -> Result<String> {
        let known = |line: &&String| !text.contains(line.as_str());
        let mut new = text.to_owned();
        for include in self.includes.iter().filter(known) {
            new = insert_sorted(&new, "#include <", include)
                .with_context(|| format!("rust/helpers/{}.c includes nothing", self.name))?;
        }
        Ok(format!("{}\n\n{part}", new.trim_end()))
    }
}

/// Inserts a line among those that begin like it, behind the last that comes before it in order: they
/// may consist of several runs.
pub fn insert_sorted(text: &str, start: &str, line: &str) -> Option<String> {
    let key = line.lines().find(|line| line.starts_with(start))?;
    let lines: Vec<&str> = text.lines().collect();
    let before = lines
        .iter()
        .rposition(|other| other.starts_with(start) && *other < key);
    let first = || lines.iter().position(|other| other.starts_with(start));
    let at = before.map(|at| at + 1).or_else(first)?;
    // Not under a condition that is for another line.
    let at = if lines.get(at).is_some_and(|line| line.starts_with("#endif")) {
        at + 1
    } else {
        at
    };
    let mut new = lines[..at].to_vec();
    new.push(line);
    new.extend_from_slice(&lines[at..]);
    Some(new.join("\n") + "\n")
}

/// The pieces up to the end of a condition, which is returned as well.
fn pieces<'a>(lines: &mut std::vec::IntoIter<&'a str>) -> Result<(Vec<Piece>, Option<&'a str>)> {
    let mut found = Vec::new();
    let mut text = String::new();
    let mut inside = false;
    while let Some(line) = lines.next() {
        // Conditions within a function are part of it.
        if !inside && line.starts_with("#if") {
            let (then, end) = pieces(lines)?;
            let other = if end == Some("#else") {
                pieces(lines)?.0
            } else {
                Vec::new()
            };
            found.push(Piece::Condition(line.to_owned(), then, other));
            continue;
        }
        if !inside && (line == "#else" || line.starts_with("#endif")) {
            return Ok((found, Some(line)));
        }
        if line.is_empty() && text.is_empty() {
            continue;
        }
        if line == "{" {
            inside = true;
        }
        text += line;
        text.push('\n');
        if line == "}" {
            inside = false;
            found.push(Piece::Text(std::mem::take(&mut text)));
        }
    }
    if !text.trim().is_empty() {
        found.push(Piece::Text(text));
    }
    Ok((found, None))
}

/// The name of the function that a piece defines.
fn defined(text: &str) -> Option<String> {
    let head = text.split("\n{\n").next()?;
    // Not in the comment before it.
    let code = head.rsplit_once("*/\n").map_or(head, |(_, code)| code);
    let name = code.split('(').next()?;
    let name = name
        .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
        .next()?;
    (text.contains("\n{\n") && !name.is_empty())
        .then(|| name.strip_prefix(OURS).unwrap_or(name).to_owned())
}

/// Adds the functions that wanted ones call.
fn close(pieces: &[Piece], wanted: &mut BTreeSet<String>) {
    fn all<'a>(pieces: &'a [Piece], found: &mut Vec<&'a str>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => found.push(text),
                Piece::Condition(_, then, other) => {
                    all(then, found);
                    all(other, found);
                }
            }
        }
    }
    let mut texts = Vec::new();
    all(pieces, &mut texts);
    for text in &texts {
        let Some(name) = defined(text) else { continue };
        let calls = |other: &&str| {
            let Some((_, code)) = other.split_once("\n{\n") else {
                return false;
            };
            defined(other).is_some_and(|other| wanted.contains(&other))
                && code
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .any(|word| word.strip_prefix(OURS).unwrap_or(word) == name)
        };
        if texts.iter().any(calls) {
            wanted.insert(name);
        }
    }
}

fn print(pieces: &[Piece], wanted: &BTreeSet<String>) -> String {
    let mut printed: Vec<String> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) if defined(text).is_some_and(|name| wanted.contains(&name)) => {
                printed.push(renamed(text));
            }
            Piece::Text(_) => (),
            Piece::Condition(condition, then, other) => {
                let (then, other) = (print(then, wanted), print(other, wanted));
                let mut text = String::new();
                if !then.is_empty() {
                    let _ = write!(text, "{condition}\n{then}");
                    if !other.is_empty() {
                        let _ = write!(text, "#else\n{other}");
                    }
                    text += "#endif\n";
                }
                if !text.is_empty() {
                    printed.push(text);
                }
            }
        }
    }
    printed.join("\n")
}

/// A function by the name that it has in the kernel.
fn renamed(text: &str) -> String {
    let (head, code) = text.split_once("\n{\n").unwrap_or((text, ""));
    let (comment, signature) = match head.rsplit_once("*/\n") {
        Some((comment, signature)) => (format!("{}*/\n", comment.replace(OURS, THEIRS)), signature),
        None => (String::new(), head),
    };
    let words: Vec<&str> = signature.split_whitespace().collect();
    let signature = words.join(" ").replace(OURS, THEIRS);
    // Helpers are inline functions, and may call no other ones.
    let (prefix, signature) = match signature.strip_prefix("static ") {
        Some(signature) => ("static inline ", signature),
        None => ("__rust_helper ", signature.as_str()),
    };
    let code = code.replace(OURS, THEIRS);
    format!(
        "{comment}{}\n{{\n{code}",
        wrapped(&format!("{prefix}{signature}"))
    )
}

/// The length of a text in which tabs have their width.
fn width(text: &str) -> usize {
    text.chars()
        .fold(0, |at, c| if c == '\t' { (at / 8 + 1) * 8 } else { at + 1 })
}

/// A signature in lines that are not too long: parameters stand below each other.
fn wrapped(signature: &str) -> String {
    if width(signature) <= WIDTH {
        return signature.to_owned();
    }
    let (head, parameters) = signature.split_once('(').unwrap_or((signature, ""));
    let (kind, name) = match head.rfind([' ', '*']) {
        Some(at) => (head[..=at].trim_end(), &head[at + 1..]),
        None => ("", head),
    };
    let parameters: Vec<&str> = parameters.split(", ").collect();
    let fits = |start: &str| {
        parameters
            .iter()
            .all(|parameter| width(start) + 1 + width(parameter) < WIDTH)
    };
    let one = if kind.ends_with('*') {
        format!("{kind}{name}")
    } else {
        format!("{kind} {name}")
    };
    let (mut text, start) = if fits(&one) {
        (one.clone(), one)
    } else {
        (format!("{kind}\n{name}"), name.to_owned())
    };
    text.push('(');
    let column = width(&start) + 1;
    let indent = "\t".repeat(column / 8) + &" ".repeat(column % 8);
    let mut at = column;
    for (index, parameter) in parameters.iter().enumerate() {
        let end = if index + 1 < parameters.len() {
            ","
        } else {
            ""
        };
        if index > 0 && at + 1 + width(parameter) + end.len() > WIDTH {
            text += &format!("\n{indent}");
            at = column;
        } else if index > 0 {
            text.push(' ');
            at += 1;
        }
        text += parameter;
        text += end;
        at += width(parameter) + end.len();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "// Helpers.\n\n#include <linux/mm.h>\n\n#include \"helpers.h\"\n\n\
        /* Of use to dmacoh_b() (at least). */\nstatic int a(void)\n{\n\treturn 0;\n}\n\n\
        #ifdef CONFIG_B\nint dmacoh_b(void)\n{\n\treturn a();\n}\n\nint dmacoh_c(int x)\n{\n\treturn x;\n}\n\
        #else\nint dmacoh_b(void)\n{\n\treturn 1;\n}\n#endif\n";

    fn part(names: &[&str]) -> Option<String> {
        let wanted = names.iter().map(|&name| name.to_owned()).collect();
        File::parse("a", TEXT).unwrap().part(&wanted)
    }

    #[test]
    fn a_helper_comes_with_what_it_calls_and_its_condition() {
        let text = part(&["b"]).unwrap();
        assert_eq!(
            text,
            "/* Of use to rust_helper_b() (at least). */\nstatic inline int a(void)\n{\n\treturn 0;\n}\n\n\
            #ifdef CONFIG_B\n__rust_helper int rust_helper_b(void)\n{\n\treturn a();\n}\n\
            #else\n__rust_helper int rust_helper_b(void)\n{\n\treturn 1;\n}\n#endif\n"
        );
    }

    #[test]
    fn what_nobody_wants_is_left() {
        assert_eq!(part(&["d"]), None);
        assert!(!part(&["c"]).unwrap().contains("return a"));
    }

    #[test]
    fn long_signatures_are_wrapped() {
        let long = "__rust_helper int rust_helper_long_name(struct device *dev, struct page *page, size_t size)";
        assert_eq!(
            wrapped(long),
            "__rust_helper int rust_helper_long_name(struct device *dev, struct page *page,\n\
            \t\t\t\t\tsize_t size)"
        );
        assert_eq!(wrapped("int a(void)"), "int a(void)");
    }

    #[test]
    fn includes_are_sorted() {
        let text = "#include <linux/a.h>\n#include <linux/c.h>\n";
        let new = insert_sorted(text, "#include <", "#include <linux/b.h>").unwrap();
        assert_eq!(
            new,
            "#include <linux/a.h>\n#include <linux/b.h>\n#include <linux/c.h>\n"
        );
        assert!(insert_sorted("none\n", "#include <", "#include <b.h>").is_none());
    }
}
