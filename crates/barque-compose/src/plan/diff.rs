//! Which fields of a configuration changed.

use serde_json::Value;

use super::step::Reason;

/// The fields in which two configurations differ, in order.
pub fn fields(old: &Value, new: &Value) -> Vec<Reason> {
    let mut out = Vec::new();
    walk(old, new, "", &mut out);
    out
}

fn walk(old: &Value, new: &Value, path: &str, out: &mut Vec<Reason>) {
    if old == new {
        return;
    }
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                match b.get(key) {
                    Some(other) => walk(value, other, &join(key), out),
                    None => out.push(Reason::field(join(key), Some(shown(value, key).unwrap_or_default()), None)),
                }
            }
            for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                out.push(Reason::field(join(key), None, Some(shown(value, key).unwrap_or_default())));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() && a.iter().chain(b).any(Value::is_object) => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                walk(x, y, &format!("{path}[{i}]"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.iter().chain(b).any(Value::is_object) => {
            for item in a.iter().filter(|i| !b.contains(i)) {
                out.push(Reason::field(path, shown(item, path), None));
            }
            for item in b.iter().filter(|i| !a.contains(i)) {
                out.push(Reason::field(path, None, shown(item, path)));
            }
        }
        _ => {
            let key = path.rsplit('.').next().unwrap_or_default();
            out.push(Reason::field(path, shown(old, key), shown(new, key)));
        }
    }
}

/// A value as printed; what looks like a secret is not shown.
fn shown(value: &Value, key: &str) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let upper = key.to_uppercase();
    let secret = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "PRIVATE_KEY", "CREDENTIAL"];
    if secret.iter().any(|s| upper.contains(s)) && !value.is_object() {
        return Some("(hidden)".to_owned());
    }
    let text = value.to_string();
    Some(match text.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(old: Value, new: Value) -> Vec<String> {
        fields(&old, &new).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_each_field() {
        let old = json!({"image": "a:1", "environment": {"A": "1", "B": "2", "DB_PASSWORD": "x"}, "ports": [{"target": 80}], "command": null});
        let new = json!({"image": "a:2", "environment": {"A": "1", "C": "3", "DB_PASSWORD": "y"}, "ports": [{"target": 80}, {"target": 81}], "command": ["x"]});
        assert_eq!(
            lines(old, new),
            [
                "image: \"a:1\" → \"a:2\"",
                "environment.B: \"2\" removed",
                "environment.DB_PASSWORD: (hidden) → (hidden)",
                "environment.C: \"3\" added",
                "ports: {\"target\":81} added",
                "command: [\"x\"] added",
            ]
        );
    }

    #[test]
    fn bare_keys_come_and_go() {
        let (old, new) = (json!({"networks": {"n1": null}}), json!({"networks": {"n2": null}}));
        assert_eq!(lines(old, new), ["networks.n1 removed", "networks.n2 added"]);
    }

    #[test]
    fn equal_is_empty() {
        assert!(lines(json!({"a": [1]}), json!({"a": [1]})).is_empty());
    }
}
