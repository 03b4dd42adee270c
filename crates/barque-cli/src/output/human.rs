//! Sizes, times and texts as people read them.

use barque_model::time::Timestamp;
use unicode_width::UnicodeWidthChar;

/// Bytes with four significant digits; negative sizes are shown as such.
pub(crate) fn size(bytes: i64) -> String {
    sized(bytes, 4)
}

/// Bytes with three significant digits.
pub(crate) fn size3(bytes: i64) -> String {
    sized(bytes, 3)
}

fn sized(bytes: i64, digits: usize) -> String {
    match u64::try_from(bytes) {
        Ok(bytes) => barque_model::size::human_precision(bytes, digits),
        Err(_) => format!("{bytes}B"),
    }
}

/// `5 minutes ago` for Unix seconds.
pub(crate) fn ago(seconds: i64) -> String {
    since(Timestamp::from_secs(seconds))
}

/// `5 minutes ago`.
pub(crate) fn since(then: Timestamp) -> String {
    barque_model::duration::human(Timestamp::now().since(then)) + " ago"
}

/// `2026-11-22 03:33:29 +0000 UTC`, in the zone of this machine.
pub(crate) fn local_time(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let zoned = time.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// `2026-11-22 03:33:29.342105496 +0000 UTC` for a time as the engine writes it, in its own offset.
pub(crate) fn go_time(text: &str) -> String {
    let Some((date, rest)) = text.split_once('T') else { return text.to_owned() };
    let Some(at) = rest.find(['Z', '+', '-']) else { return text.to_owned() };
    let (time, zone) = rest.split_at(at);
    let time = match time.split_once('.') {
        Some((whole, fraction)) => match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            fraction => format!("{whole}.{fraction}"),
        },
        None => time.to_owned(),
    };
    match zone.replace(':', "").as_str() {
        "Z" | "+0000" => format!("{date} {time} +0000 UTC"),
        // Without a name of the zone at hand, Go repeats its offset.
        offset => format!("{date} {time} {offset} {offset}"),
    }
}

/// `text` in at most `width` columns, with an ellipsis where it was cut.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.is_ascii() {
        return if text.len() <= width { text.to_owned() } else { format!("{}…", &text[..width.saturating_sub(1)]) };
    }
    let columns = |c: char| c.width().unwrap_or(1).max(1);
    if text.chars().map(columns).sum::<usize>() <= width {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        if used + columns(c) > width.saturating_sub(1) {
            break;
        }
        used += columns(c);
        out.push(c);
    }
    out + "…"
}

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let bare = id.split_once(':').map_or(id, |(_, digits)| digits);
    bare.get(..12).unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_go_prints_them() {
        assert_eq!(go_time("2026-11-22T03:33:29.3421Z"), "2026-11-22 03:33:29.3421 +0000 UTC");
        assert_eq!(go_time("2026-11-22T03:33:29+02:00"), "2026-11-22 03:33:29 +0200 +0200");
        assert_eq!(go_time("0001-01-01T00:00:00Z"), "0001-01-01 00:00:00 +0000 UTC");
        assert_eq!(go_time("soon"), "soon");
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("abcdefg", 6), "abcde…");
        assert_eq!(ellipsis("名前名前", 6), "名前…");
    }

    #[test]
    fn ids_are_cut() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
    }
}
