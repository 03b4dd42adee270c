//! Filters of `builder prune`.

use barque_api::filters::Filters;
use barque_engine::system::BuildCacheEntry;
use barque_model::{Result, Timestamp};

use crate::wording;

/// What a record must be to go.
pub(crate) struct Wanted {
    ids: Vec<String>,
    kinds: Vec<String>,
    descriptions: Vec<String>,
    in_use: Option<bool>,
    shared: Option<bool>,
    /// Seconds since its last use.
    unused_for: Option<u64>,
    now: Timestamp,
}

/// # Errors
/// Filters that do not exist; values that make no sense.
pub(crate) fn parse(filters: &Filters, now: Timestamp) -> Result<Wanted> {
    let known = ["id", "inuse", "parent", "private", "shared", "type", "until", "unused-for", "description"];
    // Records have no labels; as in Docker's engine the filter is taken and not looked at.
    super::check(filters, &[&known[..], &["label", "label!"]].concat())?;
    let mut unused_for = super::until(filters, now)?.map(|until| now.since(until).as_secs());
    if let Some(text) = filters.get("unused-for").next() {
        let nanos = barque_api::time::parse_go_duration(text)
            .ok_or_else(|| wording::invalid_filter_value("unused-for", text))?;
        unused_for = Some(u64::try_from(nanos / 1_000_000_000).unwrap_or(0));
    }
    let flag = |name: &str| match filters.get(name).next() {
        None => Ok(None),
        // The bare word is true, as in BuildKit.
        Some("" | "1" | "true") => Ok(Some(true)),
        Some("0" | "false") => Ok(Some(false)),
        Some(text) => Err(wording::invalid_filter_value(name, text)),
    };
    let private = flag("private")?;
    let texts = |name: &str| filters.get(name).map(str::to_owned).collect::<Vec<_>>();
    let mut ids = texts("id");
    ids.extend(texts("parent"));
    Ok(Wanted {
        ids,
        kinds: texts("type"),
        descriptions: texts("description"),
        in_use: flag("inuse")?,
        shared: flag("shared")?.or(private.map(|p| !p)),
        unused_for,
        now,
    })
}

impl Wanted {
    pub(crate) fn fits(&self, entry: &BuildCacheEntry) -> bool {
        let one_of = |list: &[String], test: &dyn Fn(&str) -> bool| list.is_empty() || list.iter().any(|t| test(t));
        let idle = self.now.since(entry.last_used_at.unwrap_or(entry.created_at)).as_secs();
        one_of(&self.ids, &|id| !id.is_empty() && entry.id.starts_with(id.trim_end_matches('*')))
            && one_of(&self.kinds, &|kind| entry.kind == kind)
            && one_of(&self.descriptions, &|text| entry.description.contains(text))
            && self.in_use.is_none_or(|wanted| entry.in_use == wanted)
            && self.shared.is_none_or(|wanted| entry.shared == wanted)
            && self.unused_for.is_none_or(|seconds| idle >= seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_by_filter() {
        let now = Timestamp::from_secs(100_000);
        let entry = BuildCacheEntry {
            id: "abcdef".into(),
            kind: "regular".into(),
            description: "RUN make".into(),
            last_used_at: Some(Timestamp::from_secs(100_000 - 3600)),
            ..BuildCacheEntry::default()
        };
        let fits = |json: &str| {
            let filters: Filters = barque_api::json::from_str(json).unwrap();
            parse(&filters, now).unwrap().fits(&entry)
        };
        assert!(fits("{}") && fits(r#"{"id":["abc"]}"#) && !fits(r#"{"id":["abd"]}"#));
        assert!(fits(r#"{"type":["exec.cachemount","regular"]}"#) && !fits(r#"{"type":["exec.cachemount"]}"#));
        assert!(fits(r#"{"until":["30m"]}"#) && !fits(r#"{"until":["2h"]}"#) && fits(r#"{"unused-for":["1h"]}"#));
        assert!(fits(r#"{"shared":["false"]}"#) && !fits(r#"{"inuse":["true"]}"#) && fits(r#"{"private":["true"]}"#));
        assert!(fits(r#"{"description":["make"]}"#) && !fits(r#"{"description":["cp"]}"#));
        // `system prune --filter label=…` sends it for the cache too.
        assert!(fits(r#"{"label":["a=b"]}"#) && fits(r#"{"label!":["a"]}"#));
        let filters: Filters = barque_api::json::from_str(r#"{"nonsense":["1"]}"#).unwrap();
        assert!(parse(&filters, now).is_err());
    }
}
