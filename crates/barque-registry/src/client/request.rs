//! One request: connection pool, time limits, redirects, authorization, retries.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::Inner;
use super::auth::{choose, secret_header};
use super::connect::{ConnectError, Connector};
use super::endpoint::{Endpoint, lock, origin};
use super::failure::{Failure, Refusal, first_request_text, request_text};
use crate::challenge::{self, Challenge};
use crate::wire::{self, ApiError, code};

/// Hops followed before a redirect counts as a loop.
const REDIRECTS_MAX: u32 = 10;
/// Error documents are read up to this size.
const ERROR_BYTES_MAX: u64 = 64 * 1024;
/// How long the body of an answer that does not matter may be silent.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a registry may take to check what it was sent: it may have to hash all of it again.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(600);
const POOL_IDLE: Duration = Duration::from_secs(30);
const POOL_IDLE_PER_HOST: usize = 8;

pub(super) type Pool = legacy::Client<Connector, SendBody>;
/// Authority → requests in flight.
pub(super) type Limits = Mutex<HashMap<String, Arc<Semaphore>>>;

pub(super) fn pool(connector: Connector) -> Pool {
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_IDLE_PER_HOST)
        .build(connector)
}

/// A request before it knows which server gets it.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Option<Bytes>,
    /// Scopes a token needs, such as `repository:library/python:pull`.
    pub(super) scopes: Vec<String>,
}

impl Ask {
    pub(super) fn new(method: Method, scopes: Vec<String>) -> Self {
        Self { method, headers: Vec::new(), body: None, scopes }
    }

    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    #[must_use]
    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    fn header_map(&self) -> Result<HeaderMap, Failure> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(value).map_err(|_| Failure::bad(format!("bad value of {name}")))?;
            map.append(name, value);
        }
        Ok(map)
    }
}

/// A response whose body is still to come; keeps its place among the requests in flight.
pub(super) struct Answer {
    response: Response<Incoming>,
    /// Where it came from, after redirects.
    pub(super) url: Url,
    permit: OwnedSemaphorePermit,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(http::header::CONTENT_LENGTH)?.parse().ok()
    }

    pub(super) fn into_body(self) -> (Incoming, OwnedSemaphorePermit) {
        (self.response.into_body(), self.permit)
    }

    fn challenges(&self) -> Vec<Challenge> {
        let values = self.response.headers().get_all(WWW_AUTHENTICATE);
        values.iter().filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect()
    }

    /// The way the server of `base` wants authorization, from a 401.
    pub(super) fn way(&self, base: &Url) -> Option<super::auth::Way> {
        choose(&self.challenges(), base)
    }

    /// Reads an error response.
    pub(super) async fn into_refusal(self, method: &Method) -> Failure {
        let (status, request) = (self.status(), request_text(method, &self.url));
        let retry_after = self.header(RETRY_AFTER).and_then(wire::retry_after);
        let insufficient = self.challenges().iter().any(|c| c.param("error") == Some("insufficient_scope"));
        let body = if *method == Method::HEAD {
            Bytes::new()
        } else {
            // The status alone says enough when the body cannot be had.
            body_bytes(self, ERROR_BYTES_MAX, DRAIN).await.unwrap_or_default()
        };
        let mut errors = wire::parse_errors(&body);
        if status == StatusCode::UNAUTHORIZED && insufficient {
            let message = "requested access to the resource is denied".to_owned();
            errors.insert(0, ApiError { code: code::DENIED.to_owned(), message });
        }
        Failure::Refused(Refusal { request, status, errors, retry_after, by_token_server: false })
    }
}

/// The whole body, at most `bytes_max`.
pub(super) async fn body_bytes(answer: Answer, bytes_max: u64, idle: Duration) -> Result<Bytes, Failure> {
    let url = answer.url.clone();
    let too_large =
        || Failure::bad(format!("{}: answer is larger than {bytes_max} bytes", request_text(&Method::GET, &url)));
    if answer.content_length().is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let (mut body, _permit) = answer.into_body();
    let mut bytes = BytesMut::new();
    let lost = |why: String| Failure::Transport { request: request_text(&Method::GET, &url), why };
    loop {
        let frame = tokio::time::timeout(idle, body.frame()).await;
        match frame.map_err(|_| lost("the server stopped sending".to_owned()))? {
            None => return Ok(bytes.freeze()),
            Some(Err(error)) => return Err(lost(root_cause(&error))),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if (bytes.len() + data.len()) as u64 > bytes_max {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&data);
            }
        }
    }
}

/// The innermost message of an error chain.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

