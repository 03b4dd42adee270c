//! Aligns tab-separated cells in columns, as Go's `text/tabwriter` does for Docker's tables.
//!
//! A column is a run of lines that have a cell there followed by a tab; the last cell of a line belongs to no
//! column. Columns are at least ten wide, and three blanks part them.

use unicode_width::UnicodeWidthStr;

/// How wide a column is at least and how many blanks end it.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) min_width: usize,
    pub(crate) padding: usize,
}

/// Docker's tables.
pub(crate) const TABLE: Layout = Layout { min_width: 10, padding: 3 };
/// `docker top`: at least twenty, one blank.
pub(crate) const TOP: Layout = Layout { min_width: 20, padding: 3 };

/// Aligns `text`, whose lines end in newlines.
pub(crate) fn align(text: &str, layout: Layout) -> String {
    let body = text.strip_suffix('\n');
    let lines: Vec<Vec<&str>> = body.unwrap_or(text).split('\n').map(|line| line.split('\t').collect()).collect();
    let mut writer = Writer { lines: &lines, layout, widths: Vec::new(), out: String::with_capacity(text.len() * 2) };
    if !text.is_empty() {
        writer.block(0, lines.len());
    }
    if body.is_none() && writer.out.ends_with('\n') {
        writer.out.pop();
    }
    writer.out
}

struct Writer<'a> {
    lines: &'a [Vec<&'a str>],
    layout: Layout,
    widths: Vec<usize>,
    out: String,
}

impl Writer<'_> {
    /// Lines `from` to `to`, whose columns up to the current depth are known.
    fn block(&mut self, from: usize, to: usize) {
        let column = self.widths.len();
        let has_column = |line: &Vec<&str>| column + 1 < line.len();
        let (mut from, mut at) = (from, from);
        while at < to {
            if !has_column(&self.lines[at]) {
                at += 1;
                continue;
            }
            self.write(from, at);
            from = at;
            while at < to && has_column(&self.lines[at]) {
                at += 1;
            }
            let widest = self.lines[from..at].iter().map(|line| line[column].width()).max().unwrap_or(0);
            self.widths.push(self.layout.min_width.max(widest + self.layout.padding));
            self.block(from, at);
            self.widths.pop();
            from = at;
        }
        self.write(from, to);
    }

    fn write(&mut self, from: usize, to: usize) {
        for line in &self.lines[from..to] {
            for (index, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(index) {
                    self.out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = "NAME\tDRIVER\tX\nlongest-name\tb\ty\n";
        assert_eq!(align(text, TABLE), "NAME           DRIVER    X\nlongest-name   b         y\n");
    }

    #[test]
    fn a_line_without_the_column_ends_it() {
        let text = "a\tb\nlong line without cells\naaaaaaaaaaaa\tb\n";
        assert_eq!(align(text, TABLE), "a         b\nlong line without cells\naaaaaaaaaaaa   b\n");
    }

    #[test]
    fn empty_last_cells_leave_trailing_blanks_as_docker_does() {
        assert_eq!(align("a\tb\t\n", TABLE), "a         b         \n");
        assert_eq!(align("", TABLE), "");
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(align("名前名前名\tb\nx\tc\n", TABLE), "名前名前名   b\nx            c\n");
    }
}
