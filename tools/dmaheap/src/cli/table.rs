// SPDX-License-Identifier: MIT OR GPL-2.0

//! Tables for people.

use super::output::printable;
use super::size;
use anstyle::{AnsiColor, Style};
use clap::Args;
use std::fmt;

/// What of a table is to be seen, and how.
#[derive(Args, Default)]
pub struct Options {
    /// Shows only these columns, with commas between them
    #[arg(short, long, value_name = "COLUMNS", value_delimiter = ',')]
    output: Vec<String>,
    /// Shows sizes in bytes
    #[arg(short, long)]
    bytes: bool,
    /// Leaves out the headings
    #[arg(short, long, alias = "noheadings")]
    no_legend: bool,
}

impl Options {
    /// A size as it was asked for.
    pub fn size(&self, bytes: u64) -> String {
        match self.bytes {
            true => bytes.to_string(),
            false => size::show(bytes),
        }
    }
}

/// A column that is not there was asked for.
#[derive(Debug, thiserror::Error)]
#[error("there is no column {name}: there are {}", .known.join(", "))]
pub struct NoSuchColumn {
    name: String,
    known: Vec<String>,
}

/// A table with a line of headings. Columns are as wide as need be.
pub struct Table {
    headings: Vec<String>,
    /// What lists there may be.
    lists: &'static [&'static str],
    rows: Vec<Row>,
    /// Whether lists are cut where their first line ends.
    pub shorten: bool,
    /// How many columns are shown unless others are asked for.
    pub usual_columns: usize,
    legend: bool,
}

/// A line of it.
#[derive(Default)]
struct Row {
    cells: Vec<Cell>,
    /// Lists that are too long for a column, each with what it is: below the line, in lines of
    /// their own, unless they are asked for as columns.
    lists: Vec<(&'static str, Vec<String>)>,
}

/// How wide the lines of a list are: what a terminal shows.
const WIDTH: usize = 80;
const INDENT: &str = "    ";

/// What stands in one place of it.
#[derive(Clone)]
pub struct Cell {
    text: String,
    style: Style,
    is_number: bool,
}

const UNKNOWN: &str = "?";

impl Table {
    pub fn new(headings: &[&str], lists: &'static [&'static str]) -> Self {
        Self {
            headings: headings.iter().map(ToString::to_string).collect(),
            lists,
            rows: Vec::new(),
            shorten: false,
            usual_columns: headings.len(),
            legend: true,
        }
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

    /// Adds a sentence to the last row, if there is one, which is cut into lines like a list.
    pub fn sentence(&mut self, what: &'static str, sentence: Option<&str>) {
        let words = sentence
            .into_iter()
            .flat_map(|sentence| sentence.split(' '));
        self.list(what, words.map(str::to_owned).collect());
    }

    /// Leaves what was asked for.
    pub fn select(mut self, options: &Options) -> Result<Self, NoSuchColumn> {
        self.legend = !options.no_legend;
        if options.output.is_empty() {
            self.headings.truncate(self.usual_columns);
            for row in &mut self.rows {
                row.cells.truncate(self.usual_columns);
            }
            return Ok(self);
        }
        let lists = self.lists.iter().map(|what| what.to_uppercase());
        let names: Vec<_> = self.headings.iter().cloned().chain(lists).collect();
        let places = options.output.iter().map(|asked| {
            let found = names
                .iter()
                .position(|name| name.eq_ignore_ascii_case(asked));
            found.ok_or_else(|| NoSuchColumn {
                name: asked.clone(),
                known: names.clone(),
            })
        });
        let places: Vec<_> = places.collect::<Result<_, _>>()?;
        for row in &mut self.rows {
            let former = std::mem::take(row);
            let cells = places.iter().map(|place| former.column(*place, self.lists));
            row.cells = cells.collect();
        }
        self.headings = places.iter().map(|place| names[*place].clone()).collect();
        Ok(self)
    }
}

impl Row {
    /// A cell, or behind the last of them a list.
    fn column(&self, place: usize, lists: &[&str]) -> Cell {
        self.cells.get(place).cloned().unwrap_or_else(|| {
            let name = lists[place - self.cells.len()];
            let list = self.lists.iter().find(|(what, _)| *what == name);
            Cell::text(list.map(|(_, words)| words.join(" ")).unwrap_or_default())
        })
    }
}

/// As many words as fit into a line, and how many are left out.
fn shortened(what: &str, words: &[String]) -> Vec<String> {
    let line = |count: usize| {
        let mut line: Vec<_> = words.iter().take(count).cloned().collect();
        if count < words.len() {
            line.push(format!("and {} more", words.len() - count));
        }
        line
    };
    let fits = |count: &usize| {
        let widths = line(*count)
            .into_iter()
            .map(|word| 1 + word.chars().count());
        INDENT.len() + what.chars().count() + 1 + widths.sum::<usize>() <= WIDTH
    };
    let count = (1..=words.len()).rev().find(fits);
    line(count.unwrap_or(1))
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
        let bold = |text: &String| Cell::text(text).styled(Style::new().bold());
        let legend = self.legend.then(|| Row {
            cells: self.headings.iter().map(bold).collect(),
            lists: Vec::new(),
        });
        let rows: Vec<_> = legend.iter().chain(&self.rows).collect();
        let columns = self.headings.len();
        let of_column = |column| {
            let rows = rows.iter();
            rows.filter_map(move |row| row.cells.get(column))
        };
        let widths: Vec<usize> = (0..columns)
            .map(|column| of_column(column).map(Cell::width).max().unwrap_or_default())
            .collect();
        // A heading stands where the numbers below it do.
        let numbers: Vec<bool> = (0..columns)
            .map(|column| of_column(column).any(|cell| cell.is_number))
            .collect();
        for row in &rows {
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
                match self.shorten {
                    true => wrap(f, what, &shortened(what, words))?,
                    false => wrap(f, what, words)?,
                }
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
        let mut table = Table::new(&["A", "NUMBER", "LAST"], &[]);
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
    fn lists_are_shortened_to_a_line() {
        let words = |lengths: &[usize]| -> Vec<_> {
            lengths.iter().map(|length| "x".repeat(*length)).collect()
        };
        // Ten columns are taken, and one before each word.
        for (lengths, shown, left_out) in [
            (&[69][..], 1, 0),
            (&[34, 34], 2, 0),
            (&[34, 35], 1, 1),
            (&[29, 28, 10, 1], 2, 2),
            (&[29, 29, 10, 1], 1, 3),
            (&[99, 1], 1, 1),
        ] {
            let mut line = words(&lengths[..shown]);
            if left_out > 0 {
                line.push(format!("and {left_out} more"));
            }
            assert_eq!(shortened("heaps", &words(lengths)), line, "{lengths:?}");
        }
    }

    #[test]
    fn lists_are_wrapped() {
        let mut table = Table::new(&["A", "B"], &["none", "words"]);
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
