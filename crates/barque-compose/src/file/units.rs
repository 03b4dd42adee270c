//! Sizes, durations and modes as Compose files write them.

/// `64M`, `1.5gb`, `-1` or a number of bytes → bytes; units are powers of 1024.
///
/// # Errors
/// What is wrong with the text.
pub fn bytes(text: &str) -> Result<i64, String> {
    let text = text.trim();
    if let Ok(n) = text.parse::<i64>() {
        return Ok(n);
    }
    let bad = || format!("invalid size: '{text}'");
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| bad())?;
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    let value = number * 1024f64.powi(power);
    if !(0.0..9.2e18).contains(&value) {
        return Err(bad());
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked against the range just above")]
    Ok(value as i64)
}

/// `1w2d3h4m5s6ms7us8ns` with fractions → nanoseconds.
///
/// # Errors
/// What is wrong with the text.
pub fn duration(text: &str) -> Result<i64, String> {
    let bad = |why: &str| format!("invalid duration {text:?}: {why}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad("it is empty"));
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| bad("a number is missing"))?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 86_400e9,
            "w" => 604_800e9,
            "" => return Err(bad("the unit is missing")),
            other => return Err(bad(&format!("unknown unit {other:?}"))),
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    if total > 9.2e18 {
        return Err(bad("it is too long"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked against the range just above")]
    let nanos = total.round() as i64;
    Ok(if negative { -nanos } else { nanos })
}

/// Nanoseconds as Go prints a duration: `1h30m0s`, `1.5s`, `10ms`.
pub fn go_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let whole = value / unit;
        let part = value % unit;
        if part == 0 {
            return format!("{whole}{name}");
        }
        let width = unit.ilog10() as usize;
        format!("{whole}.{}{name}", format!("{part:0width$}").trim_end_matches('0'))
    };
    let text = if n < 1_000 {
        format!("{n}ns")
    } else if n < 1_000_000 {
        fraction(n, 1_000, "µs")
    } else if n < 1_000_000_000 {
        fraction(n, 1_000_000, "ms")
    } else {
        let minutes = n / 60_000_000_000;
        let seconds = fraction(n % 60_000_000_000, 1_000_000_000, "s");
        match (minutes / 60, minutes % 60) {
            (0, 0) => seconds,
            (0, m) => format!("{m}m{seconds}"),
            (h, m) => format!("{h}h{m}m{seconds}"),
        }
    };
    format!("{sign}{text}")
}

/// `0440`, `440` or `0o440` → the number.
///
/// # Errors
/// What is wrong with the text.
pub fn octal(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    i64::from_str_radix(digits, 8).ok().filter(|n| *n >= 0).ok_or_else(|| format!("{text:?} is not an octal mode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("64M"), Ok(64 << 20));
        assert_eq!(bytes("1.5gb"), Ok(3 << 29));
        assert_eq!(bytes("1 KiB"), Ok(1024));
        assert_eq!(bytes("-1"), Ok(-1));
        assert_eq!(bytes("100"), Ok(100));
        assert!(bytes("1x").is_err());
        assert!(bytes("").is_err());
        assert!(bytes("99999999P").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1m30s"), Ok(90_000_000_000));
        assert_eq!(duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(duration("1d"), Ok(86_400_000_000_000));
        assert_eq!(duration("10us"), Ok(10_000));
        assert!(duration("30").unwrap_err().contains("unit is missing"));
        assert!(duration("s").is_err());
        for (nanos, text) in [
            (90_000_000_000, "1m30s"),
            (1_500_000_000, "1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (10_000, "10µs"),
            (1_500_000, "1.5ms"),
            (0, "0s"),
            (60_000_000_000, "1m0s"),
        ] {
            assert_eq!(go_duration(nanos), text);
        }
    }

    #[test]
    fn modes() {
        assert_eq!(octal("0440"), Ok(0o440));
        assert_eq!(octal("0o440"), Ok(0o440));
        assert!(octal("9").is_err());
    }
}
