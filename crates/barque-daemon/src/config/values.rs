//! Option values before they have a type.

use std::collections::BTreeMap;
use std::fmt;

/// The value of an option as flags and files give it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<String>),
    Map(BTreeMap<String, String>),
    /// A document with its own structure: `runtimes`, `builder`, `default-ulimits`, …
    Json(serde_json::Value),
}

impl fmt::Display for Value {
    /// As Docker prints it in a conflict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Text(value) => f.write_str(value),
            Value::List(items) => write!(f, "[{}]", items.join(" ")),
            Value::Map(entries) => {
                let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                write!(f, "map[{}]", entries.join(" "))
            }
            Value::Json(document) => write!(f, "{document}"),
        }
    }
}

/// Options by their name in the file, which is unique (`hosts`, `log-opts`, `debug`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(pub(crate) BTreeMap<&'static str, Value>);

impl Values {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `name: (from flag: …, from file: …)` for each option that both have.
    pub(crate) fn conflicts_with(&self, flags: &Values) -> Vec<String> {
        let line = |key: &str, file: &Value| {
            let flag = flags.0.get(key)?;
            // Runtimes of both are joined.
            if key == "runtimes" {
                return None;
            }
            let (flag, file) = (masked(key, flag), masked(key, file));
            Some(format!("{key}: (from flag: {flag}, from file: {file})"))
        };
        self.0.iter().filter_map(|(key, value)| line(key, value)).collect()
    }

    /// These values, and those of `flags` over them.
    pub(crate) fn overlaid_by(mut self, flags: &Values) -> Values {
        for (key, value) in &flags.0 {
            match (self.0.get_mut(key), value) {
                (Some(Value::Json(serde_json::Value::Object(have))), Value::Json(serde_json::Value::Object(more))) => {
                    have.extend(more.clone());
                }
                _ => {
                    self.0.insert(key, value.clone());
                }
            }
        }
        self
    }
}

/// A proxy's password is not for logs.
fn masked(key: &str, value: &Value) -> String {
    let text = value.to_string();
    match (key.ends_with("-proxy"), text.split_once("://"), text.rsplit_once('@')) {
        (true, Some((scheme, _)), Some((_, host))) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        _ => text,
    }
}