impl Inner {
    /// Sends one request to one URL; no redirects, no authorization, no retries.
    pub(super) async fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        body: SendBody,
    ) -> Result<Answer, Failure> {
        let permit = self.permit(url).await?;
        let text = request_text(method, url);
        let mut request = Request::builder().method(method.clone()).uri(url.as_str());
        if let Some(map) = request.headers_mut() {
            *map = headers;
            if let Ok(agent) = HeaderValue::from_str(&self.config.user_agent) {
                map.insert(USER_AGENT, agent);
            }
            if let Some(value) = self.connector.proxy_authorization(url) {
                map.insert(PROXY_AUTHORIZATION, secret_header(&value)?);
            }
        }
        let request = request.body(body).map_err(|error| Failure::bad(format!("{text}: {error}")))?;
        let sending = request.body().progress();
        let response = self.http.request(request);
        tokio::pin!(response);
        let patience = match *method {
            Method::PUT => self.config.response_timeout.max(CLOSING_TIMEOUT),
            _ => self.config.response_timeout,
        };
        loop {
            // A long upload is not a late answer: time runs only while nothing is being sent.
            let before = sending.sent();
            match tokio::time::timeout(patience, &mut response).await {
                Ok(Ok(response)) => return Ok(Answer { response, url: url.clone(), permit }),
                Ok(Err(error)) => return Err(transport_failure(method, url, &error)),
                Err(_) if sending.sent() != before => {}
                Err(_) => {
                    return Err(Failure::Transport { request: text, why: "timeout awaiting response headers".into() });
                }
            }
        }
    }

    async fn permit(&self, url: &Url) -> Result<OwnedSemaphorePermit, Failure> {
        let semaphore = {
            let mut limits = lock(&self.limits);
            // A permit holds its semaphore: one that nobody holds guards nothing.
            limits.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            let new = || Arc::new(Semaphore::new(self.config.max_per_host.max(1)));
            limits.entry(origin(url)).or_insert_with(new).clone()
        };
        // Nobody closes the semaphore.
        semaphore.acquire_owned().await.map_err(|error| Failure::bad(error.to_string()))
    }

    /// Sends to an endpoint's URL, following redirects of safe methods and answering a challenge once. Returns only
    /// successful answers.
    async fn send_once(&self, endpoint: &Endpoint, ask: &Ask, url: &Url) -> Result<Answer, Failure> {
        let own = origin(url) == endpoint.origin();
        let blame = |failure: Failure| failure.blame_token_server(&ask.method, url);
        let used = if own {
            let way = self.auth.way(endpoint);
            self.authorization(endpoint, way.as_ref(), &ask.scopes, None, None).await.map_err(blame)?
        } else {
            None
        };
        let answer = self.follow(endpoint, ask, url, used.as_deref()).await?;
        self.directory.answered(endpoint);
        if answer.status().is_success() {
            return Ok(answer);
        }
        let asked_us = own && answer.status() == StatusCode::UNAUTHORIZED && origin(&answer.url) == endpoint.origin();
        let challenges = if asked_us { answer.challenges() } else { Vec::new() };
        // Read now: the answer must give up its place among the requests in flight before a token is fetched, or many
        // of them wait for each other when registry and token server are one host.
        let refusal = answer.into_refusal(&ask.method).await;
        let Some(way) = choose(&challenges, &endpoint.base) else {
            return Err(refusal);
        };
        self.auth.learn(endpoint, &way);
        let extra = challenges.iter().find_map(|challenge| challenge.param("scope"));
        match self.authorization(endpoint, Some(&way), &ask.scopes, extra, used.as_deref()).await.map_err(blame)? {
            None => Err(Failure::NoCredentials { url: url.clone() }),
            // The server has seen this one and did not like it.
            again if again == used => Err(refusal),
            again => match self.follow(endpoint, ask, url, again.as_deref()).await? {
                answer if answer.status().is_success() => Ok(answer),
                answer => Err(answer.into_refusal(&ask.method).await),
            },
        }
    }

    /// Sends, and follows redirects of GET and HEAD. Authorization stays with the server it was made for.
    async fn follow(
        &self,
        endpoint: &Endpoint,
        ask: &Ask,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut headers = ask.header_map()?;
            if let Some(value) = authorization.filter(|_| origin(&url) == endpoint.origin()) {
                headers.insert(AUTHORIZATION, secret_header(value)?);
            }
            let answer = self.exchange(&ask.method, &url, headers, ask.body.clone().into()).await?;
            let moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !moved || !(ask.method == Method::GET || ask.method == Method::HEAD) {
                return Ok(answer);
            }
            let Some(target) = answer.header(LOCATION) else {
                return Err(Failure::bad(format!("{}: redirect without a target", request_text(&ask.method, &url))));
            };
            let from = request_text(&ask.method, &url);
            let next = url.join(target).map_err(|error| Failure::bad(format!("{from}: bad redirect: {error}")))?;
            let downgrade = url.scheme() == "https" && !self.directory.private(&next);
            if !matches!(next.scheme(), "http" | "https") || downgrade {
                return Err(Failure::bad(format!("{from}: refusing the redirect to {}", origin(&next))));
            }
            if ask.method == Method::GET {
                // Read to its end, so that the connection can be used again.
                let _ = body_bytes(answer, ERROR_BYTES_MAX, DRAIN).await;
            }
            url = next;
        }
        Err(Failure::bad(format!("{}: stopped after {REDIRECTS_MAX} redirects", request_text(&ask.method, &url))))
    }

    /// As [`Inner::send_once`], again after failures that may pass.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        ask: &Ask,
        url: &Url,
        retries: u32,
    ) -> Result<Answer, Failure> {
        let mut attempt = 0;
        loop {
            let failure = match self.send_once(endpoint, ask, url).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match self.wait_before_retry(&failure, attempt, retries) {
                None => return Err(failure),
                Some(wait) => tokio::time::sleep(wait).await,
            }
            attempt += 1;
        }
    }

    /// How long to wait before attempt number `attempt + 1`; `None` when there is no point.
    pub(super) fn wait_before_retry(&self, failure: &Failure, attempt: u32, retries: u32) -> Option<Duration> {
        if attempt >= retries || !failure.is_passing() {
            return None;
        }
        let asked = failure.refusal().and_then(|refusal| refusal.retry_after);
        if asked.is_some_and(|asked| asked > self.config.backoff_max) {
            return None;
        }
        let longest = self.config.backoff.saturating_mul(1 << attempt.min(16)).min(self.config.backoff_max);
        // Half fixed, half random: parallel layers do not come back all at once.
        let wait = longest.mul_f64(0.5 + 0.5 * random_fraction());
        Some(asked.map_or(wait, |asked| asked.max(wait).min(self.config.backoff_max)))
    }
}

