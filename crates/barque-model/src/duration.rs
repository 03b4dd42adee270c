//! Durations in Go's notation (`1m30s`) and in words (`About a minute`).

use std::time::Duration;

use crate::{Error, Result};

/// Parses Go's duration notation: `300ms`, `1.5h`, `2h45m`. Negative values are refused.
pub fn parse(text: &str) -> Result<Duration> {
    let invalid = || Error::invalid(format!("time: invalid duration \"{text}\""));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0f64;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(|| {
            Error::invalid(format!("time: missing unit in duration \"{text}\"")).with_hint("write 30s, 5m or 1h30m")
        })?;
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        let after = &rest[end..];
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let factor = match &after[..unit_end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(invalid()),
        };
        nanos += number * factor;
        rest = &after[unit_end..];
    }
    if nanos > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// Go's notation, as `docker inspect` prints intervals in templates: `1m30s`, `1.5s`, `0s`.
pub fn go(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    let trim = |v: f64, unit: &str| {
        let text = format!("{v:.9}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    if nanos < 1_000 {
        return format!("{nanos}ns");
    }
    if nanos < 1_000_000 {
        return trim(nanos as f64 / 1e3, "µs");
    }
    if nanos < 1_000_000_000 {
        return trim(nanos as f64 / 1e6, "ms");
    }
    let whole = duration.as_secs();
    let seconds = trim((whole % 60) as f64 + f64::from(duration.subsec_nanos()) / 1e9, "s");
    match (whole / 3600, whole / 60 % 60) {
        (0, 0) => seconds,
        (0, m) => format!("{m}m{seconds}"),
        (h, m) => format!("{h}h{m}m{seconds}"),
    }
}

/// In words, as in `docker ps`: `Less than a second`, `5 seconds`, `About an hour`, `3 days`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = ((duration.as_secs_f64() / 3600.0) + 0.5) as u64;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", duration.as_secs() / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_notation_round_trips() {
        for text in ["1m30s", "1h0m0s", "300ms", "1.5s", "0s", "5ns"] {
            assert_eq!(go(parse(text).unwrap()), text);
        }
        for bad in ["", "1", "x", "1y", "-1s", "s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_dockers() {
        let h = |s| human(Duration::from_secs(s));
        assert_eq!(h(0), "Less than a second");
        assert_eq!(h(59), "59 seconds");
        assert_eq!(h(61), "About a minute");
        assert_eq!(h(3600), "About an hour");
        assert_eq!(h(3600 * 47), "47 hours");
        assert_eq!(h(86400 * 13), "13 days");
        assert_eq!(h(86400 * 30), "4 weeks");
    }
}
