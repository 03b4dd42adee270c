//! Sizes in bytes as people write and read them (Docker's units package).

use crate::{Error, Result};

/// Decimal units with four significant digits, as in `docker images`: `1.23MB`, `72.8kB`, `0B`.
pub fn human(bytes: u64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 4)
}

/// As [`human`], with three significant digits (the CLI's `docker history`, `docker images`).
pub fn human_precision(bytes: u64, digits: usize) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], digits)
}

/// Binary units, as in `docker stats`: `1.944GiB`.
pub fn binary(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// `value` with at most `digits` significant digits and no trailing zeros (C's `%.*g` for these ranges).
fn significant(value: f64, digits: usize) -> String {
    let whole = if value < 1.0 { 1 } else { value.log10().floor() as usize + 1 };
    let decimals = digits.saturating_sub(whole);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Parses `512`, `64m`, `1.5GiB`, `2kb` with binary meaning, as `--memory` does.
pub fn parse_binary(text: &str) -> Result<u64> {
    parse(text, 1024.0)
}

/// As [`parse_binary`] with decimal meaning, as in `docker images` filters.
pub fn parse_decimal(text: &str) -> Result<u64> {
    parse(text, 1000.0)
}

fn parse(text: &str, base: f64) -> Result<u64> {
    let invalid = || Error::invalid(format!("invalid size: '{text}'"));
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let unit = unit.trim().to_ascii_lowercase();
    let exponent = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid()),
    };
    let value = number * base.powi(exponent);
    if !value.is_finite() || value > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_docker() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(999), "999B");
        assert_eq!(human(1_234_567), "1.235MB");
        assert_eq!(human_precision(72_800_123, 3), "72.8MB");
        assert_eq!(human_precision(1000, 3), "1kB");
        assert_eq!(binary(2_087_354_368), "1.944GiB");
        assert_eq!(binary(0), "0B");
    }

    #[test]
    fn parses_as_docker() {
        assert_eq!(parse_binary("64m").unwrap(), 64 << 20);
        assert_eq!(parse_binary("1.5GiB").unwrap(), 3 << 29);
        assert_eq!(parse_binary("2kb").unwrap(), 2048);
        assert_eq!(parse_binary("10").unwrap(), 10);
        assert_eq!(parse_decimal("1MB").unwrap(), 1_000_000);
        for bad in ["", "m", "-1", "1x", "1 2", "99999999999p"] {
            assert!(parse_binary(bad).is_err(), "{bad}");
        }
    }
}
