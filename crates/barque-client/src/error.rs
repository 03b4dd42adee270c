//! What can go wrong with a call.

use std::fmt;

use barque_model::ErrorKind;

/// The result of every call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a call; [`Error::status`] tells a refusal by the server from everything else.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    what: What,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// The server answered with this status.
    Server(u16),
    /// No connection could be made.
    Connect,
    /// The connection broke, or what came is not HTTP or not the document expected.
    Transport,
    /// The caller's argument is wrong; nothing was sent.
    Argument,
    /// The server reported an error inside a stream that began well.
    Stream,
}

impl Error {
    fn new(what: What, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { what, message: message.into(), source: None }))
    }

    pub(crate) fn server(status: u16, message: impl Into<String>) -> Self {
        Self::new(What::Server(status), message)
    }

    pub(crate) fn connect(message: impl Into<String>) -> Self {
        Self::new(What::Connect, message)
    }

    pub(crate) fn transport(message: impl Into<String>) -> Self {
        Self::new(What::Transport, message)
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(What::Argument, message)
    }

    pub(crate) fn stream(message: impl Into<String>) -> Self {
        Self::new(What::Stream, message)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The HTTP status, if the server answered.
    pub fn status(&self) -> Option<u16> {
        match self.0.what {
            What::Server(status) => Some(status),
            _ => None,
        }
    }

    /// The server's own sentence, or ours.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// 404.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// 409.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// True if no connection could be made: the daemon does not run, or may not be reached.
    pub fn is_connect(&self) -> bool {
        self.0.what == What::Connect
    }

    /// The operating system's error below a failed connection.
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        let source = self.0.source.as_deref()?;
        source.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
    }

    /// The kind for exit statuses and decisions.
    pub fn kind(&self) -> ErrorKind {
        match self.0.what {
            What::Server(304) => ErrorKind::NotModified,
            What::Server(400) | What::Argument => ErrorKind::InvalidArgument,
            What::Server(401) => ErrorKind::Unauthorized,
            What::Server(403) => ErrorKind::Forbidden,
            What::Server(404) => ErrorKind::NotFound,
            What::Server(409) => ErrorKind::Conflict,
            What::Server(501) => ErrorKind::Unsupported,
            What::Server(503) | What::Connect => ErrorKind::Unavailable,
            What::Server(_) | What::Transport | What::Stream => ErrorKind::Internal,
        }
    }

    /// What Docker's command line prints: `Error response from daemon: …` for a refusal, else the sentence.
    pub fn for_user(&self) -> String {
        match self.0.what {
            What::Server(_) => format!("Error response from daemon: {}", self.0.message),
            _ => self.chain(),
        }
    }

    /// The sentence and its causes, joined by `: `.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let layer = error.to_string();
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
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for barque_model::Error {
    fn from(error: Error) -> Self {
        barque_model::Error::new(error.kind(), error.message()).with_source(error)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_texts() {
        let error = Error::server(404, "No such container: x");
        assert!(error.is_not_found() && !error.is_connect());
        assert_eq!(error.for_user(), "Error response from daemon: No such container: x");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let io = std::io::Error::from_raw_os_error(13);
        let error = Error::connect("cannot connect").with_source(io);
        assert_eq!(error.io_kind(), Some(std::io::ErrorKind::PermissionDenied));
        assert!(error.for_user().starts_with("cannot connect: Permission denied"), "{}", error.for_user());
    }
}
