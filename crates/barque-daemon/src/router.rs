//! From a request to its route: version, headers of every reply, errors, panics.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use barque_api::ApiVersion;
use barque_api::query::{Params, unescape_path};
use barque_model::{Error, ErrorKind, Result};
use futures_util::FutureExt;
use http::header::{HeaderName, HeaderValue, SERVER, UPGRADE};
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::mpsc::WeakSender;

use crate::http::{Body, Call, Outcome, Reply, Token, error_reply};
use crate::routes;
use crate::state::State;
use crate::wording;

/// A route's work.
pub(crate) type Routed = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What a request's connection is.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) alive: Token,
    /// Weak: a connection without a request is not busy.
    pub(crate) busy: WeakSender<()>,
    /// A unix socket.
    pub(crate) local: bool,
    /// The socket that containers have with `-v …/docker.sock:…:ro`: nothing may be changed by it.
    pub(crate) read_only: bool,
}

/// Work that ends when the client goes away: reads, streams, transfers.
pub(crate) fn inline(work: impl Future<Output = Outcome> + Send + 'static) -> Routed {
    Box::pin(async move {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => Err(panicked(panic.as_ref())),
        }
    })
}

/// Work that goes on when the client goes away: what changes something must not stop halfway.
pub(crate) fn keep(work: impl Future<Output = Outcome> + Send + 'static) -> Routed {
    Box::pin(async move {
        match tokio::spawn(work).await {
            Ok(outcome) => outcome,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => Err(panicked(panic.as_ref())),
                Err(_) => Err(Error::canceled("the daemon is stopping")),
            },
        }
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::internal(format!("a bug in the daemon: {}", text.unwrap_or("panic")))
        .with_hint("please report it; other requests are not affected")
}

/// Answers a request, whatever happens.
pub(crate) async fn handle(state: Arc<State>, link: Link, request: Request<Incoming>) -> Response<Body> {
    state.activity.notify_one();
    let method = request.method().clone();
    let path = unescape_path(request.uri().path());
    let outcome = match dispatch(&state, &path, link, request) {
        Ok(work) => work.await,
        Err(error) => Err(error),
    };
    let mut reply = outcome.unwrap_or_else(|error| {
        match error.kind() {
            ErrorKind::Internal => tracing::error!("{method} {path}: {}", error.chain()),
            _ => tracing::debug!("{method} {path}: {}", error.chain()),
        }
        error_reply(&error)
    });
    tracing::debug!("{method} {path} {}", reply.status().as_u16());
    state.activity.notify_one();
    common_headers(&state, &mut reply);
    reply
}

fn common_headers(state: &State, reply: &mut Reply) {
    const API_VERSION: HeaderName = HeaderName::from_static("api-version");
    const EXPERIMENTAL: HeaderName = HeaderName::from_static("docker-experimental");
    const OSTYPE: HeaderName = HeaderName::from_static("ostype");
    let text = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    let headers = reply.headers_mut();
    headers.insert(API_VERSION, text(ApiVersion::MAX.to_string()));
    headers.insert(EXPERIMENTAL, text(state.settings().experimental.to_string()));
    headers.insert(OSTYPE, HeaderValue::from_static("linux"));
    headers.insert(SERVER, text(format!("Barque/{} (linux)", state.product.version)));
}

/// Splits `/v1.43/containers/json` into version and segments, and finds the route.
fn dispatch(state: &Arc<State>, path: &str, link: Link, request: Request<Incoming>) -> Result<Routed> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (version, segments) = version_of(&segments, state.settings().min_api_version)?;
    if link.read_only && !only_reads(request.method(), segments) {
        return Err(Error::new(
            ErrorKind::Forbidden,
            "the engine's socket is mounted read-only here: requests that change something are refused",
        )
        .with_hint("mount it without :ro (readonly), which makes this container as powerful as root on the host"));
    }
    if request.method() == http::Method::DELETE || segments.last() == Some(&"prune") {
        state.engine.make_room();
    }
    let upgrade = request.headers().contains_key(UPGRADE);
    let (mut head, body) = request.into_parts();
    let upgrade = match upgrade {
        true => head.extensions.remove::<hyper::upgrade::OnUpgrade>(),
        false => None,
    };
    let params = Params::parse(head.uri.query().unwrap_or_default());
    let call = Call {
        method: head.method,
        version,
        params,
        headers: head.headers,
        body: Some(body),
        alive: link.alive,
        _busy: link.busy.upgrade(),
        local: link.local,
        upgrade,
    };
    routes::find(state, call, segments).ok_or_else(|| Error::not_found(wording::PAGE_NOT_FOUND))
}

