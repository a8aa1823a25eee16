// SPDX-License-Identifier: MIT OR GPL-2.0

//! Tables for people.

use super::output::printable;
use anstyle::{AnsiColor, Style};
use std::fmt;

/// A table with a line of headings. Columns are as wide as need be.
pub struct Table {
    rows: Vec<Row>,
}

/// A line of it.
struct Row {
    cells: Vec<Cell>,
    /// Lists that are too long for a column, each with what it is: below the line, in lines of
    /// their own.
    lists: Vec<(&'static str, Vec<String>)>,
}

/// How wide the lines of a list are: what a terminal shows.
const WIDTH: usize = 80;
const INDENT: &str = "    ";

/// What stands in one place of it.
pub struct Cell {
    text: String,
    style: Style,
    is_number: bool,
}

const UNKNOWN: &str = "?";

impl Table {
    pub fn new(headings: &[&str]) -> Self {
        let bold = |text: &&str| Cell::text(*text).styled(Style::new().bold());
        let mut table = Self { rows: Vec::new() };
        table.row(headings.iter().map(bold));
        table
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(Row {
            cells: cells.into_iter().collect(),
            lists: Vec::new(),
        });
    }

    /// Adds a list to the last row, if there is anything in it.
    pub fn list(&mut self, what: &'static str, words: Vec<String>) {
        match self.rows.last_mut() {
            Some(row) if !words.is_empty() => row.lists.push((what, words)),
            _ => (),
        }
    }
}

/// A list in as many lines as it takes.
fn wrap(f: &mut fmt::Formatter<'_>, what: &str, words: &[String]) -> fmt::Result {
    let start = format!("{INDENT}{what}:");
    let mut width = start.chars().count();
    f.write_str(&start)?;
    for word in words {
        let word = printable(word);
        let length = word.chars().count();
        if width + 1 + length > WIDTH {
            write!(f, "\n{INDENT}{INDENT}")?;
            width = 2 * INDENT.len();
        } else {
            f.write_str(" ")?;
            width += 1;
        }
        f.write_str(&word)?;
        width += length;
    }
    f.write_str("\n")
}

impl Cell {
    /// Text, or `-` where there is none. No text is another cell or row.
    pub fn text(text: impl AsRef<str>) -> Self {
        let text = printable(text.as_ref());
        Self {
            text: if text.is_empty() { "-".into() } else { text },
            style: Style::new(),
            is_number: false,
        }
    }

    /// Text that may not be known.
    pub fn known(text: Option<impl AsRef<str>>) -> Self {
        text.map_or_else(|| Self::text(UNKNOWN), Self::text)
    }

    /// Something that is good or bad, and may not be known.
    pub fn judged(good: Option<bool>, yes: &str, no: &str) -> Self {
        let (text, colour) = match good {
            Some(true) => (yes, AnsiColor::Green),
            Some(false) => (no, AnsiColor::Red),
            None => (UNKNOWN, AnsiColor::Yellow),
        };
        Self::text(text).styled(Style::new().fg_color(Some(colour.into())))
    }

    /// A number, to the right of its column.
    pub fn number(number: Option<impl ToString>) -> Self {
        Self {
            is_number: true,
            ..Self::known(number.map(|number| number.to_string()))
        }
    }

    fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self.rows.iter().map(|row| row.cells.len());
        let columns = lengths.max().unwrap_or_default();
        let of_column = |column| {
            let rows = self.rows.iter();
            rows.filter_map(move |row| row.cells.get(column))
        };
        let widths: Vec<usize> = (0..columns)
            .map(|column| of_column(column).map(Cell::width).max().unwrap_or_default())
            .collect();
        // A heading stands where the numbers below it do.
        let numbers: Vec<bool> = (0..columns)
            .map(|column| of_column(column).any(|cell| cell.is_number))
            .collect();
        for row in &self.rows {
            for (column, cell) in row.cells.iter().enumerate() {
                let style = cell.style;
                let pad = " ".repeat(widths[column] - cell.width());
                let is_last = column + 1 == row.cells.len();
                let (before, after) = match numbers[column] {
                    true => (pad.as_str(), ""),
                    false if is_last => ("", ""),
                    false => ("", pad.as_str()),
                };
                let gap = if is_last { "\n" } else { "  " };
                write!(f, "{before}{style}{}{style:#}{after}{gap}", cell.text)?;
            }
            for (what, words) in &row.lists {
                wrap(f, what, words)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["A", "NUMBER", "LAST"]);
        table.row([Cell::text("long"), Cell::number(Some(7)), Cell::text("")]);
        table.row([
            Cell::judged(None, "y", "n"),
            Cell::number(None::<u8>),
            Cell::text("x y"),
        ]);
        let plain = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(
            plain,
            "A     NUMBER  LAST\nlong       7  -\n?          ?  x y\n"
        );
    }

    #[test]
    fn lists_are_wrapped() {
        let mut table = Table::new(&["A", "B"]);
        table.row([Cell::text("long"), Cell::text("c")]);
        table.list("none", Vec::new());
        table.list(
            "words",
            vec!["x".repeat(69), "y".repeat(72), "z".repeat(99)],
        );
        table.row([Cell::text("d"), Cell::text("e")]);
        let plain = anstream::adapter::strip_str(&table.to_string()).to_string();
        let (x, y, z) = ("x".repeat(69), "y".repeat(72), "z".repeat(99));
        let expected =
            format!("A     B\nlong  c\n    words: {x}\n        {y}\n        {z}\nd     e\n");
        assert_eq!(plain, expected);
        assert_eq!(format!("    words: {x}").len(), WIDTH);
    }
}
