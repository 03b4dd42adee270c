//! Query strings: parsing with Docker's rules, building, and typed structs by the [`query!`](crate::query!) macro.

use crate::filters::Filters;

/// The parameters of a request, in order, decoded. At most [`Params::MAX`] are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

/// A parameter that does not have its type's form. `Display` names the parameter and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidParam {
    pub name: String,
    pub value: String,
    pub why: String,
}

impl std::fmt::Display for InvalidParam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "invalid query parameter {}={:?}: {}", self.name, self.value, self.why)
    }
}

impl std::error::Error for InvalidParam {}

impl Params {
    /// The most parameters that are looked at.
    pub const MAX: usize = 4096;

    /// Parses what follows the `?`. Malformed escapes are kept as they are.
    pub fn parse(query: &str) -> Params {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (unescape(name), unescape(value))
        };
        Params(query.split('&').filter(|part| !part.is_empty()).take(Self::MAX).map(pair).collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Docker's truth: everything but empty, `0`, `no`, `false` and `none`.
    pub fn bool(&self, name: &str) -> bool {
        self.get(name).is_some_and(truth)
    }

    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `a=1&b=%2F`, without the `?`.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.0 {
            if !out.is_empty() {
                out.push('&');
            }
            escape_into(name, &mut out);
            out.push('=');
            escape_into(value, &mut out);
        }
        out
    }
}

/// Docker's truth of a parameter's value.
fn truth(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                i += 1;
            }
            (byte, ..) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn escape_into(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
}

/// Escapes one segment of a path: everything but unreserved characters.
pub fn escape_segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(text, &mut out);
    out
}

/// Undoes the escapes of a path; `+` stays `+`.
pub fn unescape_path(text: &str) -> String {
    if text.contains('%') { unescape(&text.replace('+', "%2B")) } else { text.to_owned() }
}

/// A type a query parameter can have.
pub trait Param: Sized {
    /// Adds the parameter unless it has its default value.
    fn put(&self, name: &str, params: &mut Params);
    /// Reads the parameter; its default if it is missing.
    fn take(name: &str, params: &Params) -> Result<Self, InvalidParam>;
}

impl Param for bool {
    fn put(&self, name: &str, params: &mut Params) {
        if *self {
            params.push(name, "1");
        }
    }

    fn take(name: &str, params: &Params) -> Result<Self, InvalidParam> {
        Ok(params.bool(name))
    }
}

impl Param for Option<bool> {
    fn put(&self, name: &str, params: &mut Params) {
        if let Some(value) = self {
            params.push(name, if *value { "1" } else { "0" });
        }
    }

    fn take(name: &str, params: &Params) -> Result<Self, InvalidParam> {
        Ok(params.get(name).map(truth))
    }
}

impl Param for String {
    fn put(&self, name: &str, params: &mut Params) {
        if !self.is_empty() {
            params.push(name, self.as_str());
        }
    }

    fn take(name: &str, params: &Params) -> Result<Self, InvalidParam> {
        Ok(params.get(name).unwrap_or_default().to_owned())
    }
}

impl Param for Vec<String> {
    fn put(&self, name: &str, params: &mut Params) {
        for value in self {
            params.push(name, value.as_str());
        }
    }

    fn take(name: &str, params: &Params) -> Result<Self, InvalidParam> {
        Ok(params.all(name).map(str::to_owned).collect())
    }
}

impl Param for Filters {
    fn put(&self, name: &str, params: &mut Params) {
        if !self.is_empty() {
            params.push(name, self.to_json());
        }
    }

    fn take(name: &str, params: &Params) -> Result<Self, InvalidParam> {
        let text = params.get(name).unwrap_or_default();
        Filters::parse(text).map_err(|why| InvalidParam {
            name: name.to_owned(),
            value: text.to_owned(),
            why: why.to_string(),
        })
    }
}

