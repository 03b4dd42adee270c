//! Filters of lists, prunes and events, evaluated on the engine's views.

pub(crate) mod build_cache;
pub(crate) mod container;
pub(crate) mod event;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod volume;

use std::collections::BTreeMap;

use barque_api::Filters;
use barque_model::{Result, Timestamp};
use regex::Regex;

use crate::wording;

/// Refuses keys an endpoint does not know.
pub(crate) fn check(filters: &Filters, accepted: &[&str]) -> Result<()> {
    match filters.unknown_key(accepted) {
        Some(key) => Err(wording::invalid_filter(key)),
        None => Ok(()),
    }
}

/// `label` and `label!`.
pub(crate) fn labels(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    let matches = |wanted: &str| match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    };
    filters.match_labels("label", labels) && !filters.get("label!").any(matches)
}

/// The patterns of a key such as `name`; a text that is no regular expression matches itself.
pub(crate) struct Patterns(Vec<(String, Option<Regex>)>);

impl Patterns {
    pub(crate) fn new(filters: &Filters, key: &str) -> Patterns {
        let compiled = |text: &str| regex::RegexBuilder::new(text).size_limit(1 << 20).build().ok();
        Patterns(filters.get(key).map(|text| (text.to_owned(), compiled(text))).collect())
    }

    /// True if there are no patterns or one of them occurs in one of the texts.
    pub(crate) fn match_any(&self, texts: &[&str]) -> bool {
        let occurs = |(plain, pattern): &(String, Option<Regex>)| {
            texts.iter().any(|text| {
                text == plain || pattern.as_ref().map_or_else(|| text.contains(plain.as_str()), |p| p.is_match(text))
            })
        };
        self.0.is_empty() || self.0.iter().any(occurs)
    }
}

/// `until` of a prune: only what is older. Unix seconds, RFC 3339, or a duration ago.
///
/// # Errors
/// Several values, or a malformed one.
pub(crate) fn until(filters: &Filters, now: Timestamp) -> Result<Option<Timestamp>> {
    let mut values = filters.get("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(barque_model::Error::invalid("more than one until filter specified"));
    }
    let invalid = || barque_model::Error::invalid(format!("failed to parse value as time or duration: {text:?}"));
    let moment = jiff::Timestamp::from_nanosecond(i128::from(now.nanos())).map_err(|_| invalid())?;
    let unix = barque_api::time::to_unix(text, moment, &jiff::tz::TimeZone::UTC).map_err(|_| invalid())?;
    match barque_api::time::parse_unix(&unix) {
        Ok(Some((seconds, nanoseconds))) => Ok(Some(Timestamp::from_nanos(
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanoseconds)),
        ))),
        _ => Err(invalid()),
    }
}

/// A boolean filter.
///
/// # Errors
/// A value that is neither true nor false.
pub(crate) fn boolean(filters: &Filters, key: &str) -> Result<Option<bool>> {
    filters.boolean(key).map_err(|wrong| barque_model::Error::invalid(wrong.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let of = |pattern: &str, text: &str| {
            Patterns::new(&Filters::new().with("name", pattern), "name").match_any(&[text, &format!("/{text}")])
        };
        assert!(of("we", "web") && of("^web$", "web") && of("^/web$", "web") && of("w.b", "web"));
        assert!(!of("^eb", "web") && !of("webb", "web"));
        // No regular expression, but a substring.
        assert!(of("a[", "xa[y"));
    }

    #[test]
    fn label_filters() {
        let have = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert!(labels(&Filters::new().with("label", "a=1"), &have));
        assert!(!labels(&Filters::new().with("label!", "a"), &have));
        assert!(labels(&Filters::new().with("label!", "a=2"), &have));
    }

    #[test]
    fn until_in_every_form() {
        let now = Timestamp::from_secs(1_000_000);
        let of = |text: &str| until(&Filters::new().with("until", text), now);
        assert_eq!(of("10m").unwrap(), Some(Timestamp::from_secs(999_400)));
        assert_eq!(of("500").unwrap(), Some(Timestamp::from_secs(500)));
        assert_eq!(of("1970-01-01T00:00:05Z").unwrap(), Some(Timestamp::from_secs(5)));
        assert_eq!(of("soon").unwrap_err().to_string(), "failed to parse value as time or duration: \"soon\"");
    }
}
