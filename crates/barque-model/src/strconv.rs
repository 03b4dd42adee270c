//! Words for truth and numbers as Go's `strconv` reads them, with its errors: what flags, options and templates of
//! Docker take. And texts as it writes them.

use std::fmt::Write as _;

/// `strconv.ParseBool`.
///
/// # Errors
/// Any other word.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// `strconv.ParseInt(text, 0, 64)`: decimal, or hex, octal and binary by prefix.
///
/// # Errors
/// What is no number, or too large.
pub fn parse_int(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let syntax = || format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
    let value = magnitude(digits).ok_or_else(syntax)?;
    let range = || format!("strconv.ParseInt: parsing {text:?}: value out of range");
    let signed = i128::from(value.ok_or_else(range)?) * if negative { -1 } else { 1 };
    i64::try_from(signed).map_err(|_| range())
}

/// `strconv.ParseUint(text, 0, bits)` of at most `max`.
///
/// # Errors
/// What is no number, or too large.
pub fn parse_uint(text: &str, max: u64) -> Result<u64, String> {
    let value = magnitude(text).ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))?;
    match value {
        Some(number) if number <= max => Ok(number),
        _ => Err(format!("strconv.ParseUint: parsing {text:?}: value out of range")),
    }
}

/// `None`: not a number; `Some(None)`: too large.
fn magnitude(digits: &str) -> Option<Option<u64>> {
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.as_str() {
        s if s.starts_with("0x") => (16, &s[2..]),
        s if s.starts_with("0o") => (8, &s[2..]),
        s if s.starts_with("0b") => (2, &s[2..]),
        s if s.len() > 1 && s.starts_with('0') => (8, &s[1..]),
        s => (10, s),
    };
    if body.is_empty() || !body.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(u64::from_str_radix(body, radix).ok())
}

/// `strconv.Quote`, which is `%q`: in double quotes, with Go's escapes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_control() && u32::from(c) < 0x80 => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_gos_prefixes_and_name_the_fault() {
        assert_eq!(parse_int("0x10"), Ok(16));
        assert_eq!(parse_int("-7"), Ok(-7));
        assert_eq!(parse_int("x").unwrap_err(), "strconv.ParseInt: parsing \"x\": invalid syntax");
        let far = parse_int("99999999999999999999").unwrap_err();
        assert_eq!(far, "strconv.ParseInt: parsing \"99999999999999999999\": value out of range");
        assert!(parse_uint("65536", 65535).unwrap_err().ends_with("value out of range"));
    }
}
