// SPDX-License-Identifier: MIT OR GPL-2.0

//! What is printed, for people or as JSON.

use super::table::{NoSuchColumn, Table};
use anstream::adapter::strip_str;
use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, Write as _};

/// The version of the form of `--json`, as Documentation/dmaheap.rst describes it. It changes when
/// something goes or changes its meaning, not when something is added.
pub const VERSION: u32 = 3;

/// Where and how to print.
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints one or the other.
    pub fn print(
        &self,
        value: impl FnOnce() -> Value,
        table: impl FnOnce() -> Result<Table, NoSuchColumn>,
    ) -> Result<()> {
        if self.json {
            self.value(value())
        } else {
            self.line(&table()?.to_string())
        }
    }

    /// Prints an object as one line of JSON, with the version. All that a terminal may take for
    /// more than a letter is in strings, and escaped there.
    pub fn value(&self, mut value: Value) -> Result<()> {
        value["version"] = VERSION.into();
        let mut line = String::new();
        for letter in value.to_string().chars() {
            match letter.is_control() {
                true => line += &format!("\\u{:04x}", u32::from(letter)),
                false => line.push(letter),
            }
        }
        self.line(&(line + "\n"))
    }

    /// Prints text as it is, at once.
    pub fn line(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout();
        let written = stdout.write_all(coloured(text, &stdout).as_bytes());
        written
            .and_then(|()| stdout.flush())
            .context("writing to standard output")
    }

    /// Tells a person something on the side. It is no loss if that fails.
    pub fn note(&self, text: &str) {
        if !self.json {
            tell(&format!("dmaheap: {}\n", printable(text)));
        }
    }

    /// Says why nothing came of it.
    pub fn error(&self, error: &anyhow::Error) {
        if self.json {
            let _ = self.value(json!({ "error": format!("{error:#}") }));
        } else {
            let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
            let text = printable(&format!("{error:#}"));
            tell(&format!("{red}dmaheap{red:#}: {text}\n"));
        }
    }
}

/// Writes to standard error, at once: what other programs write there stands before or behind.
fn tell(text: &str) {
    let mut stderr = io::stderr();
    let _ = stderr.write_all(coloured(text, &stderr).as_bytes());
}

/// Colour only on a terminal.
fn coloured(text: &str, stream: &impl RawStream) -> String {
    match AutoStream::choice(stream) {
        ColorChoice::Never => strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}

/// Text that others may have written, in one line that does nothing to a terminal: what is not to
/// be seen as a letter is escaped.
pub fn printable(text: &str) -> String {
    let escape = |letter: char| match letter {
        '\\' | '\'' | '"' => letter.to_string(),
        _ => letter.escape_debug().to_string(),
    };
    text.chars().map(escape).collect()
}

/// Something of the library as JSON.
pub fn to_json(value: &impl Serialize) -> Value {
    // Only maps whose keys are no strings could fail, and the library has none.
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, printed) in [
            ("frame of \u{e9}\u{732b}", "frame of \u{e9}\u{732b}"),
            (r#"it's "C:\x""#, r#"it's "C:\x""#),
            ("\x1b[31mred", r"\u{1b}[31mred"),
            ("a\tb\r\nc\0", r"a\tb\r\nc\0"),
            ("\u{9b}31m\x7f\u{202e}", r"\u{9b}31m\u{7f}\u{202e}"),
        ] {
            assert_eq!(printable(text), printed);
        }
    }
}