macro_rules! number_param {
    ($($number:ty),*) => {$(
        impl Param for $number {
            fn put(&self, name: &str, params: &mut Params) {
                if *self != 0 {
                    params.push(name, self.to_string());
                }
            }

            fn take(name: &str, params: &Params) -> Result<Self, InvalidParam> {
                Ok(<Option<$number> as Param>::take(name, params)?.unwrap_or(0))
            }
        }

        impl Param for Option<$number> {
            fn put(&self, name: &str, params: &mut Params) {
                if let Some(value) = self {
                    params.push(name, value.to_string());
                }
            }

            fn take(name: &str, params: &Params) -> Result<Self, InvalidParam> {
                let Some(text) = params.get(name).map(str::trim).filter(|text| !text.is_empty()) else {
                    return Ok(None);
                };
                text.parse().map(Some).map_err(|why: std::num::ParseIntError| InvalidParam {
                    name: name.to_owned(),
                    value: text.to_owned(),
                    why: why.to_string(),
                })
            }
        }
    )*};
}

number_param!(i64, u32, u64);

/// A parameter whose value is a JSON document, such as `buildargs` and `labels` of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonParam<T>(pub T);

impl<T: Default + PartialEq + serde::Serialize + serde::de::DeserializeOwned> Param for JsonParam<T> {
    fn put(&self, name: &str, params: &mut Params) {
        if self.0 != T::default()
            && let Ok(text) = serde_json::to_string(&self.0)
        {
            params.push(name, text);
        }
    }

    fn take(name: &str, params: &Params) -> Result<Self, InvalidParam> {
        let Some(text) = params.get(name).filter(|text| !text.is_empty()) else {
            return Ok(JsonParam::default());
        };
        crate::json::from_str(text).map(JsonParam).map_err(|why| InvalidParam {
            name: name.to_owned(),
            value: text.to_owned(),
            why: why.to_string(),
        })
    }
}

/// Defines a struct for a query string with `to_params`, `encode` and `from_params`.
#[macro_export]
macro_rules! query {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident : $kind:ty => $wire:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $kind,)*
        }

        impl $name {
            /// The parameters that differ from their defaults.
            pub fn to_params(&self) -> $crate::query::Params {
                let mut params = $crate::query::Params::default();
                $($crate::query::Param::put(&self.$field, $wire, &mut params);)*
                params
            }

            /// The query string, without `?`.
            pub fn encode(&self) -> String {
                self.to_params().encode()
            }

            /// Reads the parameters with Docker's rules.
            ///
            /// # Errors
            /// A number or document that is malformed.
            pub fn from_params(params: &$crate::query::Params) -> Result<Self, $crate::query::InvalidParam> {
                Ok($name { $($field: $crate::query::Param::take($wire, params)?,)* })
            }
        }
    };
}

#[cfg(test)]
#[allow(unreachable_pub)]
mod tests {
    use super::*;

    crate::query! {
        /// For the tests.
        pub struct Sample {
            all: bool => "all",
            wait: Option<i64> => "t",
            name: String => "name",
            changes: Vec<String> => "changes",
            filters: Filters => "filters",
        }
    }

    #[test]
    fn round_trip() {
        let sample = Sample {
            all: true,
            wait: Some(-1),
            name: "a b/ü&c".into(),
            changes: vec!["ENV a=b".into(), "CMD x".into()],
            filters: Filters::new().with("label", "a=b"),
        };
        let text = sample.encode();
        assert_eq!(Sample::from_params(&Params::parse(&text)).unwrap(), sample, "{text}");
        assert_eq!(Sample::default().encode(), "");
    }

    #[test]
    fn truth_is_dockers() {
        for yes in ["1", "true", "True", "yes", "2", "x"] {
            assert!(Params::parse(&format!("a={yes}")).bool("a"), "{yes}");
        }
        for no in ["", "0", "no", "false", "False", "none", " "] {
            assert!(!Params::parse(&format!("a={no}")).bool("a"), "{no}");
        }
        assert!(!Params::parse("b=1").bool("a"));
    }

    #[test]
    fn malformed_input_is_an_error_or_kept() {
        assert_eq!(Params::parse("a=%zz&%=%4&=").get("a"), Some("%zz"));
        let error = Sample::from_params(&Params::parse("t=ten")).unwrap_err();
        assert!(error.to_string().contains("t=\"ten\""), "{error}");
        assert!(Sample::from_params(&Params::parse("filters={")).is_err());
    }
}
