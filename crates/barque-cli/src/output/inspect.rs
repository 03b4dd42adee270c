//! Prints documents as `inspect` does: indented, by template, or as one line of JSON.

use barque_template::{Data, Missing, Template};
use serde_json::value::RawValue;

use crate::error::{CliResult, Failure};
use crate::output::json;

/// One object: as the engine wrote it, and as a template sees it.
pub(crate) struct Object {
    pub(crate) raw: Box<RawValue>,
    pub(crate) typed: Data,
    /// Whether a template may name what the types do not know.
    open: bool,
}

impl Object {
    /// Reads a reply into both forms; `T` gives the types.
    pub(crate) fn read<T>(raw: Box<RawValue>) -> Object
    where
        T: serde::de::DeserializeOwned + serde::Serialize,
    {
        let typed = match barque_api::json::from_str::<T>(raw.get()) {
            Ok(value) => barque_template::typed(&value),
            Err(_) => Data::Nil,
        };
        Object { raw, typed, open: true }
    }

    /// As [`Object::read`] for documents that Docker's client knows by their type alone; errors show its name.
    pub(crate) fn read_as<T>(raw: Box<RawValue>, type_name: &str) -> Object
    where
        T: serde::de::DeserializeOwned + serde::Serialize,
    {
        match barque_api::json::from_str::<T>(raw.get()) {
            Ok(value) => Object { raw, typed: barque_template::typed_as(&value, type_name), open: false },
            Err(_) => Object { raw, typed: Data::Nil, open: true },
        }
    }

    /// An object that was made here rather than read.
    pub(crate) fn made(value: &serde_json::Value) -> CliResult<Object> {
        let text = value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        let raw = RawValue::from_string(text).map_err(|e| Failure::new(e.to_string()))?;
        Ok(Object { raw, typed: Data::Nil, open: true })
    }
}

/// Collects what `inspect` prints.
pub(crate) struct Inspector {
    format: Format,
    out: String,
    raw: Vec<Box<RawValue>>,
}

enum Format {
    Indented,
    Line,
    Template(Template),
}

impl Inspector {
    /// Reads the `--format` value.
    pub(crate) fn new(format: &str) -> CliResult<Inspector> {
        let format = match format {
            "" => Format::Indented,
            "json" => Format::Line,
            text => Format::Template(
                Template::parse(text).map_err(|e| Failure::new(format!("template parsing error: {e}")).code(64))?,
            ),
        };
        Ok(Inspector { format, out: String::new(), raw: Vec::new() })
    }

    /// Adds one object.
    pub(crate) fn add(&mut self, object: Object) -> CliResult<()> {
        let Format::Template(template) = &self.format else {
            self.raw.push(object.raw);
            return Ok(());
        };
        let typed = match object.typed {
            Data::Nil => Err(String::new()),
            data => template.execute(&data, Missing::NoValue),
        };
        // What the types do not know, the document may.
        let text = typed.or_else(|e| {
            if !object.open {
                return Err(e);
            }
            let value = serde_json::from_str(object.raw.get()).map_err(|e| e.to_string())?;
            template.execute(&Data::from_json(&value), Missing::Error)
        });
        match text {
            Ok(text) => {
                self.out.push_str(&text);
                self.out.push('\n');
                Ok(())
            }
            Err(e) => Err(Failure::new(format!("template parsing error: {e}"))),
        }
    }

    /// Everything to print, and whether a template made it.
    pub(crate) fn finish(self) -> String {
        let list = || {
            let items: Vec<&str> = self.raw.iter().map(|raw| raw.get()).collect();
            format!("[{}]", items.join(","))
        };
        match self.format {
            Format::Template(_) if self.out.is_empty() => "\n".into(),
            Format::Template(_) => self.out,
            Format::Indented => json::indent(&list(), "", "    ") + "\n",
            Format::Line => json::compact(&list()) + "\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barque_api::container::ContainerConfig;

    fn object() -> Object {
        let raw = r#"{"Hostname":"h","Env":["A=1"],"New":{"Deep":1}}"#;
        Object::read::<ContainerConfig>(RawValue::from_string(raw.into()).expect("json"))
    }

    fn run(format: &str) -> CliResult<String> {
        let mut inspector = Inspector::new(format)?;
        inspector.add(object())?;
        Ok(inspector.finish())
    }

    #[test]
    fn documents_stay_as_they_came() {
        assert_eq!(run("json").expect("runs"), "[{\"Hostname\":\"h\",\"Env\":[\"A=1\"],\"New\":{\"Deep\":1}}]\n");
        assert!(run("").expect("runs").starts_with("[\n    {\n        \"Hostname\": \"h\",\n"));
        assert_eq!(Inspector::new("").expect("empty").finish(), "[]\n");
    }

    #[test]
    fn templates_see_types_and_what_they_do_not_know() {
        assert_eq!(run("{{.Hostname}} {{.Healthcheck}}").expect("runs"), "h <nil>\n");
        assert_eq!(run("{{.New.Deep}}").expect("runs"), "1\n");
        assert_eq!(
            run("{{.Foo}}").expect_err("fails").message,
            "template parsing error: template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\""
        );
    }
}
