//! `--format` with a Go template: `table …` makes a table with a header. The templates themselves are the host's.

use serde_json::Value as Json;

use super::context::{Failure, Host};
use super::table::table;

/// Renders a template once per row.
pub(super) fn render(host: &Host, format: &str, rows: &[Json]) -> Result<String, Failure> {
    let format = format.replace("\\t", "\t").replace("\\n", "\n");
    let fill = |text: &str, row: &Json| (host.render)(text, row).map_err(Failure::new);
    let Some(columns) = format.strip_prefix("table ") else {
        let lines = rows.iter().map(|row| Ok(fill(&format, row)? + "\n"));
        return lines.collect();
    };
    let columns: Vec<&str> = columns.split('\t').collect();
    let header: Vec<String> = columns.iter().map(|c| heading(c)).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let cells = rows
        .iter()
        .map(|row| columns.iter().map(|c| fill(c, row)).collect::<Result<Vec<_>, _>>())
        .collect::<Result<Vec<_>, _>>()?;
    Ok(table(10, &header, &cells))
}

/// The field's name in capitals.
fn heading(column: &str) -> String {
    let field = column.rsplit('.').next().unwrap_or(column);
    field.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_the_fields() {
        assert_eq!(heading("{{.Name}}"), "NAME");
        assert_eq!(heading("{{ upper .Service }}"), "SERVICE");
    }
}
