//! The tree in long form → JSON in the key order of Docker Compose, which its hashes are taken over.

use serde_json::{Map as JsonMap, Number, Value as Json};

use super::node::{Map, Node, Value};
use super::schema::{Field, Keep, Kind, Obj};

/// Which output is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// JSON: no `x-` keys in parts, `command: null` is written.
    Json,
    /// YAML: `x-` keys kept, what is empty left out.
    Yaml,
}

/// Renders a mapping of fixed keys.
pub fn object(node: &Node, obj: &Obj, style: Style) -> Json {
    let empty = Map::default();
    let map = node.as_map().unwrap_or(&empty);
    let mut out = JsonMap::new();
    for field in obj.fields {
        if let Some(value) = field_value(map.get(field.key), field, style) {
            out.insert(json_key(obj, field.key, style).to_owned(), value);
        }
    }
    if style == Style::Yaml {
        for (key, child) in map.iter().filter(|(key, _)| key.starts_with("x-")) {
            out.insert(key.to_owned(), any(child));
        }
    }
    Json::Object(out)
}

/// Two structures of compose-go carry no JSON names, so theirs are the names of the Go fields.
fn json_key<'a>(obj: &Obj, key: &'a str, style: Style) -> &'a str {
    let throttle =
        obj.fields.len() == 2 && obj.fields[0].key == "path" && matches!(obj.fields[1].key, "rate" | "weight");
    match key {
        _ if style == Style::Yaml || !throttle => key,
        "path" => "Path",
        "rate" => "Rate",
        _ => "Weight",
    }
}

fn field_value(node: Option<&Node>, field: &Field, style: Style) -> Option<Json> {
    let node = node.filter(|n| !n.is_null());
    match field.keep {
        Keep::Always => match node {
            Some(node) => Some(value(node, field.kind, style)),
            None if style == Style::Json => Some(Json::Null),
            None => None,
        },
        Keep::Set => node.map(|n| value(n, field.kind, style)),
        Keep::Struct => {
            let rendered = match (node, field.kind) {
                (Some(node), kind) => value(node, kind, style),
                (None, Kind::Obj(obj)) => object(&Node::null(super::diag::Span::default()), obj, style),
                (None, _) => Json::Null,
            };
            (style == Style::Json || !is_zero(&rendered)).then_some(rendered)
        }
        Keep::NonZero => node.map(|n| value(n, field.kind, style)).filter(|v| !zero_of(v, field.kind)),
    }
}

fn is_zero(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(b) => !b,
        Json::Number(n) => n.as_f64() == Some(0.0),
        Json::String(s) => s.is_empty(),
        Json::Array(a) => a.is_empty(),
        Json::Object(o) => o.is_empty(),
    }
}

/// Sizes and durations are text once rendered, but numbers to Go.
fn zero_of(value: &Json, kind: Kind) -> bool {
    match kind {
        Kind::Bytes => value == "0",
        Kind::Duration => value == "0s",
        _ => is_zero(value),
    }
}

/// Renders a value of a kind.
pub fn value(node: &Node, kind: Kind, style: Style) -> Json {
    if node.is_null() {
        return Json::Null;
    }
    match kind {
        Kind::Obj(obj) | Kind::Null(obj) | Kind::Short(obj, _) | Kind::Mount(obj) | Kind::Device(obj) => {
            match node.value {
                Value::Map(_) => object(node, obj, style),
                _ => any(node),
            }
        }
        Kind::List(item) | Kind::Gpus(item) => list(node, *item, style),
        Kind::Ports(obj) | Kind::EnvFiles(obj) => match node.as_seq() {
            Some(items) => Json::Array(
                items.iter().map(|n| if n.as_map().is_some() { object(n, obj, style) } else { any(n) }).collect(),
            ),
            None => any(node),
        },
        Kind::Map(item) | Kind::Names(item) => match node.as_map() {
            Some(map) => Json::Object(
                map.iter()
                    .filter(|(key, _)| style == Style::Yaml || !key.starts_with("x-"))
                    .map(|(key, n)| (key.to_owned(), value(n, *item, style)))
                    .collect(),
            ),
            None => any(node),
        },
        Kind::Float => match &node.value {
            // Go holds these in 32 bits, and prints what 32 bits need
            Value::Float(f) => float32(*f),
            _ => any(node),
        },
        Kind::Ulimit => ulimit(node, style),
        Kind::Ssh => ssh(node),
        _ => any(node),
    }
}

fn list(node: &Node, item: Kind, style: Style) -> Json {
    match node.as_seq() {
        Some(items) => Json::Array(items.iter().map(|n| value(n, item, style)).collect()),
        None => any(node),
    }
}

fn float32(value: f64) -> Json {
    #[expect(clippy::cast_possible_truncation, reason = "the loss of precision is the point")]
    let short = value as f32;
    let text = short.to_string();
    if let Ok(whole) = text.parse::<i64>() {
        return Json::from(whole);
    }
    text.parse::<f64>().ok().and_then(Number::from_f64).map_or(Json::Null, Json::Number)
}

/// One number, or `{soft, hard}` in that order; a single 0 counts as none given, and zeros stand in YAML only.
fn ulimit(node: &Node, style: Style) -> Json {
    let zero = node.with(Value::Int(0));
    let parts = match (&node.value, node.as_map()) {
        (Value::Int(0), _) => [Some(&zero), Some(&zero)],
        (_, Some(map)) => [map.get("soft"), map.get("hard")],
        _ => return any(node),
    };
    let mut out = JsonMap::new();
    for (key, value) in ["soft", "hard"].into_iter().zip(parts) {
        if let Some(value) = value.filter(|n| style == Style::Yaml || n.value != Value::Int(0)) {
            out.insert(key.to_owned(), any(value));
        }
    }
    Json::Object(out)
}

fn ssh(node: &Node) -> Json {
    let Some(map) = node.as_map() else { return any(node) };
    let text = |(id, path): (&str, &Node)| match path.as_str() {
        Some(path) => format!("{id}={path}"),
        None => id.to_owned(),
    };
    Json::Array(map.iter().map(text).map(Json::String).collect())
}

/// Renders a value without knowing its kind.
pub fn any(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) => Json::from(*i),
        Value::Float(f) => Number::from_f64(*f).map_or(Json::Null, Json::Number),
        Value::Str(s) => Json::String(s.clone()),
        Value::Seq(items) => Json::Array(items.iter().map(any).collect()),
        Value::Map(map) => Json::Object(map.iter().map(|(k, n)| (k.to_owned(), any(n))).collect()),
    }
}
