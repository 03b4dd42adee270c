//! One error type for every crate: a closed kind, a sentence, an optional cure, and the cause.

use std::fmt;

/// What a caller can decide on. Maps 1:1 to an HTTP status (see [`ErrorKind::http_status`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named object does not exist (404).
    NotFound,
    /// The object is in use, exists already, or is in the wrong state (409).
    Conflict,
    /// The request makes no sense as it is (400).
    InvalidArgument,
    /// Credentials are missing or wrong (401).
    Unauthorized,
    /// The credentials do not suffice (403).
    Forbidden,
    /// The request asks for what already holds, such as stopping a stopped container (304).
    NotModified,
    /// A thing needed is not there right now: disk full, registry down (503).
    Unavailable,
    /// Not built yet, or impossible on this machine (501).
    Unsupported,
    /// The caller went away or asked to stop (499, never sent).
    Canceled,
    /// Everything else (500).
    Internal,
}

impl ErrorKind {
    /// The status the Docker Engine API uses for this kind.
    pub fn http_status(self) -> u16 {
        match self {
            ErrorKind::NotFound => 404,
            ErrorKind::Conflict => 409,
            ErrorKind::InvalidArgument => 400,
            ErrorKind::Unauthorized => 401,
            ErrorKind::Forbidden => 403,
            ErrorKind::NotModified => 304,
            ErrorKind::Unavailable => 503,
            ErrorKind::Unsupported => 501,
            ErrorKind::Canceled => 499,
            ErrorKind::Internal => 500,
        }
    }
}

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error of one layer. `Display` prints this layer only; [`Error::chain`] prints all of them.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Source>,
}

/// The result every Barque crate uses.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: plain(message.into()), hint: None, source: None }))
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    pub fn canceled(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Canceled, message)
    }

    /// `not implemented yet: WHAT`, HTTP 501, exit status 125.
    pub fn not_implemented(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, format!("not implemented yet: {what}"))
    }

    /// Adds the cure, shown on a line of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Puts a new outer layer around this error, keeping its kind and hint.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        let (kind, hint) = (self.0.kind, self.0.hint.clone());
        Error(Box::new(Inner { kind, message: message.into(), hint, source: Some(Box::new(self)) }))
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// This layer and all its causes, joined by `: `.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let layer = plain(error.to_string());
            if !text.ends_with(&layer) {
                text.push_str(": ");
                text.push_str(&layer);
            }
            next = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

/// The system's words for errors as they are known: without Rust's `(os error N)`, which tells a user nothing, and in
/// lower case, which clients look for ("no such file or directory" is exit status 127).
pub fn plain(text: String) -> String {
    const MARK: &str = " (os error ";
    if !text.contains(MARK) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(MARK) {
        let Some((number, after)) = after.split_once(')') else { break };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            break;
        }
        let start = before.rfind(": ").map_or(0, |colon| colon + 2);
        let (head, words) = before.split_at(start);
        out.push_str(head);
        let mut letters = words.chars();
        out.extend(letters.next().into_iter().flat_map(char::to_lowercase).chain(letters));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Adds what was being done to a foreign error.
pub trait Context<T> {
    /// Wraps the error under `message`, as [`ErrorKind::Internal`] unless it has a kind of its own.
    fn context(self, message: impl Into<String>) -> Result<T>;
    /// As [`Context::context`], but builds the message only for an error.
    fn with_context<S: Into<String>>(self, message: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> Context<T> for Result<T, E> {
    fn context(self, message: impl Into<String>) -> Result<T> {
        self.with_context(|| message)
    }

    fn with_context<S: Into<String>>(self, message: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| {
            let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(e);
            match boxed.downcast::<Error>() {
                Ok(own) => own.context(message()),
                Err(other) => match other.downcast::<std::io::Error>() {
                    Ok(io) if io.get_ref().is_some_and(|inner| inner.is::<Error>()) => {
                        Error::from(*io).context(message())
                    }
                    Ok(io) => Error::new(io_kind(io.as_ref()), message()).with_source(io),
                    Err(other) => Error::new(ErrorKind::Internal, message()).with_source(other),
                },
            }
        })
    }
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> ErrorKind {
    match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::NotFound) => ErrorKind::NotFound,
        Some(std::io::ErrorKind::StorageFull) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

impl From<std::io::Error> for Error {
    /// Gives an [`Error`] back whole that was wrapped to pass through an I/O trait.
    fn from(e: std::io::Error) -> Self {
        let kind = io_kind(&e);
        if !e.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            return Error::new(kind, e.to_string());
        }
        match e.into_inner().map(|inner| inner.downcast::<Error>()) {
            Some(Ok(own)) => *own,
            _ => Error::new(kind, "input or output failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_prints_every_layer_once() {
        let io = std::io::Error::from_raw_os_error(28);
        let e = Err::<(), _>(io).context("write /x").unwrap_err().context("pull image");
        assert_eq!(e.kind(), ErrorKind::Unavailable);
        assert_eq!(e.to_string(), "pull image");
        assert!(e.chain().starts_with("pull image: write /x: no space left on device"));
    }

    #[test]
    fn an_error_survives_its_way_through_io_traits() {
        let wrapped = || std::io::Error::other(Error::invalid("bad layer").with_hint("mend it"));
        let back = Error::from(wrapped());
        assert_eq!(
            (back.kind(), back.message(), back.hint()),
            (ErrorKind::InvalidArgument, "bad layer", Some("mend it"))
        );
        let outer = Err::<(), _>(wrapped()).context("pull").unwrap_err();
        assert_eq!((outer.kind(), outer.chain().as_str()), (ErrorKind::InvalidArgument, "pull: bad layer"));
    }

    #[test]
    fn the_system_speaks_plainly() {
        let io = || std::io::Error::from_raw_os_error(2);
        assert_eq!(Error::from(io()).context("open /x").chain(), "open /x: no such file or directory");
        assert_eq!(Err::<(), _>(io()).context("open /x").unwrap_err().chain(), "open /x: no such file or directory");
        assert_eq!(
            Error::invalid(format!("stat /A: {} (gone)", io())).message(),
            "stat /A: no such file or directory (gone)"
        );
        for odd in ["", "Os error", "a (os error x) b", "a (os error 2"] {
            assert_eq!(plain(odd.to_owned()), odd);
        }
    }

    #[test]
    fn hint_survives_context() {
        let e = Error::invalid("bad").with_hint("do it well").context("outer");
        assert_eq!(e.hint(), Some("do it well"));
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
}
