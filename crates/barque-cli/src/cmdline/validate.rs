//! Checks of flag values at parse time, with the sentences Go's libraries give.

use super::spec::Kind;

/// Whether `text` is a value of `kind`; the error is the reason alone.
pub(crate) fn check(kind: Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Str | Kind::Strings => Ok(()),
        Kind::Bool => parse_bool(text).map(drop),
        Kind::Int => parse_int(text).map(drop),
        Kind::Uint => parse_uint(text, u64::MAX).map(drop),
        Kind::Uint16 => parse_uint(text, u64::from(u16::MAX)).map(drop),
        Kind::Duration => barque_model::duration::parse(text).map(drop).map_err(|_| duration_reason(text)),
        Kind::Bytes => parse_bytes(text).map(drop),
        Kind::SwapBytes if text == "-1" => Ok(()),
        Kind::SwapBytes => parse_bytes(text).map(drop),
        Kind::Cpus => parse_cpus(text).map(drop),
        Kind::List(check) | Kind::Map(check) | Kind::Custom(_, check) => check(text),
    }
}

fn duration_reason(text: &str) -> String {
    let has_digits = text.chars().any(|c| c.is_ascii_digit());
    let body = text.trim_start_matches(['-', '+']);
    if has_digits && body.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return format!("time: missing unit in duration {text:?}");
    }
    format!("time: invalid duration {text:?}")
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Go's `strconv.ParseInt(text, 0, 64)`: decimal, or hex, octal and binary by prefix.
pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
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

/// Go's `strconv.ParseUint(text, 0, bits)`.
pub(crate) fn parse_uint(text: &str, max: u64) -> Result<u64, String> {
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

/// A memory size, `512m`, in bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let bytes = barque_model::size::parse_binary(text).map_err(|_| invalid())?;
    i64::try_from(bytes).map_err(|_| invalid())
}

/// A number of CPUs, in billionths.
pub(crate) fn parse_cpus(text: &str) -> Result<i64, String> {
    let not_number = || format!("failed to parse {text} as a rational number");
    let (sign, body) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(not_number());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".into());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| not_number())? };
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| not_number())?;
    whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanos)).map(|n| sign * n).ok_or_else(not_number)
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

    #[test]
    fn cpus_are_exact_to_a_billionth() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus("0.000000001"), Ok(1));
        assert_eq!(parse_cpus(".5"), Ok(500_000_000));
        assert_eq!(parse_cpus("0.0000000001").unwrap_err(), "value is too precise");
        assert_eq!(parse_cpus("abc").unwrap_err(), "failed to parse abc as a rational number");
    }
}
