//! `daemon.json`.

use std::collections::BTreeMap;

use barque_model::{Error, Result};
use serde_json::Value as Json;

use super::options::{self, Kind, OBSOLETE_KEYS, Opt, RENAMED_KEYS};
use super::values::{Value, Values};

/// Options that are grouped in an object of their own.
const GROUPS: &[&str] = &["proxies"];

fn not_json(why: &str) -> Error {
    Error::invalid(format!("invalid JSON: {why}")).with_hint(
        "an object in braces, names and texts in double quotes, commas between entries and none after the last: \
         {\"debug\": true}; `barque daemon --validate` checks the file",
    )
}

/// Reads the text of a configuration file.
///
/// # Errors
/// No JSON object; keys that are no options, with the likely ones; values of the wrong form.
pub fn parse_file(text: &str) -> Result<Values> {
    // Editors of other systems put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    if text.is_empty() {
        return Ok(Values::default());
    }
    let document: Json = serde_json::from_str(text).map_err(|why| not_json(&why.to_string()))?;
    let Json::Object(entries) = document else {
        return Err(not_json("the configuration file must hold an object"));
    };
    let mut flat = Vec::new();
    for (key, value) in entries {
        match value {
            Json::Object(inner) if GROUPS.contains(&key.as_str()) => flat.extend(inner),
            value => flat.push((key, value)),
        }
    }
    let mut values = Values::default();
    let mut unknown = Vec::new();
    for (key, value) in &flat {
        let name = RENAMED_KEYS.iter().find(|(old, _)| old == key).map_or(key.as_str(), |(_, new)| new);
        match options::by_key(name) {
            Some(_) if value.is_null() => {}
            Some(opt) => {
                if values.0.insert(opt.name(), typed(opt, key, value)?).is_some() {
                    return Err(Error::invalid(format!(
                        "{key} and {name} must not both be specified in the config file"
                    )));
                }
            }
            None if OBSOLETE_KEYS.contains(&name) => {}
            None => unknown.push(key.as_str()),
        }
    }
    if unknown.is_empty() { Ok(values) } else { Err(unknown_keys(&unknown)) }
}

fn unknown_keys(unknown: &[&str]) -> Error {
    let error = Error::invalid(format!(
        "the following directives don't match any configuration option: {}",
        unknown.join(", ")
    ));
    let meant = |key: &&str| {
        let likely = options::likely(key, options::OPTIONS.iter().map(|opt| opt.key))
            // `host` for `hosts`: the flag's name instead of the file's.
            .or_else(|| options::by_flag(key).map(|opt| opt.key).filter(|key| !key.is_empty()))?;
        Some(format!("{key} → {likely}"))
    };
    let meant: Vec<_> = unknown.iter().filter_map(meant).collect();
    if meant.is_empty() { error } else { error.with_hint(format!("did you mean {}?", meant.join(", "))) }
}

fn typed(opt: &Opt, key: &str, value: &Json) -> Result<Value> {
    let wrong = |expected: &str| {
        Error::invalid(format!("invalid value for {key} in the configuration file: expected {expected}, not {value}"))
    };
    let texts =
        |items: &[Json]| -> Option<Vec<String>> { items.iter().map(|item| item.as_str().map(str::to_owned)).collect() };
    match (opt.kind, value) {
        (Kind::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Kind::Bool, _) => Err(wrong("true or false")),
        (Kind::Int, Json::Number(number)) => number.as_i64().map(Value::Int).ok_or_else(|| wrong("a number")),
        (Kind::Int, _) => Err(wrong("a number")),
        (Kind::Text, Json::String(text)) => Ok(Value::Text(text.clone())),
        // Sizes such as default-shm-size may be numbers of bytes.
        (Kind::Text, Json::Number(number)) => Ok(Value::Text(number.to_string())),
        (Kind::Text, _) => Err(wrong("a string")),
        (Kind::List, Json::Array(items)) => texts(items).map(Value::List).ok_or_else(|| wrong("a list of strings")),
        (Kind::List, Json::String(text)) if key == "host-gateway-ip" => Ok(Value::List(vec![text.clone()])),
        (Kind::List, _) => Err(wrong("a list of strings")),
        (Kind::Map, Json::Object(entries)) => {
            let text = |value: &Json| match value {
                Json::String(text) => Some(text.clone()),
                _ => None,
            };
            let entries: Option<BTreeMap<_, _>> =
                entries.iter().map(|(name, value)| text(value).map(|value| (name.clone(), value))).collect();
            entries.map(Value::Map).ok_or_else(|| wrong("an object of strings"))
        }
        (Kind::Map, _) => Err(wrong("an object of strings")),
        (Kind::Json, document) => Ok(Value::Json(document.clone())),
    }
}
