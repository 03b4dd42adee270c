//! Why a request did not succeed, and how users are told.

use std::time::Duration;

use barque_model::{Error, ErrorKind, Reference};
use http::{Method, StatusCode};
use url::Url;

use crate::wire::{ApiError, code};

const NO_CREDENTIALS: &str = "no basic auth credentials";

/// One endpoint's failure.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection.
    Connect { request: String, why: String },
    /// The connection was lost or fell silent.
    Transport { request: String, why: String },
    /// The server refused.
    Refused(Refusal),
    /// The server wants a password and the caller gave none.
    NoCredentials { url: Url },
    /// Nothing more will help: bad answer, missing credentials.
    Final(Error),
}

/// An error response.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) request: String,
    pub(super) status: StatusCode,
    pub(super) errors: Vec<ApiError>,
    pub(super) retry_after: Option<Duration>,
    /// Whether it was the token server that refused.
    pub(super) by_token_server: bool,
}

impl Failure {
    /// An answer that breaks the protocol.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::Final(Error::new(ErrorKind::Unavailable, message))
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Connect { why, .. } => why.contains("timeout") || why.contains("reset"),
            Self::Transport { .. } => true,
            Self::Refused(refusal) => matches!(refusal.status.as_u16(), 408 | 429 | 500 | 502..=504),
            Self::NoCredentials { .. } | Self::Final(_) => false,
        }
    }

    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the server says that the thing asked for does not exist.
    pub(super) fn is_missing(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.status == StatusCode::NOT_FOUND)
    }

    /// A few words for a list of what was tried.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Connect { why, .. } | Self::Transport { why, .. } => why.clone(),
            Self::Refused(refusal) => refusal.brief(),
            Self::NoCredentials { .. } => NO_CREDENTIALS.to_owned(),
            Self::Final(error) => error.to_string(),
        }
    }

    /// Says that it was the token server who refused a request for `url`.
    pub(super) fn blame_token_server(self, method: &Method, url: &Url) -> Self {
        match self {
            Self::Refused(refusal) => {
                Self::Refused(Refusal { request: request_text(method, url), by_token_server: true, ..refusal })
            }
            other => other,
        }
    }

    /// The error of an operation in general.
    pub(super) fn into_error(self) -> Error {
        self.as_error()
    }

    /// As [`Failure::into_error`].
    pub(super) fn as_error(&self) -> Error {
        match self {
            Self::Connect { request, why } => {
                let error = Error::unavailable(format!("{request}: {why}"));
                match connect_hint(why) {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            }
            Self::Transport { request, why } => Error::unavailable(format!("{request}: {why}")),
            Self::Refused(refusal) => refusal.as_error(),
            Self::NoCredentials { url } => Error::new(ErrorKind::Unauthorized, NO_CREDENTIALS).with_hint(log_in(url)),
            Self::Final(error) => copy(error),
        }
    }

    /// The error of a pull, in Docker's words.
    pub(super) fn pull_error(&self, reference: &Reference) -> Error {
        if let Self::NoCredentials { url } = self {
            let message = format!("{}: {NO_CREDENTIALS}", request_text(&Method::HEAD, url));
            return Error::new(ErrorKind::Unauthorized, message).with_hint(log_in(url));
        }
        let Some(refusal) = self.refusal() else {
            return self.as_error();
        };
        let first = refusal.errors.first();
        let kind = first.map_or("", |error| error.code.as_str());
        let said = |otherwise: &str| first.map_or_else(|| otherwise.to_owned(), ToString::to_string);
        let (name, full) = (reference.familiar_name(), reference.familiar());
        let denied = |said: String| {
            Error::not_found(format!(
                "pull access denied for {name}, repository does not exist or may require 'docker login': {said}"
            ))
            .with_hint("check the spelling; log in if the repository is private")
        };
        match (kind, refusal.status.as_u16()) {
            (code::DENIED, _) => denied(said("denied")),
            (code::NAME_UNKNOWN, _) => Error::not_found(format!("repository {name} not found: {}", said(""))),
            (code::MANIFEST_UNKNOWN, _) => Error::not_found(format!("manifest for {full} not found: {}", said(""))),
            (_, 404) => Error::not_found(format!("manifest for {full} not found: manifest unknown: manifest unknown")),
            (_, 403) => denied(said("denied: requested access to the resource is denied")),
            _ => refusal.as_error(),
        }
    }
}

/// Nobody is known at this registry.
fn log_in(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    // Docker Hub is what a login without a name means; the host that serves it is nobody's login.
    let named = if host.ends_with("docker.io") { String::new() } else { format!(" {host}{port}") };
    format!("log in to the registry first: barque login{named}")
}

impl Refusal {
    fn brief(&self) -> String {
        match self.errors.first() {
            Some(error) => error.to_string(),
            None => self.status.to_string(),
        }
    }

