//! Why a command ends without success, and with which exit status.

use std::fmt;

use barque_client::archive::plain_io;
use barque_model::ErrorKind;

/// What every command gives.
pub(crate) type CliResult<T> = Result<T, Failure>;

/// The text for standard error (empty: nothing is printed) and the exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
    /// What kind of refusal the engine gave; lets a command tell one from another.
    pub(crate) kind: Option<ErrorKind>,
}

impl Failure {
    /// A failure with exit status 1.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 1, kind: None }
    }

    /// An exit status without a word.
    pub(crate) fn silent(code: u8) -> Failure {
        Failure { message: String::new(), code, kind: None }
    }

    /// `not implemented yet: WHAT`, exit status 125.
    pub(crate) fn unbuilt(what: impl fmt::Display) -> Failure {
        Failure::new(format!("not implemented yet: {what}")).code(125)
    }

    #[must_use]
    pub(crate) fn code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// The same failure under a longer text.
    #[must_use]
    pub(crate) fn prefixed(mut self, prefix: &str) -> Failure {
        self.message = format!("{prefix}{}", self.message);
        self
    }

    /// Whether the engine does not know the object.
    pub(crate) fn is_not_found(&self) -> bool {
        self.kind == Some(ErrorKind::NotFound)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::new(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Failure {
        Failure::new(message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            // The reader of our output went away: what it wanted, it has.
            return Failure::silent(141);
        }
        Failure::new(plain_io(&error))
    }
}

impl From<barque_model::Error> for Failure {
    fn from(error: barque_model::Error) -> Failure {
        let mut message = error.chain();
        if let Some(hint) = error.hint() {
            message.push_str("\n\nhint: ");
            message.push_str(hint);
        }
        let code = if error.kind() == ErrorKind::Unsupported { 125 } else { 1 };
        Failure { message, code, kind: Some(error.kind()) }
    }
}

impl From<barque_client::Error> for Failure {
    fn from(error: barque_client::Error) -> Failure {
        // Docker has refusals of that kind, too (a log driver that cannot be read), and ends with 1.
        let unbuilt = error.kind() == ErrorKind::Unsupported && error.message().starts_with("not implemented yet");
        let code = if unbuilt { 125 } else { 1 };
        // The sentence already says it all: "no such file" after it would only repeat it.
        let forbidden = error.io_kind() == Some(std::io::ErrorKind::PermissionDenied);
        let whole = error.is_connect() && (forbidden || error.message().ends_with("running?"));
        let message = if whole { error.message().to_owned() } else { error.for_user() };
        Failure { message, code, kind: Some(error.kind()) }
    }
}

/// `open PATH: no such file or directory`.
pub(crate) fn path_error(verb: &str, path: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("{verb} {path}: {}", plain_io(error)))
}
