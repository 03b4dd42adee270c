//! Time stamps as Go writes them (RFC 3339, fraction without trailing zeros), without allocating.

use std::io::Write;

const NANOS: i64 = 1_000_000_000;

/// Appends `nanos` since the epoch in UTC, such as `2026-11-22T03:04:05.0012Z`.
pub(super) fn push_rfc3339(nanos: i64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (nanos.div_euclid(NANOS), nanos.rem_euclid(NANOS));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}");
    if fraction != 0 {
        let start = out.len();
        let _ = write!(out, ".{fraction:09}");
        while out.len() > start && out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

/// Year, month and day of a number of days since 1970-01-01 (proleptic Gregorian calendar): counts in eras of
/// 400 years that begin on 1 March, so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(nanos: i64) -> String {
        let mut out = Vec::new();
        push_rfc3339(nanos, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(1_795_319_045_001_200_000), "2026-11-22T03:44:05.0012Z");
        assert_eq!(text(951_782_400 * NANOS + 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(-NANOS), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn agrees_with_the_library() {
        for days in (-100_000..100_000).step_by(97) {
            let stamp = jiff::Timestamp::from_second(days * 86_400).unwrap();
            assert_eq!(text(days * 86_400 * NANOS), stamp.to_string(), "day {days}");
        }
    }
}
