//! Tables and human readable numbers, as the docker client prints them.

use unicode_width::UnicodeWidthStr;

/// A table with a header; columns are padded to the widest cell plus three blanks, as Go's tab writer does, and to
/// `least` in all, which the lists of Docker Compose differ in.
pub(super) fn table(least: usize, header: &[&str], rows: &[Vec<String>]) -> String {
    let least = least.saturating_sub(3);
    let mut widths: Vec<usize> = header.iter().map(|h| h.width().max(least)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut out = String::new();
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        for (i, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if i + 1 < row.len() {
                out.push_str(&" ".repeat(widths[i] - cell.width() + 3));
            }
        }
        out.push('\n');
    }
    out
}

/// At most `width` characters, with an ellipsis.
pub(super) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// A span of time in Docker's words: `About a minute`, `3 hours`.
pub(super) fn human_duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["longer".into(), "2".into()]];
        assert_eq!(table(0, &["N", "V"], &rows), "N        V\na        1\nlonger   2\n");
        assert_eq!(table(12, &["N", "V"], &rows[..1]), "N           V\na           1\n");
    }

    #[test]
    fn spans_of_time() {
        assert_eq!(human_duration(0), "Less than a second");
        assert_eq!(human_duration(75), "About a minute");
        assert_eq!(human_duration(3600), "About an hour");
        assert_eq!(human_duration(86_400 * 3), "3 days");
    }
}
