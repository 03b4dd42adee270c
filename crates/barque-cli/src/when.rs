//! Points in time as users write them: a duration ago, a date, Unix seconds.

use barque_model::time::Timestamp;

use crate::error::{CliResult, Failure};

/// `--since` and `--until` values in the engine's form, `seconds.nanoseconds`; empty stays empty. An error names
/// the flag, if one is given.
pub(crate) fn timestamp(text: &str, flag: &str) -> CliResult<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    parse(text, Timestamp::now()).map_err(|why| match flag {
        "" => Failure::new(why),
        flag => Failure::new(format!("invalid value for \"{flag}\": {why}")),
    })
}

/// Reads a time relative to `now`.
fn parse(text: &str, now: Timestamp) -> Result<String, String> {
    let (sign, bare) = text.strip_prefix('-').map_or((1, text), |bare| (-1, bare));
    // 0 alone is the beginning of time, not now.
    if let Ok(ago) = barque_model::duration::parse(bare)
        && text != "0"
    {
        let ago = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
        return Ok(seconds(now.nanos().saturating_sub(sign * ago)));
    }
    if let Some((digits, fraction)) = unix(text) {
        return Ok(if fraction.is_empty() { digits.to_owned() } else { format!("{digits}.{fraction:0<9}") });
    }
    let local = jiff::tz::TimeZone::system();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(seconds(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)));
    }
    let civil = text
        .parse::<jiff::civil::DateTime>()
        .map_err(|_| format!("failed to parse value as time or duration: {text:?}"))?;
    let zoned = civil.to_zoned(local).map_err(|e| e.to_string())?;
    Ok(seconds(i64::try_from(zoned.timestamp().as_nanosecond()).unwrap_or(i64::MAX)))
}

fn unix(text: &str) -> Option<(&str, &str)> {
    let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    // Four digits may be a year, but Docker takes them for seconds as well.
    (!digits.is_empty() && all(digits) && all(fraction) && fraction.len() <= 9).then_some((digits, fraction))
}

fn seconds(nanos: i64) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let now = Timestamp::from_nanos(1_000_000_000_500_000_000);
        let ok = |text| parse(text, now).expect(text);
        assert_eq!(ok("10s"), "999999990.500000000");
        assert_eq!(ok("0s"), "1000000000.500000000");
        assert_eq!(ok("0"), "0");
        assert_eq!(ok("-10s"), "1000000010.500000000");
        assert_eq!(ok("1136073845"), "1136073845");
        assert_eq!(ok("1136073845.5"), "1136073845.500000000");
        assert_eq!(ok("2006-01-02T15:04:05Z"), "1136214245.000000000");
        assert_eq!(ok("2006-01-02T15:04:05.25+01:00"), "1136210645.250000000");
        assert!(parse("yesterday", now).is_err());
    }
}
