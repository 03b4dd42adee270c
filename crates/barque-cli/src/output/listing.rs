//! Prints rows by a format: a table, a template, JSON.

use barque_template::{Data, Missing, Template};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::error::{CliResult, Failure};
use crate::output::tabwriter;

/// Column titles by field.
pub(crate) type Titles = &'static [(&'static str, &'static str)];

/// Renders `rows` by `format`: `table TEMPLATE`, `json` or a template of one row.
pub(crate) fn render(format: &str, titles: Titles, rows: &[Data]) -> CliResult<String> {
    let table = format.strip_prefix("table");
    let text = match table {
        Some(rest) => rest,
        None if format == "json" => "{{json .}}",
        None => format,
    };
    let text = text.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
    let template = parse(&text)?;
    let mut body = String::new();
    for row in rows {
        body.push_str(&execute(&template, row)?);
        body.push('\n');
    }
    if table.is_none() {
        return Ok(body);
    }
    let head = template.execute_titles(&title_data(titles)).unwrap_or_default();
    Ok(tabwriter::align(&format!("{head}\n{body}"), tabwriter::TABLE))
}

/// Parses a user's template.
pub(crate) fn parse(text: &str) -> CliResult<Template> {
    Template::parse(text).map_err(|e| Failure::new(format!("template parsing error: {e}")))
}

/// Runs a template over one row.
pub(crate) fn execute(template: &Template, row: &Data) -> CliResult<String> {
    template.execute(row, Missing::NoValue).map_err(|e| Failure::new(format!("template parsing error: {e}")))
}

fn title_data(titles: Titles) -> Data {
    let mut map: BTreeMap<String, Data> =
        titles.iter().map(|(field, title)| ((*field).to_owned(), Data::str(title))).collect();
    map.insert(
        "Label".into(),
        Data::Method(Rc::new(|args| {
            let name = args.first().map(Data::print).unwrap_or_default();
            let last = name.rsplit('.').next().unwrap_or_default();
            Ok(Data::from(last.replace(['-', '_'], " ")))
        })),
    );
    Data::Map(Rc::new(map))
}

/// The format to use: what the flag says, else the user's configuration unless `quiet`, else a table.
pub(crate) fn choose<'a>(flag: &'a str, configured: Option<&'a str>, quiet: bool) -> &'a str {
    match configured {
        _ if !flag.is_empty() => flag,
        Some(configured) if !configured.is_empty() && !quiet => configured,
        _ => "table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barque_template::Struct;

    const TITLES: Titles = &[("ID", "CONTAINER ID"), ("Names", "NAMES")];

    fn rows() -> Vec<Data> {
        let label: barque_template::Method = Rc::new(|_| Ok(Data::str("v")));
        let row = |id: &str, name: &str| {
            let fields =
                vec![("Names", Data::str(name)), ("ID", Data::str(id)), ("Label", Data::Method(label.clone()))];
            Struct::row("*formatter.ContainerContext", fields)
        };
        vec![row("1", "a"), row("2", "b")]
    }

    #[test]
    fn formats() {
        let render = |format| render(format, TITLES, &rows()).expect("renders");
        assert_eq!(render("table {{.ID}}\\t{{.Names}}"), "CONTAINER ID   NAMES\n1              a\n2              b\n");
        assert_eq!(render("{{.ID}}-{{upper .Names}}"), "1-A\n2-B\n");
        assert_eq!(render("json"), "{\"ID\":\"1\",\"Names\":\"a\"}\n{\"ID\":\"2\",\"Names\":\"b\"}\n");
        assert_eq!(
            render(r#"table {{upper .ID}}{{"\t"}}{{.Label "com.x.my-key"}}"#),
            "CONTAINER ID   my key\n1              v\n2              v\n"
        );
    }

    #[test]
    fn faults() {
        let fault = |format| render(format, TITLES, &rows()).expect_err("fails").message;
        assert_eq!(fault("{{.ID"), "template parsing error: template: :1: unclosed action");
        assert_eq!(
            fault("{{.Foo}}"),
            "template parsing error: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type \
             *formatter.ContainerContext"
        );
    }

    #[test]
    fn the_flag_wins_over_the_configuration() {
        assert_eq!(choose("json", Some("x"), false), "json");
        assert_eq!(choose("", Some("x"), false), "x");
        assert_eq!(choose("", Some("x"), true), "table");
        assert_eq!(choose("", None, false), "table");
    }
}
