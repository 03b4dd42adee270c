//! The part of Go's templates that `--format` is used with: fields, `json`, and `table`.

use serde_json::Value as Json;

use super::context::Failure;
use super::table::table;

/// Renders a template once per row; `table …` makes a table with a header.
pub(super) fn render(format: &str, rows: &[Json]) -> Result<String, Failure> {
    let format = format.replace("\\t", "\t").replace("\\n", "\n");
    let Some(columns) = format.strip_prefix("table ") else {
        let mut out = String::new();
        for row in rows {
            out.push_str(&fill(&format, row)?);
            out.push('\n');
        }
        return Ok(out);
    };
    let columns: Vec<&str> = columns.split('\t').collect();
    let header: Vec<String> = columns.iter().map(|c| heading(c)).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let cells = rows
        .iter()
        .map(|row| columns.iter().map(|c| fill(c, row)).collect::<Result<Vec<_>, _>>())
        .collect::<Result<Vec<_>, _>>()?;
    Ok(table(&header, &cells))
}

fn heading(column: &str) -> String {
    let name: String = column.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    name.to_uppercase()
}

fn fill(format: &str, row: &Json) -> Result<String, Failure> {
    let mut out = String::new();
    let mut rest = format;
    while let Some(start) = rest.find("{{") {
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let end = after
            .find("}}")
            .ok_or_else(|| Failure::new(format!("template parsing error: unclosed action in {format:?}")))?;
        out.push_str(&expression(after[..end].trim(), row)?);
        rest = &after[end + 2..];
    }
    out.push_str(rest);
    Ok(out)
}

fn expression(text: &str, row: &Json) -> Result<String, Failure> {
    let (json, path) = match text.strip_prefix("json ") {
        Some(path) => (true, path.trim()),
        None => (false, text),
    };
    let value = match path.strip_prefix('.') {
        Some("") => Some(row),
        Some(path) => path.split('.').try_fold(row, |value, key| value.get(key)),
        None => return Err(Failure::not_implemented(format!("the template {{{{{text}}}}}"))),
    };
    let value = value.ok_or_else(|| {
        let known: Vec<&str> = row.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
        Failure::new(format!("template: can't evaluate field {path}"))
            .with_hint(format!("fields: {}", known.join(", ")))
    })?;
    Ok(match value {
        Json::String(s) if !json => s.clone(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_tables() {
        let rows = [json!({"Name": "a", "N": 1})];
        assert_eq!(render("{{.Name}}:{{.N}}", &rows).unwrap(), "a:1\n");
        assert_eq!(render("{{json .}}", &rows).unwrap(), "{\"Name\":\"a\",\"N\":1}\n");
        assert_eq!(render("table {{.Name}}\\t{{.N}}", &rows).unwrap(), "NAME   N\na      1\n");
        assert!(render("{{.Nope}}", &rows).unwrap_err().message.contains("can't evaluate field .Nope"));
        assert!(render("{{.Name", &rows).is_err());
    }
}
