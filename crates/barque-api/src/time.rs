//! Times as Docker writes and reads them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Go's zero time: a moment that never was.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 in UTC with nanoseconds, trailing zeros dropped (Go's `RFC3339Nano`).
pub fn rfc3339_nano(seconds: i64, nanoseconds: u32) -> String {
    format_nano(seconds, nanoseconds, 0)
}

/// RFC 3339 with all nine digits, for log lines.
pub fn rfc3339_fixed(seconds: i64, nanoseconds: u32) -> String {
    let Some(stamp) = Timestamp::new(seconds, 0).ok() else { return ZERO.to_owned() };
    format!("{}.{nanoseconds:09}Z", stamp.strftime("%Y-%m-%dT%H:%M:%S"))
}

/// RFC 3339 with nanoseconds at an offset of `offset` seconds east of UTC.
pub fn format_nano(seconds: i64, nanoseconds: u32, offset: i32) -> String {
    let Some(stamp) = seconds.checked_add(i64::from(offset)).and_then(|local| Timestamp::new(local, 0).ok()) else {
        return ZERO.to_owned();
    };
    let mut text = stamp.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    if nanoseconds != 0 {
        let digits = format!("{nanoseconds:09}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    match offset {
        0 => text.push('Z'),
        _ => {
            let minutes = offset.unsigned_abs() / 60;
            let sign = if offset < 0 { '-' } else { '+' };
            text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        }
    }
    text
}

/// Seconds and nanoseconds of an RFC 3339 time; `None` for [`ZERO`] and anything malformed.
pub fn parse_rfc3339(text: &str) -> Option<(i64, u32)> {
    if text.is_empty() || text == ZERO {
        return None;
    }
    let stamp: Timestamp = text.parse().ok()?;
    Some(split_nanoseconds(stamp.as_nanosecond()))
}

fn split_nanoseconds(total: i128) -> (i64, u32) {
    let seconds = total.div_euclid(1_000_000_000);
    (seconds as i64, total.rem_euclid(1_000_000_000) as u32)
}

/// Reads `since` and `until` as the server does: Unix seconds with up to nine decimals. Empty or `0` is `None`.
///
/// # Errors
/// The text, if it is something else.
pub fn parse_unix(text: &str) -> Result<Option<(i64, u32)>, String> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let invalid = || format!("failed to parse value as Unix time: {text:?}");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| invalid())?;
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let nanoseconds = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    Ok(Some((seconds, nanoseconds)))
}

/// Reads what users give for a moment: a Go duration before `now` (`10m`), Unix seconds, RFC 3339, or a date
/// with or without a time of day in `zone`. Returns the `seconds.nanoseconds` that goes on the wire.
///
/// # Errors
/// The text, if it is none of these.
pub fn to_unix(text: &str, now: Timestamp, zone: &TimeZone) -> Result<String, String> {
    if let Some(ago) = parse_go_duration(text) {
        let (seconds, nanoseconds) = split_nanoseconds(now.as_nanosecond() - ago);
        return Ok(format!("{seconds}.{nanoseconds:09}"));
    }
    if !text.contains(['-', ':', 'T']) || text.starts_with('-') {
        return parse_unix(text).map(|_| text.to_owned());
    }
    let fixed = text.replace(' ', "T");
    if let Ok(stamp) = fixed.parse::<Timestamp>() {
        let (seconds, nanoseconds) = split_nanoseconds(stamp.as_nanosecond());
        return Ok(format!("{seconds}.{nanoseconds:09}"));
    }
    let (local, utc) = match fixed.strip_suffix('Z') {
        Some(local) => (local, true),
        None => (fixed.as_str(), false),
    };
    // Docker accepts `2006-01-02T15`, `…T15:04` and `2006-01-02` as well.
    let padded = match local.len() {
        10 => format!("{local}T00:00:00"),
        13 => format!("{local}:00:00"),
        16 => format!("{local}:00"),
        _ => local.to_owned(),
    };
    let date: DateTime = padded.parse().map_err(|_| format!("failed to parse value as time or duration: {text:?}"))?;
    let zone = if utc { TimeZone::UTC } else { zone.clone() };
    let stamp = date.to_zoned(zone).map_err(|why| why.to_string())?.timestamp();
    let (seconds, nanoseconds) = split_nanoseconds(stamp.as_nanosecond());
    Ok(format!("{seconds}.{nanoseconds:09}"))
}

/// A Go duration (`1h30m`, `1.5s`, `-2m`) in nanoseconds.
pub fn parse_go_duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty())
            || whole.len() > 15
            || fraction.len() > 15
            || fraction.contains('.')
        {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        total += whole * unit + part * unit / 10i128.pow(fraction.len() as u32);
        rest = next;
    }
    Some(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!(rfc3339_nano(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano(1_600_000_000, 120_000_000), "2020-09-13T12:26:40.12Z");
        assert_eq!(rfc3339_fixed(1_600_000_000, 5), "2020-09-13T12:26:40.000000005Z");
        assert_eq!(format_nano(0, 1, 19_800), "1970-01-01T05:30:00.000000001+05:30");
        assert_eq!(rfc3339_nano(i64::MAX, 0), ZERO);
    }

    #[test]
    fn reads_back() {
        assert_eq!(parse_rfc3339("2020-09-13T12:26:40.12Z"), Some((1_600_000_000, 120_000_000)));
        assert_eq!(parse_rfc3339("2020-09-13T14:26:40+02:00"), Some((1_600_000_000, 0)));
        assert_eq!(parse_rfc3339(ZERO), None);
        assert_eq!(parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn server_side_unix() {
        assert_eq!(parse_unix("1600000000.000000001"), Ok(Some((1_600_000_000, 1))));
        assert_eq!(parse_unix("1600000000.5"), Ok(Some((1_600_000_000, 500_000_000))));
        assert_eq!(parse_unix(""), Ok(None));
        assert_eq!(parse_unix("0"), Ok(None));
        assert!(parse_unix("10m").is_err());
        assert!(parse_unix("1.0000000001").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_go_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(parse_go_duration("1.5s"), Some(1_500_000_000));
        assert_eq!(parse_go_duration("-2ms"), Some(-2_000_000));
        for bad in ["", "1", "h", "1x", "1.2.3s", "99999999999999999999h", "-"] {
            assert_eq!(parse_go_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn client_side_moments() {
        let now = Timestamp::new(1_600_000_000, 0).unwrap();
        let of = |text: &str| to_unix(text, now, &TimeZone::UTC);
        assert_eq!(of("10m").unwrap(), "1599999400.000000000");
        assert_eq!(of("1600000000").unwrap(), "1600000000");
        assert_eq!(of("2020-09-13T12:26:40Z").unwrap(), "1600000000.000000000");
        assert_eq!(of("2020-09-13T12:26").unwrap(), "1599999960.000000000");
        assert_eq!(of("2020-09-13").unwrap(), "1599955200.000000000");
        assert!(of("soon").is_err());
        assert!(of("20-20").is_err());
    }
}
