// SPDX-License-Identifier: MIT OR GPL-2.0

//! Tables for people.

use anstyle::{AnsiColor, Style};
use std::fmt;

/// A table with a line of headings. Columns are as wide as need be.
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

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
        Self {
            rows: vec![headings.iter().map(bold).collect()],
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl Cell {
    /// Text, or `-` where there is none.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            text: if text.is_empty() { "-".into() } else { text },
            style: Style::new(),
            is_number: false,
        }
    }

    /// Text that may not be known.
    pub fn known(text: Option<impl Into<String>>) -> Self {
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
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let of_column = |column| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> = (0..columns)
            .map(|column| of_column(column).map(Cell::width).max().unwrap_or_default())
            .collect();
        // A heading stands where the numbers below it do.
        let numbers: Vec<bool> = (0..columns)
            .map(|column| of_column(column).any(|cell| cell.is_number))
            .collect();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                let style = cell.style;
                let pad = " ".repeat(widths[column] - cell.width());
                let is_last = column + 1 == row.len();
                let (before, after) = match numbers[column] {
                    true => (pad.as_str(), ""),
                    false if is_last => ("", ""),
                    false => ("", pad.as_str()),
                };
                let gap = if is_last { "\n" } else { "  " };
                write!(f, "{before}{style}{}{style:#}{after}{gap}", cell.text)?;
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
}
