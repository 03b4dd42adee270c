//! Filters of lists, prunes and events: `{"label":{"a=b":true}}`, or the older `{"label":["a=b"]}`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Values by key. Values of one key are alternatives, keys are all required.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// The filters are not a JSON object of the right shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidFilters(String);

impl std::fmt::Display for InvalidFilters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid filter: {}", self.0)
    }
}

impl std::error::Error for InvalidFilters {}

/// A filter is neither true nor false, or both. Shown as Docker does: `invalid filter 'dangling=[maybe]'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidBoolean {
    key: String,
    values: Vec<String>,
}

impl std::fmt::Display for InvalidBoolean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.values.as_slice() {
            [] => write!(f, "invalid filter '{}'", self.key),
            values => write!(f, "invalid filter '{}=[{}]'", self.key, values.join(" ")),
        }
    }
}

impl std::error::Error for InvalidBoolean {}

impl Filters {
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses the value of a `filters` parameter; empty text is no filter.
    ///
    /// # Errors
    /// Text that is not JSON, or not an object of objects or lists.
    pub fn parse(text: &str) -> Result<Self, InvalidFilters> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|why| InvalidFilters(why.to_string()))
    }

    /// The form newer clients send: `{"key":{"value":true}}`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.entry(key.into()).or_default().insert(value.into());
    }

    /// [`Filters::add`] for building in one expression.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.add(key, value);
        self
    }

    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// The values of a key, sorted; none if the key is not set.
    pub fn get<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub fn has(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_some_and(|values| values.contains(value))
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.0.iter().map(|(key, values)| (key.as_str(), values))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first key that is not in `accepted`.
    pub fn unknown_key(&self, accepted: &[&str]) -> Option<&str> {
        self.keys().find(|key| !accepted.contains(key))
    }

    /// The truth of a boolean filter such as `dangling`; `None` if it is not set.
    ///
    /// # Errors
    /// All values, when none is `1`/`true` or `0`/`false`, or both are given.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, InvalidBoolean> {
        if !self.contains(key) {
            return Ok(None);
        }
        let yes = self.has(key, "1") || self.has(key, "true");
        let no = self.has(key, "0") || self.has(key, "false");
        if yes == no {
            return Err(InvalidBoolean { key: key.to_owned(), values: self.get(key).map(str::to_owned).collect() });
        }
        Ok(Some(yes))
    }

    /// True if the key is unset or `labels` satisfy every `name` or `name=value` of it.
    pub fn match_labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        })
    }
}

impl Serialize for Filters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Truths<'a>(&'a BTreeSet<String>);
        impl Serialize for Truths<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|value| (value, true)))
            }
        }
        serializer.collect_map(self.0.iter().map(|(key, values)| (key, Truths(values))))
    }
}

impl<'de> Deserialize<'de> for Filters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            Map(BTreeMap<String, bool>),
            List(Vec<String>),
        }
        let raw = Option::<BTreeMap<String, Option<Values>>>::deserialize(deserializer)?.unwrap_or_default();
        let values = |values| match values {
            // The booleans are always true on the wire; Docker looks at the keys only.
            Some(Values::Map(map)) => map.into_keys().collect(),
            Some(Values::List(list)) => list.into_iter().collect(),
            None => BTreeSet::new(),
        };
        Ok(Filters(raw.into_iter().map(|(key, raw)| (key, values(raw))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let new = Filters::parse(r#"{"label":{"a":true,"b=c":true}}"#).unwrap();
        let old = Filters::parse(r#"{"label":["a","b=c"]}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(new.to_json(), r#"{"label":{"a":true,"b=c":true}}"#);
        assert_eq!(Filters::parse("").unwrap(), Filters::new());
        assert!(Filters::parse("{\"a\":1}").is_err());
        assert!(Filters::parse("nonsense").is_err());
    }

    #[test]
    fn booleans() {
        let of = |text: &str| Filters::parse(text).unwrap().boolean("dangling");
        assert_eq!(of(r#"{"dangling":["true"]}"#), Ok(Some(true)));
        assert_eq!(of(r#"{"dangling":["0"]}"#), Ok(Some(false)));
        assert_eq!(of("{}"), Ok(None));
        let wrong = |text: &str| of(text).unwrap_err().to_string();
        assert_eq!(wrong(r#"{"dangling":["maybe"]}"#), "invalid filter 'dangling=[maybe]'");
        assert_eq!(wrong(r#"{"dangling":["true","false"]}"#), "invalid filter 'dangling=[false true]'");
        assert_eq!(wrong(r#"{"dangling":[]}"#), "invalid filter 'dangling'");
    }

    #[test]
    fn labels() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let check = |wanted: &str| Filters::new().with("label", wanted).match_labels("label", &labels);
        assert!(check("a") && check("a=1"));
        assert!(!check("a=2") && !check("b"));
    }
}
