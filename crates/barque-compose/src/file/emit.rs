//! JSON values → YAML text in the layout of `docker compose config`.

use std::cmp::Ordering;

use serde_json::Value;

use super::scalar;

/// The text of a document. `$` in texts is doubled if `escape` is set, so that the output can be read back.
pub fn to_yaml(value: &Value, escape: bool) -> String {
    let mut emitter = Emitter { out: String::new(), escape };
    match value {
        Value::Object(map) if !map.is_empty() => emitter.map(map, 0),
        other => {
            emitter.inline(other, 0);
            emitter.out.push('\n');
        }
    }
    emitter.out
}

struct Emitter {
    out: String,
    escape: bool,
}

impl Emitter {
    fn pad(&mut self, depth: usize) {
        for _ in 0..depth {
            self.out.push_str("  ");
        }
    }

    fn map(&mut self, map: &serde_json::Map<String, Value>, depth: usize) {
        let mut entries: Vec<(&String, &Value)> = map.iter().collect();
        // Fixed keys have an order of their own; those of the user are sorted.
        if entries.is_sorted_by_key(|(key, _)| *key) {
            entries.sort_by(|(a, _), (b, _)| key_order(a, b));
        }
        for (i, (key, value)) in entries.into_iter().enumerate() {
            // inside a list item the first key stands behind the dash
            if i > 0 || !self.out.ends_with("- ") {
                self.pad(depth);
            }
            self.key(key);
            self.out.push(':');
            self.after_key(value, depth);
        }
    }

    fn after_key(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                self.out.push('\n');
                self.map(inner, depth + 1);
            }
            Value::Array(items) if !items.is_empty() => {
                self.out.push('\n');
                self.list(items, depth + 1);
            }
            other => {
                self.out.push(' ');
                self.inline(other, depth + 1);
                self.out.push('\n');
            }
        }
    }

    fn list(&mut self, items: &[Value], depth: usize) {
        for item in items {
            self.pad(depth);
            self.out.push_str("- ");
            match item {
                Value::Object(map) if !map.is_empty() => self.map(map, depth + 1),
                Value::Array(inner) if !inner.is_empty() => {
                    self.out.push('\n');
                    self.list(inner, depth + 1);
                }
                other => {
                    self.inline(other, depth + 1);
                    self.out.push('\n');
                }
            }
        }
    }

    fn key(&mut self, key: &str) {
        let text = if is_plain(key) { key.to_owned() } else { quoted(key) };
        self.out.push_str(&text);
    }

    fn inline(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(b) => self.out.push_str(&b.to_string()),
            Value::Number(n) => self.out.push_str(&n.to_string()),
            Value::Array(_) => self.out.push_str("[]"),
            Value::Object(_) => self.out.push_str("{}"),
            Value::String(s) => {
                let text = if self.escape { s.replace('$', "$$") } else { s.clone() };
                self.text(&text, depth);
            }
        }
    }

    fn text(&mut self, text: &str, depth: usize) {
        let printable = |s: &str| s.chars().all(|c| c == '\n' || !c.is_control());
        if text.contains('\n') && printable(&text.replace('\t', "")) && !text.trim_matches('\n').is_empty() {
            self.block(text, depth);
        } else if is_plain(text) {
            self.out.push_str(text);
        } else if printable(text) && !text.contains('\n') && !resolves_otherwise(text) && !text.is_empty() {
            self.out.push_str(&format!("'{}'", text.replace('\'', "''")));
        } else {
            self.out.push_str(&quoted(text));
        }
    }

    /// `|`, with `-` or `+` for the line breaks at the end and a digit if the first line starts with a space.
    fn block(&mut self, text: &str, depth: usize) {
        self.out.push('|');
        if text.starts_with([' ', '\n']) {
            self.out.push('2');
        }
        let body = text.trim_end_matches('\n');
        match text.len() - body.len() {
            0 => self.out.push('-'),
            1 => {}
            _ => self.out.push('+'),
        }
        let lines = if text.len() - body.len() > 1 { text.strip_suffix('\n').unwrap_or(text) } else { body };
        for line in lines.split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                self.pad(depth);
                self.out.push_str(line);
            }
        }
    }
}