/// A number in 0..1.
fn random_fraction() -> f64 {
    let mut bytes = [0; 2];
    barque_model::id::fill_random(&mut bytes);
    f64::from(u16::from_be_bytes(bytes)) / 65536.0
}

fn transport_failure(method: &Method, url: &Url, error: &legacy::Error) -> Failure {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(layer) = next {
        if let Some(connect) = layer.downcast_ref::<ConnectError>() {
            return Failure::Connect { request: first_request_text(method, url), why: connect.to_string() };
        }
        next = layer.source();
    }
    Failure::Transport { request: request_text(method, url), why: root_cause(error) }
}

/// A request's body, with its exact length.
pub(super) struct SendBody {
    content: Content,
    progress: Sent,
}

enum Content {
    Empty,
    Bytes(Bytes),
    Stream { left: u64, stream: Pin<Box<dyn futures_util::Stream<Item = io::Result<Bytes>> + Send>> },
}

/// How much of a body has been handed to the connection.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<std::sync::atomic::AtomicU64>);

impl Sent {
    pub(super) fn sent(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
    }
}

impl SendBody {
    /// A body of exactly `length` bytes from `stream`.
    pub(super) fn stream(
        length: u64,
        stream: impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        Self { content: Content::Stream { left: length, stream: Box::pin(stream) }, progress: Sent::default() }
    }

    pub(super) fn progress(&self) -> Sent {
        self.progress.clone()
    }
}

impl From<Option<Bytes>> for SendBody {
    fn from(bytes: Option<Bytes>) -> Self {
        Self { content: bytes.map_or(Content::Empty, Content::Bytes), progress: Sent::default() }
    }
}

impl From<Option<String>> for SendBody {
    fn from(text: Option<String>) -> Self {
        text.map(Bytes::from).into()
    }
}

impl Body for SendBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        match &mut this.content {
            Content::Empty => Poll::Ready(None),
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                this.progress.add(bytes.len());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Stream { left: 0, .. } => Poll::Ready(None),
            Content::Stream { left, stream } => match std::task::ready!(stream.as_mut().poll_next(cx)) {
                None => Poll::Ready(Some(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("content ended {left} bytes early"),
                )))),
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                Some(Ok(mut bytes)) => {
                    bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= bytes.len() as u64;
                    this.progress.add(bytes.len());
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Empty | Content::Stream { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.content {
            Content::Empty => 0,
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Stream { left, .. } => *left,
        })
    }
}