    /// In Docker's words, which differ by how much the registry said.
    fn as_error(&self) -> Error {
        let status = self.status.as_u16();
        let denied = self.errors.first().is_some_and(|error| error.code == code::DENIED);
        let kind = match status {
            401 if denied => ErrorKind::Forbidden,
            401 => ErrorKind::Unauthorized,
            403 => ErrorKind::Forbidden,
            404 => ErrorKind::NotFound,
            400 | 413 | 416 => ErrorKind::InvalidArgument,
            405 | 501 => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        let error = match (self.errors.first(), status) {
            (Some(error), 401) if self.by_token_server => {
                Error::new(kind, format!("{}: {}", self.request, unauthorized(error)))
            }
            (Some(error), _) => Error::new(kind, error.to_string()),
            (None, 401) => Error::new(kind, "unauthorized: authentication required"),
            (None, 403) => Error::new(kind, "denied: requested access to the resource is denied"),
            (None, 429) => Error::new(kind, "toomanyrequests: too many requests"),
            (None, _) => {
                Error::new(kind, format!("{}: received unexpected HTTP status: {}", self.request, self.status))
            }
        };
        match status {
            401 => error.with_hint("log in to the registry, or check the user name and password"),
            429 => error.with_hint(match self.retry_after {
                Some(wait) => format!("the registry asks to wait {} seconds", wait.as_secs()),
                None => "the registry limits how often it is asked; log in, wait or use a mirror".to_owned(),
            }),
            _ => error,
        }
    }
}

/// Token servers leave the code out; Docker puts it in.
fn unauthorized(error: &ApiError) -> String {
    if error.code.is_empty() { format!("unauthorized: {}", error.message) } else { error.to_string() }
}

/// Errors are not `Clone`; the layers a failure keeps are flat.
fn copy(error: &Error) -> Error {
    let flat = Error::new(error.kind(), error.chain());
    match error.hint() {
        Some(hint) => flat.with_hint(hint),
        None => flat,
    }
}

fn connect_hint(why: &str) -> Option<&'static str> {
    if why.contains("HTTP response to HTTPS client") {
        Some("the registry speaks plain HTTP: add it to the insecure registries to allow that")
    } else if why.contains("unknown authority") {
        Some("put the authority's certificate into certs.d/HOST/ca.crt, or add the host to the insecure registries")
    } else if why.contains("certificate has expired") {
        Some("the registry needs a new certificate, or this machine's clock is wrong (date)")
    } else if why.contains("certificate is valid for") {
        Some("call the registry by a name that its certificate is made out to")
    } else if why.contains("no such host") {
        Some("check the registry's name and this machine's name servers")
    } else if why.contains("connection refused") {
        Some("nothing listens there: check the address, and that the registry runs")
    } else {
        None
    }
}

/// The request of a failed connection: Docker asks for `/v2/` before anything else, so that is what its error names.
pub(super) fn first_request_text(method: &Method, url: &Url) -> String {
    let mut base = url.clone();
    match url.path().find("/v2/") {
        None => request_text(method, url),
        Some(at) => {
            base.set_path(&url.path()[..at + "/v2/".len()]);
            request_text(&Method::GET, &base)
        }
    }
}

/// `Get "URL"`, as Go writes a request in an error. Queries of foreign hosts hold signatures and are left out.
pub(super) fn request_text(method: &Method, url: &Url) -> String {
    let name = method.as_str();
    let verb = format!("{}{}", &name[..1], name[1..].to_ascii_lowercase());
    let mut shown = url.clone();
    shown.set_query(None);
    format!("{verb} \"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, errors: &[(&str, &str)]) -> Failure {
        Failure::Refused(Refusal {
            request: "Get \"https://r.example/v2/\"".into(),
            status: StatusCode::from_u16(status).unwrap(),
            errors: errors.iter().map(|(c, m)| ApiError { code: (*c).into(), message: (*m).into() }).collect(),
            retry_after: None,
            by_token_server: errors.iter().any(|(code, _)| code.is_empty()),
        })
    }

    #[test]
    fn dockers_wording_for_pulls() {
        let reference: Reference = "r.example/app:1".parse().unwrap();
        for (failure, expected) in [
            (
                refused(404, &[(code::MANIFEST_UNKNOWN, "manifest unknown")]),
                "manifest for r.example/app:1 not found: manifest unknown: manifest unknown",
            ),
            (refused(404, &[]), "manifest for r.example/app:1 not found: manifest unknown: manifest unknown"),
            (
                refused(404, &[(code::NAME_UNKNOWN, "repository name not known to registry")]),
                "repository r.example/app not found: name unknown: repository name not known to registry",
            ),
            (
                refused(401, &[(code::DENIED, "requested access to the resource is denied")]),
                "pull access denied for r.example/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            ),
            (
                refused(401, &[("", "incorrect username or password")]),
                "Get \"https://r.example/v2/\": unauthorized: incorrect username or password",
            ),
            (
                refused(500, &[]),
                "Get \"https://r.example/v2/\": received unexpected HTTP status: 500 Internal Server Error",
            ),
            (refused(429, &[("TOOMANYREQUESTS", "slow down")]), "toomanyrequests: slow down"),
        ] {
            assert_eq!(failure.pull_error(&reference).message(), expected);
        }
    }

    #[test]
    fn passing_and_lasting() {
        assert!(refused(503, &[]).is_passing() && refused(429, &[]).is_passing());
        assert!(!refused(404, &[]).is_passing() && !refused(401, &[]).is_passing());
        let refused = Failure::Connect { request: String::new(), why: "connect: connection refused".into() };
        assert!(!refused.is_passing());
    }

    #[test]
    fn a_failed_connection_names_the_first_request() {
        let url = Url::parse("https://r.example/p/v2/a/manifests/1?ns=x").unwrap();
        assert_eq!(first_request_text(&Method::HEAD, &url), "Get \"https://r.example/p/v2/\"");
        let url = Url::parse("https://t.example/token").unwrap();
        assert_eq!(first_request_text(&Method::POST, &url), "Post \"https://t.example/token\"");
    }

    #[test]
    fn signatures_are_not_shown() {
        let url = Url::parse("https://cdn.example/blob?sig=secret").unwrap();
        assert_eq!(request_text(&Method::GET, &url), "Get \"https://cdn.example/blob\"");
    }
}
