//! Tables of aligned columns.

use unicode_width::UnicodeWidthStr;

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells below a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the heading and the rows as lines. A column is as wide as its widest cell; two spaces separate columns; lines
    /// have no trailing spaces.
    pub(crate) fn render(&self) -> Vec<String> {
        let head: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = std::iter::once(&head).chain(&self.rows);
                cells.filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0)
            })
            .collect();
        std::iter::once(&head).chain(&self.rows).map(|row| self.render_row(row, &widths)).collect()
    }

    fn render_row(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (column, ((cell, width), (_, align))) in row.iter().zip(widths).zip(&self.columns).enumerate() {
            let space = " ".repeat(width.saturating_sub(cell.width()));
            if column > 0 {
                line.push_str("  ");
            }
            match align {
                Align::Left => line.extend([cell.as_str(), &space]),
                Align::Right => line.extend([&space, cell.as_str()]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("UNREAD", Align::Right), ("WHO", Align::Left), ("LAST", Align::Left)]);
        assert!(table.is_empty());
        table.row(["2".into(), "ann".into(), "hi".into()]);
        table.row(["11".into(), "你好".into(), String::new()]);
        assert_eq!(table.render(), ["UNREAD  WHO   LAST", "     2  ann   hi", "    11  你好"]);
    }
}
