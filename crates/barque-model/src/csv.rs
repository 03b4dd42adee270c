//! Comma-separated values in one word, as `--mount` and `--cache-to` have them.

/// One line of comma-separated values with quotes as in RFC 4180.
pub fn csv(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_reads_quotes() {
        assert_eq!(csv(r#"type=bind,"src=/a,b",x="y""#), ["type=bind", "src=/a,b", "x=\"y\""]);
        assert_eq!(csv(r#""a ""b""",c"#), ["a \"b\"", "c"]);
    }
}
