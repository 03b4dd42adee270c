//! JSON text as Go's client lays it out, without decoding it: numbers and escapes stay as the engine wrote them.

/// Indents a document by `indent` per level; `prefix` begins every line but the first.
pub(crate) fn indent(text: &str, prefix: &str, indent: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    // An opening bracket waits: an empty list or map stays on one line.
    let mut opened = false;
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(prefix);
        out.extend(std::iter::repeat_n(indent, depth));
    };
    for c in text.chars() {
        if in_string {
            out.push(c);
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if opened && c != '}' && c != ']' {
            line(&mut out, depth);
        }
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !opened {
                    line(&mut out, depth);
                }
            }
            _ => {}
        }
        opened = matches!(c, '{' | '[');
        out.push(c);
        match c {
            '"' => in_string = true,
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

/// A document without blanks between its parts.
pub(crate) fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            c if !in_string && c.is_ascii_whitespace() => continue,
            _ => {}
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_gos() {
        let text = r#"[{"a":{},"b":[],"c":[1,"x, {y}: \"z\""],"d":1e+06,"e":"\u003c"}]"#;
        let want = "[\n    {\n        \"a\": {},\n        \"b\": [],\n        \"c\": [\n            1,\n            \
                    \"x, {y}: \\\"z\\\"\"\n        ],\n        \"d\": 1e+06,\n        \"e\": \"\\u003c\"\n    }\n]";
        assert_eq!(indent(text, "", "    "), want);
        assert_eq!(compact("{ \"a b\" : [ 1 ,\n2 ] }"), "{\"a b\":[1,2]}");
    }
}
