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
    if is_secret(key) && !value.is_object() {
        return Some("(hidden)".to_owned());
    }
    let text = redacted(value).to_string();
    Some(match text.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    })
}

/// True if a name promises a secret: `DB_PASS`, `MYSQL_PWD`, `AUTH_KEY`, `apiToken`.
fn is_secret(key: &str) -> bool {
    let upper = key.to_uppercase();
    let words = ["PASS", "PWD", "SECRET", "TOKEN", "CREDENTIAL", "APIKEY", "PRIVATE"];
    words.iter().any(|word| upper.contains(word))
        || upper.split(|c: char| !c.is_alphanumeric()).next_back() == Some("KEY")
}

/// A value without what looks like a secret in it.
fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let hide = is_secret(key) && !(value.is_object() || value.is_array() || value.is_null());
                (key.clone(), if hide { Value::from("(hidden)") } else { redacted(value) })
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(redacted).collect(),
        Value::String(text) => Value::from(without_password(text)),
        other => other.clone(),
    }
}

/// `scheme://user:password@host` → `scheme://user:(hidden)@host`, wherever it stands.
fn without_password(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c == '/' || c == '?' || c == '#' || c == '"' || c.is_whitespace());
        let (authority, tail) = after.split_at(end.unwrap_or(after.len()));
        match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => out.push_str(&format!("{user}:(hidden)@{host}")),
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out + rest
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
    fn secrets_are_not_shown() {
        let of = |env: Value| lines(json!({"environment": {}}), json!({ "environment": env })).join("\n");
        for name in ["DB_PASS", "MYSQL_PWD", "AUTH_KEY", "KEY", "apiToken", "DB_PASSWORD", "my-key"] {
            let text = of(json!({ name: "hush" }));
            assert!(!text.contains("hush") && text.contains("(hidden)"), "{text}");
            let whole = lines(json!({}), json!({"environment": {name: "hush", "A": "seen"}})).join("\n");
            assert!(!whole.contains("hush") && whole.contains("seen"), "{whole}");
        }
        let url = of(json!({"DATABASE": "a=postgres://me:hush@db:5432/x?y z=redis://:hush@r"}));
        assert_eq!(url, "environment.DATABASE: \"a=postgres://me:(hidden)@db:5432/x?y z=redis://:(hidden)@r\" added");
        assert!(of(json!({"KEYBOARD": "us", "URL": "http://host:80/a@b"})).contains("http://host:80/a@b"));
        let command = lines(json!({}), json!({"command": ["serve", "amqp://u:hush@h"]})).join("\n");
        assert!(!command.contains("hush"), "{command}");
    }

    #[test]
    fn equal_is_empty() {
        assert!(lines(json!({"a": [1]}), json!({"a": [1]})).is_empty());
    }
}
