//! Requests over kept connections, and the negotiation of the version.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use barque_api::system::Ping;
use barque_api::{ApiVersion, ErrorResponse, json};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::OnceCell;

use crate::body::Upload;
use crate::connect::{self, Connection};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::stream::ByteStream;

/// Idle connections that are kept.
const MAX_IDLE: usize = 8;
/// The longest JSON document that is read, bytes.
const MAX_DOCUMENT: usize = 256 << 20;

/// A client of one engine; cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    host: Host,
    options: ClientOptions,
    negotiated: OnceCell<(ApiVersion, Ping)>,
    idle: Mutex<Vec<SendRequest<Upload>>>,
}

/// How to talk.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Speak exactly this version; unset negotiates.
    pub version: Option<ApiVersion>,
    /// Sent with every request (`HttpHeaders` of the configuration file).
    pub headers: Vec<(String, String)>,
    /// Value of `User-Agent`; unset is the client's own.
    pub user_agent: Option<String>,
    /// How long a connection may take to open; unset waits.
    pub connect_timeout: Option<Duration>,
}

/// A request to be sent; see [`Client::request`].
#[derive(Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Upload,
}

impl Request {
    /// `path` starts with a slash, has no version, and is escaped already.
    pub fn new(method: Method, path: impl Into<String>) -> Request {
        let (query, headers, body) = (String::new(), HeaderMap::new(), Upload::empty());
        Request { method, path: path.into(), query, headers, body }
    }

    pub fn get(path: impl Into<String>) -> Request {
        Self::new(Method::GET, path)
    }

    pub fn post(path: impl Into<String>) -> Request {
        Self::new(Method::POST, path)
    }

    pub fn delete(path: impl Into<String>) -> Request {
        Self::new(Method::DELETE, path)
    }

    /// The query string without `?`.
    #[must_use]
    pub fn query(mut self, query: String) -> Request {
        self.query = query;
        self
    }

    /// Adds a header; one with characters HTTP does not allow is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Request {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.append(name, value);
        }
        self
    }

    /// A JSON body.
    ///
    /// # Errors
    /// A value that has no JSON form.
    pub fn json<T: serde::Serialize + ?Sized>(mut self, value: &T) -> Result<Request> {
        let bytes = json::to_vec(value).map_err(|why| Error::argument("cannot encode the request").with_source(why))?;
        self.body = Upload::bytes(bytes);
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(self)
    }

    /// A body of another kind.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: Upload) -> Request {
        self.body = body;
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("host", &self.0.host.display()).finish_non_exhaustive()
    }
}

impl Client {
    pub fn new(host: Host) -> Client {
        Client::with_options(host, ClientOptions::default())
    }

    pub fn with_options(host: Host, options: ClientOptions) -> Client {
        Client(Arc::new(Shared { host, options, negotiated: OnceCell::new(), idle: Mutex::new(Vec::new()) }))
    }

    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// The version requests are made in; negotiates if that was not done yet.
    ///
    /// # Errors
    /// No connection.
    pub async fn version_used(&self) -> Result<ApiVersion> {
        match self.0.options.version {
            Some(version) => Ok(version),
            None => Ok(self.negotiation().await?.0),
        }
    }

    /// A client of the same engine that speaks `version`, for a call whose answer says more there.
    #[must_use]
    pub fn in_version(&self, version: ApiVersion) -> Client {
        let options = ClientOptions { version: Some(version), ..self.0.options.clone() };
        Client::with_options(self.0.host.clone(), options)
    }

    /// What the server said of itself when the version was negotiated.
    ///
    /// # Errors
    /// No connection.
    pub async fn server(&self) -> Result<&Ping> {
        Ok(&self.negotiation().await?.1)
    }

    /// Whether the server is Barque's, which takes more than the Engine API says.
    pub async fn is_barque(&self) -> Result<bool> {
        Ok(self.server().await?.server.starts_with("Barque/"))
    }

    async fn negotiation(&self) -> Result<&(ApiVersion, Ping)> {
        self.0
            .negotiated
            .get_or_try_init(|| async {
                let ping = self.ping().await?;
                // A server that names no version is older than negotiation.
                let theirs = ping.api_version.parse().unwrap_or(ApiVersion::MIN);
                Ok((theirs.min(ApiVersion::MAX), ping))
            })
            .await
    }

    /// `HEAD /_ping`, then `GET` for servers that do not know the former.
    ///
    /// # Errors
    /// No connection, or a server that does not answer pings.
    pub async fn ping(&self) -> Result<Ping> {
        let mut last = None;
        for method in [Method::HEAD, Method::GET] {
            let reply = self.send("/_ping".to_owned(), Request::new(method, "/_ping")).await?;
            let status = reply.status();
            let ping = ping_of(reply.headers());
            if status == StatusCode::OK || !ping.api_version.is_empty() {
                reply.into_bytes(MAX_DOCUMENT).await?;
                return Ok(ping);
            }
            last = Some(reply.into_error("/_ping").await);
        }
        Err(last.unwrap_or_else(|| Error::transport("the daemon does not answer pings")))
    }

    /// Sends a request in the negotiated version and returns the reply, whose status is a success.
    ///
    /// # Errors
    /// The server's refusal with its status, or a failure of the connection.
    pub async fn request(&self, request: Request) -> Result<ByteStream> {
        let target = self.target(&request.path, &request.query).await?;
        let reply = self.send(target.clone(), request).await?;
        if reply.status().is_success() { Ok(reply) } else { Err(reply.into_error(&target).await) }
    }

