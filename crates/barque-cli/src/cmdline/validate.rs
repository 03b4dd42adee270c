//! Checks of flag values at parse time, with the sentences Go's libraries give.

use barque_model::strconv::{parse_bool, parse_int, parse_uint};

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
    fn cpus_are_exact_to_a_billionth() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus("0.000000001"), Ok(1));
        assert_eq!(parse_cpus(".5"), Ok(500_000_000));
        assert_eq!(parse_cpus("0.0000000001").unwrap_err(), "value is too precise");
        assert_eq!(parse_cpus("abc").unwrap_err(), "failed to parse abc as a rational number");
    }
}
