//! Small formats of the protocol: error documents, `Link`, `Retry-After`, `Range` and `Content-Range`.

use std::time::Duration;

use serde::Deserialize;

/// Error codes of distribution-spec 1.1 (section "Error Codes") and of Docker's registry.
pub(crate) mod code {
    pub(crate) const BLOB_UNKNOWN: &str = "BLOB_UNKNOWN";
    pub(crate) const BLOB_UPLOAD_INVALID: &str = "BLOB_UPLOAD_INVALID";
    pub(crate) const BLOB_UPLOAD_UNKNOWN: &str = "BLOB_UPLOAD_UNKNOWN";
    pub(crate) const DENIED: &str = "DENIED";
    pub(crate) const DIGEST_INVALID: &str = "DIGEST_INVALID";
    pub(crate) const MANIFEST_BLOB_UNKNOWN: &str = "MANIFEST_BLOB_UNKNOWN";
    pub(crate) const MANIFEST_INVALID: &str = "MANIFEST_INVALID";
    pub(crate) const MANIFEST_UNKNOWN: &str = "MANIFEST_UNKNOWN";
    pub(crate) const NAME_INVALID: &str = "NAME_INVALID";
    pub(crate) const NAME_UNKNOWN: &str = "NAME_UNKNOWN";
    pub(crate) const PAGINATION_NUMBER_INVALID: &str = "PAGINATION_NUMBER_INVALID";
    pub(crate) const SIZE_INVALID: &str = "SIZE_INVALID";
    pub(crate) const TAG_INVALID: &str = "TAG_INVALID";
    pub(crate) const UNAUTHORIZED: &str = "UNAUTHORIZED";
    pub(crate) const UNKNOWN: &str = "UNKNOWN";
    pub(crate) const UNSUPPORTED: &str = "UNSUPPORTED";
}

/// One entry of an error document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// One of [`code`], or whatever the registry made up.
    pub(crate) code: String,
    /// The registry's words, fit for a terminal.
    pub(crate) message: String,
}

/// Docker's form: the code in words, then the message (`manifest unknown: manifest unknown`).
impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.code.to_ascii_lowercase().replace('_', " ");
        match (words.is_empty(), self.message.is_empty()) {
            (true, _) => f.write_str(&self.message),
            (false, true) => f.write_str(&words),
            (false, false) => write!(f, "{words}: {}", self.message),
        }
    }
}

/// Longest message kept of a registry's.
const MESSAGE_CHARS_MAX: usize = 500;
/// Most entries kept of an error document.
const ERRORS_MAX: usize = 8;

/// The errors in a response body; empty when the body is not an error document.
pub(crate) fn parse_errors(body: &[u8]) -> Vec<ApiError> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        errors: Vec<serde_json::Value>,
        // What token servers and Docker Hub send instead.
        details: Option<String>,
        message: Option<String>,
        error: Option<serde_json::Value>,
        error_description: Option<String>,
    }
    let Ok(document) = serde_json::from_slice::<Document>(body) else {
        return Vec::new();
    };
    let text = |value: &serde_json::Value, key: &str| printable(value[key].as_str().unwrap_or_default());
    let listed = document.errors.iter().take(ERRORS_MAX);
    let mut found: Vec<ApiError> = listed
        .map(|entry| ApiError { code: text(entry, "code"), message: text(entry, "message") })
        .filter(|entry| !entry.code.is_empty() || !entry.message.is_empty())
        .collect();
    if found.is_empty() {
        let plain = document.error.as_ref().and_then(|error| error.as_str()).map(str::to_owned);
        let message = document.details.or(document.error_description).or(document.message).or(plain);
        found.extend(message.map(|message| ApiError { code: String::new(), message: printable(&message) }));
    }
    found
}

/// A stranger's text on one line, without control characters and of bounded length.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c })
        .filter(|c| !c.is_control() && !matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'))
        .take(MESSAGE_CHARS_MAX)
        .collect()
}

/// The target of the `rel="next"` entry of a `Link` header (RFC 8288).
pub(crate) fn next_link(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, tail) = after.split_once('>')?;
        let params = tail.split('<').next().unwrap_or_default();
        rest = tail;
        let next = params.split([';', ',']).any(|param| {
            let value = param.trim().strip_prefix("rel=").map(|value| value.trim_matches('"'));
            value.is_some_and(|value| value.eq_ignore_ascii_case("next"))
        });
        if next {
            return Some(target.to_owned());
        }
    }
    None
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds or a date.
pub(crate) fn retry_after(header: &str) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?;
    let seconds = date.timestamp().as_second() - jiff::Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// `Range: 0-N` of an upload's status, as the count of bytes received. `0-0` is ambiguous: Docker's registry sends it
/// for an empty upload too, and then the count is 0.
pub(crate) fn upload_range(header: &str) -> Option<u64> {
    let header = header.trim().trim_start_matches("bytes=");
    let (start, end) = header.split_once('-')?;
    let (start, end) = (start.parse::<u64>().ok()?, end.parse::<u64>().ok()?);
    if start != 0 {
        return None;
    }
    Some(if end == 0 { 0 } else { end.checked_add(1)? })
}

/// First byte of a `Content-Range: bytes A-B/N` (the `bytes` unit may be missing).
pub(crate) fn content_range(header: &str) -> Option<(u64, u64)> {
    let header = header.trim();
    let range = header.strip_prefix("bytes").unwrap_or(header).trim_start_matches([' ', '=']);
    let range = range.split('/').next()?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    (start <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_documents() {
        let body =
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}},{}, 7]}"#;
        let errors = parse_errors(body);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].to_string(), "manifest unknown: manifest unknown");
        assert_eq!(
            parse_errors(br#"{"details":"incorrect username or password"}"#)[0].to_string(),
            "incorrect username or password"
        );
        assert_eq!(parse_errors(br#"{"errors":[{"code":"DENIED"}]}"#)[0].to_string(), "denied");
        for body in [&b""[..], b"<html>", b"[]", b"{\"errors\":{}}", b"{}"] {
            assert!(parse_errors(body).is_empty());
        }
        let evil = parse_errors("{\"message\":\"a\\u001b[31m\\u202eb\"}".as_bytes());
        assert_eq!(evil[0].message, "a[31mb");
    }

    #[test]
    fn links() {
        assert_eq!(next_link("</v2/_catalog?last=a&n=1>; rel=\"next\"").as_deref(), Some("/v2/_catalog?last=a&n=1"));
        assert_eq!(next_link("<a>; rel=\"prev\", <b>; foo; rel=next").as_deref(), Some("b"));
        assert_eq!(next_link("<a,b>; rel=\"prev\""), None);
        assert_eq!(next_link("nonsense"), None);
    }

    #[test]
    fn ranges() {
        assert_eq!(upload_range("0-9"), Some(10));
        assert_eq!(upload_range("0-0"), Some(0));
        assert_eq!(upload_range("bytes=0-9"), Some(10));
        assert_eq!(upload_range("5-9"), None);
        assert_eq!(upload_range(&format!("0-{}", u64::MAX)), None);
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9)));
        assert_eq!(content_range("5-9"), Some((5, 9)));
        assert_eq!(content_range("bytes 9-5/10"), None);
        assert_eq!(content_range("bytes */10"), None);
    }

    #[test]
    fn waits() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }
}