/// The order of keys in documents of Go's YAML: letters come after all else, numbers go by their value.
fn key_order(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) else { return a.len().cmp(&b.len()) };
    let (x, y) = (a[at], b[at]);
    let after_digit = at > 0 && a[at - 1].is_numeric();
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        // "a1b" stands before "a1-", but "ab" after "a-".
        (true, false) => return if after_digit { Ordering::Less } else { Ordering::Greater },
        (false, true) => return if after_digit { Ordering::Greater } else { Ordering::Less },
        (false, false) => {}
    }
    let digits = |text: &[char]| text[at..].iter().take_while(|c| c.is_ascii_digit()).count();
    let number = |text: &[char]| {
        let tail: String = text[at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        // A zero behind other digits of the same number counts.
        let head = a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
        let head = head && (x == '0' || y == '0');
        format!("{}{tail}", u8::from(head)).parse::<u128>().unwrap_or(u128::MAX)
    };
    number(&a).cmp(&number(&b)).then(digits(&a).cmp(&digits(&b))).then(x.cmp(&y))
}

/// True if an unquoted reading would give something other than this text.
fn resolves_otherwise(text: &str) -> bool {
    // the old booleans, too: other readers still take them for such
    const OLD: [&str; 12] = ["y", "n", "yes", "no", "on", "off", "Y", "N", "Yes", "No", "On", "Off"];
    let old = OLD.contains(&text) || ["YES", "NO", "ON", "OFF"].contains(&text);
    old || sexagesimal(text) || !matches!(scalar::resolve(text), super::node::Value::Str(_))
}

/// `1:20` was a number once; readers of YAML 1.1 take it for one.
fn sexagesimal(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = body.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    !rest.is_empty()
        && first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        && rest.iter().enumerate().all(|(i, p)| {
            let p = if i + 1 == rest.len() { p.split('.').next().unwrap_or_default() } else { p };
            (1..=2).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u8>().is_ok_and(|n| n < 60)
        })
}

fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    if resolves_otherwise(text) || text.starts_with("---") || text.starts_with("...") || text == "<<" || text == "=" {
        return false;
    }
    if "!&*|>'\"%@`#,[]{}".contains(first) {
        return false;
    }
    if "-?:".contains(first) && text.chars().nth(1).is_none_or(char::is_whitespace) {
        return false;
    }
    let clean = !text.starts_with(' ') && !text.ends_with([' ', ':']) && !text.contains(": ") && !text.contains(" #");
    clean && !text.contains('\t') && text.chars().all(|c| !c.is_control() && c != '\u{feff}')
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            c if c.is_control() && (c as u32) < 0x100 => out.push_str(&format!("\\x{:02x}", c as u32)),
            '\u{feff}' => out.push_str("\\ufeff"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn layout() {
        let value =
            json!({"a": {"n": "80", "l": ["x", {"k": "v", "w": 1}], "e": {}, "z": null}, "n": "yes", "t": "a: b"});
        let want = "a:\n  \"n\": \"80\"\n  l:\n    - x\n    - k: v\n      w: 1\n  e: {}\n  z: null\n\"n\": \"yes\"\nt: 'a: b'\n";
        assert_eq!(to_yaml(&value, false), want);
    }

    #[test]
    fn keys_of_the_user_are_sorted_as_people_do() {
        let value = json!({"a": {"A_B": 1, "_C": 2, "a1": 3, "a10": 4, "a1b": 5, "a2": 6, "b": 7}, "t": "x\ty"});
        let want = "a:\n  _C: 2\n  A_B: 1\n  a1: 3\n  a1b: 5\n  a2: 6\n  a10: 4\n  b: 7\nt: \"x\\ty\"\n";
        assert_eq!(to_yaml(&value, false), want);
        let fixed = json!({"f": {"name": 1, "image": 2}});
        assert_eq!(to_yaml(&fixed, false), "f:\n  name: 1\n  image: 2\n");
    }

    #[test]
    fn everything_reads_back() {
        let texts = [
            "",
            " ",
            "a",
            "a b",
            "- x",
            "-",
            "#x",
            "x #y",
            "x: y",
            "x:",
            "'q'",
            "\"q\"",
            "80",
            "1.5",
            "0x1",
            "null",
            "~",
            "true",
            "no",
            "a\nb",
            "a\nb\n",
            "a\n\n",
            "\n",
            "  lead\nb",
            "a\tb",
            "\u{1}",
            "{a}",
            "[a]",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "22:22",
            "a\\b",
            "ä",
            "|",
            ">",
            "key: [",
            "x\n  y\n z",
            "---",
            "1:20",
            "<<",
            "\ta\nb",
            "a\n ",
            "$x",
        ];
        for text in texts {
            for value in [json!({"k": text}), json!({"k": [text, {"x": text}]})] {
                let yaml = to_yaml(&value, false);
                let back = super::super::yaml::parse(&yaml, 0).unwrap_or_else(|e| panic!("{text:?}: {e:?}\n{yaml}"));
                assert_eq!(super::super::render::any(&back[0]), value, "{yaml}");
            }
        }
    }
}