/// Whether a request changes nothing. Attaching by websocket is a `GET` that writes to standard input.
fn only_reads(method: &http::Method, path: &[&str]) -> bool {
    match (method.as_str(), path) {
        ("GET" | "HEAD" | "OPTIONS", ["containers", _, "attach", ..] | ["session" | "grpc", ..]) => false,
        ("GET" | "HEAD" | "OPTIONS", _) => true,
        ("POST", ["containers", _, "wait"]) => true,
        _ => false,
    }
}

/// The version a path names, and the rest of its segments.
fn version_of<'a, 'b>(segments: &'a [&'b str], oldest: ApiVersion) -> Result<(ApiVersion, &'a [&'b str])> {
    let Some((first, rest)) = segments.split_first() else { return Ok((ApiVersion::MAX, segments)) };
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !first.strip_prefix('v').is_some_and(numeric) {
        return Ok((ApiVersion::MAX, segments));
    }
    let text = &first[1..];
    let Ok(version) = text.parse::<ApiVersion>() else {
        // `v1` and `v9` have an order, though they are no versions; `v1.40.1` is nothing.
        return Err(match text.parse::<u64>() {
            Ok(0 | 1) => Error::invalid(wording::version_too_old(text, oldest)),
            Ok(_) => Error::invalid(wording::version_too_new(text)),
            Err(_) => Error::not_found(wording::PAGE_NOT_FOUND),
        });
    };
    if version < oldest {
        return Err(Error::invalid(wording::version_too_old(version, oldest)));
    }
    if version > ApiVersion::MAX {
        return Err(Error::invalid(wording::version_too_new(version)));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Result<(ApiVersion, String)> {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        version_of(&segments, ApiVersion::MIN).map(|(version, rest)| (version, rest.join("/")))
    }

    #[test]
    fn versions_in_paths() {
        assert_eq!(of("/v1.24/info").unwrap(), (ApiVersion::MIN, "info".into()));
        assert_eq!(of("/info").unwrap(), (ApiVersion::MAX, "info".into()));
        assert_eq!(of("/volumes").unwrap(), (ApiVersion::MAX, "volumes".into()));
        assert_eq!(of("").unwrap(), (ApiVersion::MAX, String::new()));
        assert_eq!(
            of("/v1.99/info").unwrap_err().to_string(),
            "client version 1.99 is too new. Maximum supported API version is 1.56"
        );
        assert_eq!(
            of("/v1.12/info").unwrap_err().to_string(),
            "client version 1.12 is too old. Minimum supported API version is 1.24, \
             please upgrade your client to a newer version"
        );
        for (path, expected) in
            [("/v1/info", "client version 1 is too old. "), ("/v9/info", "client version 9 is too new. ")]
        {
            assert!(of(path).unwrap_err().to_string().starts_with(expected), "{path}");
        }
        assert_eq!(of("/v1.40.1/info").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_a_read_only_socket_lets_through() {
        let of = |method: &str, path: &str| {
            let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
            only_reads(&method.parse().unwrap(), &segments)
        };
        for path in ["_ping", "containers/json", "containers/x/logs", "events", "images/a/b/json"] {
            assert!(of("GET", path), "{path}");
        }
        assert!(of("POST", "containers/x/wait"));
        for path in ["containers/create", "containers/x/exec", "exec/x/start", "build", "images/create", "auth"] {
            assert!(!of("POST", path), "{path}");
        }
        assert!(
            !of("GET", "containers/x/attach/ws") && !of("DELETE", "volumes/x") && !of("PUT", "containers/x/archive")
        );
    }

    #[tokio::test]
    async fn panics_are_errors() {
        for work in [inline(async { panic!("boom") }), keep(async { panic!("boom") })] {
            let error = work.await.err().unwrap();
            assert_eq!(error.to_string(), "a bug in the daemon: boom");
        }
    }

    #[tokio::test]
    async fn kept_work_survives_its_client() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let work = keep(async move {
            tokio::task::yield_now().await;
            let _sent = sender.send(7);
            crate::http::empty()
        });
        let mut work = Box::pin(work);
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        assert_eq!(receiver.await, Ok(7));
    }
}
