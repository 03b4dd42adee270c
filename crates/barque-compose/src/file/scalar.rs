//! Plain scalars as Go's YAML reader resolves them, and numbers as Go prints them.

use super::node::Value;

/// Resolves a plain (unquoted) scalar.
pub fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return Value::Str(text.to_owned());
    }
    if let Some(int) = integer(text) {
        return Value::Int(int);
    }
    if is_float(text)
        && let Ok(float) = text.replace('_', "").parse()
    {
        return Value::Float(float);
    }
    Value::Str(text.to_owned())
}

/// Decimal, `0x`, `0o`, `0b` and the old octal `0644`; `_` between digits is skipped.
fn integer(text: &str) -> Option<i64> {
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let (radix, body) = if let Some(hex) = digits.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        (8, octal)
    } else if let Some(binary) = digits.strip_prefix("0b") {
        (2, binary)
    } else if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    let value = i64::from_str_radix(body, radix).ok()?;
    Some(if negative { -value } else { value })
}

fn is_float(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    };
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let numeric = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    !(whole.is_empty() && fraction.is_empty()) && numeric(whole) && numeric(fraction)
}

/// A number as Go's `%v` prints it: shortest digits, exponent below 1e-4 and from 1e21 on.
pub fn format_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((mantissa, exponent)) => {
                let (sign, digits) = match exponent.strip_prefix('-') {
                    Some(digits) => ('-', digits),
                    None => ('+', exponent),
                };
                format!("{mantissa}e{sign}{digits:0>2}")
            }
            None => text,
        };
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_as_go_does() {
        assert_eq!(resolve("0444"), Value::Int(292));
        assert_eq!(resolve("0x1F"), Value::Int(31));
        assert_eq!(resolve("0o17"), Value::Int(15));
        assert_eq!(resolve("1_000"), Value::Int(1000));
        assert_eq!(resolve("-5"), Value::Int(-5));
        assert_eq!(resolve("1.10"), Value::Float(1.1));
        assert_eq!(resolve("1e3"), Value::Float(1000.0));
        assert_eq!(resolve("yes"), Value::Str("yes".into()));
        assert_eq!(resolve("1.2.3"), Value::Str("1.2.3".into()));
        assert_eq!(resolve("22:22"), Value::Str("22:22".into()));
        assert_eq!(resolve("-"), Value::Str("-".into()));
        assert_eq!(resolve("."), Value::Str(".".into()));
        assert_eq!(resolve("089"), Value::Int(89));
        assert_eq!(resolve("~"), Value::Null);
    }

    #[test]
    fn prints_numbers_as_go_does() {
        assert_eq!(format_float(1.1), "1.1");
        assert_eq!(format_float(1000.0), "1000");
        assert_eq!(format_float(1e21), "1e+21");
        assert_eq!(format_float(0.00001), "1e-05");
    }
}