    /// [`Client::request`] and decode the JSON reply.
    ///
    /// # Errors
    /// As [`Client::request`], and a reply that is not the document expected.
    pub async fn request_json<T: serde::de::DeserializeOwned>(&self, request: Request) -> Result<T> {
        let path = request.path.clone();
        let bytes = self.request_bytes(request).await?;
        json::from_slice(&bytes).map_err(|why| Error::transport(format!("invalid reply to {path}")).with_source(why))
    }

    /// [`Client::request`] and read the reply to its end.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_bytes(&self, request: Request) -> Result<Bytes> {
        self.request(request).await?.into_bytes(MAX_DOCUMENT).await
    }

    /// [`Client::request`] for replies without content. Status 304 is success too.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_empty(&self, request: Request) -> Result<()> {
        match self.request_bytes(request).await {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(304) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A fresh connection to the engine, for `system dial-stdio` and hijacking.
    ///
    /// # Errors
    /// No connection.
    pub async fn dial(&self) -> Result<Connection> {
        match self.0.options.connect_timeout {
            None => connect::connect(&self.0.host).await,
            Some(limit) => tokio::time::timeout(limit, connect::connect(&self.0.host)).await.unwrap_or_else(|_| {
                let host = self.0.host.display();
                Err(Error::connect(format!("Cannot connect to the Docker daemon at {host}: no answer in {limit:?}")))
            }),
        }
    }

    /// `/v1.43/path?query` with the base path of the host.
    pub(crate) async fn target(&self, path: &str, query: &str) -> Result<String> {
        let version = self.version_used().await?;
        let base = self.0.host.base();
        let mark = if query.is_empty() { "" } else { "?" };
        Ok(format!("{base}/v{version}{path}{mark}{query}"))
    }

    /// Headers of every request.
    pub(crate) fn common_headers(&self, headers: &mut HeaderMap) {
        let agent = concat!("Barque-Client/", env!("CARGO_PKG_VERSION"), " (linux)");
        let agent = self.0.options.user_agent.as_deref().unwrap_or(agent);
        let own = [(HOST, self.0.host.authority()), (USER_AGENT, agent.to_owned())];
        for (name, value) in own {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.entry(name).or_insert(value);
            }
        }
        for (name, value) in &self.0.options.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
            {
                headers.entry(name).or_insert(value);
            }
        }
    }

    /// Sends a request to a ready target; the reply has any status.
    async fn send(&self, target: String, request: Request) -> Result<ByteStream> {
        let mut message = http::Request::new(request.body);
        *message.method_mut() = request.method;
        *message.uri_mut() = target
            .parse()
            .map_err(|why: http::uri::InvalidUri| Error::argument(format!("invalid path {target}")).with_source(why))?;
        *message.headers_mut() = request.headers;
        self.common_headers(message.headers_mut());
        // A kept connection may have been closed by the server: then the request comes back unsent.
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(message).await {
                Ok(reply) => return Ok(self.reply(reply, sender)),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => message = unsent,
                    None => return Err(self.broken(failed.into_error())),
                },
            }
        }
        let mut sender = self.open().await?;
        match sender.send_request(message).await {
            Ok(reply) => Ok(self.reply(reply, sender)),
            Err(why) => Err(self.broken(why)),
        }
    }

    fn broken(&self, why: hyper::Error) -> Error {
        Error::transport(format!("error during connect: the connection to {} broke", self.0.host.display()))
            .with_source(why)
    }

    async fn open(&self) -> Result<SendRequest<Upload>> {
        let stream = self.dial().await?;
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(|why| self.broken(why))?;
        // It ends with the connection; its errors also reach the request.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn reply(&self, reply: http::Response<Incoming>, sender: SendRequest<Upload>) -> ByteStream {
        ByteStream::new(reply, Lease { client: Arc::downgrade(&self.0), sender })
    }

    fn take_idle(&self) -> Option<SendRequest<Upload>> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        idle.pop()
    }
}

/// A connection in use; goes back to its client when the reply was read to its end.
pub(crate) struct Lease {
    client: std::sync::Weak<Shared>,
    sender: SendRequest<Upload>,
}

impl Lease {
    pub(crate) fn give_back(self) {
        let Some(client) = self.client.upgrade() else { return };
        let mut idle = client.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !self.sender.is_closed() {
            idle.push(self.sender);
        }
    }
}

fn ping_of(headers: &HeaderMap) -> Ping {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    Ping {
        api_version: text("api-version"),
        os_type: text("ostype"),
        experimental: text("docker-experimental") == "true",
        builder_version: text("builder-version"),
        server: text("server"),
    }
}

/// The server's sentence in the body of an error reply.
pub(crate) fn error_of(status: u16, body: &[u8], target: &str) -> Error {
    if let Ok(document) = json::from_slice::<ErrorResponse>(body)
        && !document.message.is_empty()
    {
        return Error::server(status, document.message.trim());
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    // A web server's error page says nothing to the user.
    if !text.is_empty() && text.len() < 4096 && !text.starts_with(['<', '{', '[']) {
        return Error::server(status, text);
    }
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    Error::server(
        status,
        format!("request returned {status} {reason} for API route {target}, check if the server supports it"),
    )
}

/// Reads a body to its end, up to `limit` bytes.
pub(crate) async fn collect(body: Incoming, limit: usize) -> Result<Bytes> {
    let limited = http_body_util::Limited::new(body, limit);
    let collected =
        limited.collect().await.map_err(|why| Error::transport("the daemon's reply broke off").with_source(why))?;
    Ok(collected.to_bytes())
}
