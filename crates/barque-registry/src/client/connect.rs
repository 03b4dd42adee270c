//! Connections: names to addresses, proxies, TLS. One connector serves every host.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use super::config::{InsecureHosts, Proxies};
use super::dns;
use super::tls::Tls;

/// How long one address may keep the next waiting (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The longest answer of a proxy to `CONNECT` that is read.
const PROXY_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Makes connections for the pool.
#[derive(Clone)]
pub(super) struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    tls: Tls,
    insecure: InsecureHosts,
    proxies: Proxies,
    timeout: Duration,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct ConnectError {
    message: String,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConnectError {}

fn failed(what: impl fmt::Display, why: impl fmt::Display) -> ConnectError {
    ConnectError { message: format!("{what}: {why}") }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open connection.
pub(super) struct Conn {
    io: TokioIo<Box<dyn Io>>,
    /// Plain HTTP through a proxy: requests carry the whole URL.
    proxied: bool,
}

impl Connector {
    pub(super) fn new(tls: Tls, insecure: InsecureHosts, proxies: Proxies, timeout: Duration) -> Self {
        Self { shared: Arc::new(Shared { tls, insecure, proxies, timeout }) }
    }

    /// The `Proxy-Authorization` value plain HTTP requests to this target need.
    pub(super) fn proxy_authorization(&self, url: &Url) -> Option<String> {
        if url.scheme() != "http" {
            return None;
        }
        let proxy = self.shared.proxies.for_target(false, url.host_str()?, url.port_or_known_default()?)?;
        proxy_credentials(proxy)
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Conn;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Conn, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            match tokio::time::timeout(shared.timeout, shared.connect(&target)).await {
                Ok(result) => result,
                Err(_) => Err(failed(format_args!("dial tcp {}", authority(&target)), "i/o timeout")),
            }
        })
    }
}

fn authority(target: &Uri) -> &str {
    target.authority().map_or("", |authority| authority.as_str())
}

impl Shared {
    async fn connect(&self, target: &Uri) -> Result<Conn, ConnectError> {
        let https = target.scheme_str() == Some("https");
        let host = target.host().unwrap_or_default();
        let port = target.port_u16().unwrap_or(if https { 443 } else { 80 });
        let proxy = self.proxies.for_target(https, host, port);
        let stream: Box<dyn Io> = match proxy {
            None => Box::new(dial(host, port).await?),
            Some(proxy) => {
                let stream = self.dial_proxy(proxy).await?;
                if !https {
                    return Ok(Conn { io: TokioIo::new(stream), proxied: true });
                }
                tunnel(stream, host, port, proxy).await?
            }
        };
        let stream = if https { self.handshake(stream, host, authority(target)).await? } else { stream };
        Ok(Conn { io: TokioIo::new(stream), proxied: false })
    }

    async fn dial_proxy(&self, proxy: &Url) -> Result<Box<dyn Io>, ConnectError> {
        let host = proxy.host_str().unwrap_or_default();
        let port = proxy.port_or_known_default().unwrap_or(80);
        let named = |error: ConnectError| failed("proxyconnect tcp", error);
        let stream: Box<dyn Io> = Box::new(dial(host, port).await.map_err(named)?);
        if proxy.scheme() == "https" {
            return self.handshake(stream, host, &format!("{host}:{port}")).await.map_err(named);
        }
        Ok(stream)
    }

    async fn handshake(&self, stream: Box<dyn Io>, host: &str, authority: &str) -> Result<Box<dyn Io>, ConnectError> {
        let insecure = self.insecure.contains(authority);
        let config = self.tls.config_for(authority, insecure).await.map_err(|error| failed("tls", error))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|error| failed("tls", error))?;
        let connector = tokio_rustls::TlsConnector::from(config);
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(failed("tls", tls_reason(&error))),
        }
    }
}

/// A server that answers in plain HTTP makes the handshake fail on its first byte; say that instead.
fn tls_reason(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => "server gave HTTP response to HTTPS client".to_owned(),
        Some(rustls::Error::InvalidCertificate(why)) if is_unknown(why) => {
            "failed to verify certificate: certificate signed by unknown authority".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!("failed to verify certificate: {}", certificate_fault(why))
        }
        Some(other) => format!("failed to verify certificate or to agree on parameters: {other}"),
        None => error.to_string(),
    }
}

/// In the words of Docker's engine, which is Go's.
fn certificate_fault(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError::{ExpiredContext, NotValidForNameContext, NotValidYetContext};
    let day = |time: &rustls::pki_types::UnixTime| {
        barque_model::Timestamp::from_secs(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
    };
    let period = "certificate has expired or is not yet valid: current time";
    match why {
        ExpiredContext { time, not_after } => format!("{period} {} is after {}", day(time), day(not_after)),
        NotValidYetContext { time, not_before } => format!("{period} {} is before {}", day(time), day(not_before)),
        NotValidForNameContext { expected, presented } => {
            format!("certificate is valid for {}, not {}", presented.join(", "), expected.to_str())
        }
        other => other.to_string(),
    }
}

/// Whether nobody who is trusted vouches for a certificate: the usual one signed by itself says that it is an
/// authority's, and is refused for that before its signer is looked for.
fn is_unknown(why: &rustls::CertificateError) -> bool {
    *why == rustls::CertificateError::UnknownIssuer || why.to_string().contains("CaUsedAsEndEntity")
}

/// Connects to the first address that answers, starting the next one when a try fails or takes long.
async fn dial(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses = dns::lookup(host, port).await.map_err(|error| failed("dial tcp", error))?;
    let mut queue = addresses.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut last = failed("dial tcp", format_args!("lookup {host}: no address"));
    let mut more = true;
    loop {
        match queue.next() {
            Some(address) => tries.push(dial_one(address)),
            None => more = false,
        }
        tokio::select! {
            Some(result) = tries.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = tokio::time::sleep(STAGGER), if more => {}
            else => return Err(last),
        }
    }
}

async fn dial_one(address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let named = |error: io::Error| failed(format_args!("dial tcp {address}: connect"), dns::errno_text(&error));
    let stream = TcpStream::connect(address).await.map_err(named)?;
    stream.set_nodelay(true).map_err(named)?;
    Ok(stream)
}

async fn tunnel(mut stream: Box<dyn Io>, host: &str, port: u16, proxy: &Url) -> Result<Box<dyn Io>, ConnectError> {
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(credentials) = proxy_credentials(proxy) {
        request.push_str(&format!("Proxy-Authorization: {credentials}\r\n"));
    }
    request.push_str("\r\n");
    let at = format!("proxy {}", proxy.host_str().unwrap_or_default());
    stream.write_all(request.as_bytes()).await.map_err(|error| failed(&at, error))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= PROXY_HEAD_BYTES_MAX {
            return Err(failed(&at, "endless answer to CONNECT"));
        }
        // Byte by byte: what follows the head belongs to the tunnel.
        head.push(stream.read_u8().await.map_err(|error| failed(&at, error))?);
    }
    let text = String::from_utf8_lossy(&head);
    let status = text.lines().next().unwrap_or_default();
    match status.split_ascii_whitespace().nth(1) {
        Some(code) if code.starts_with('2') => Ok(stream),
        _ => Err(failed(&at, format_args!("CONNECT {host}:{port} was answered with {status:?}"))),
    }
}

fn proxy_credentials(proxy: &Url) -> Option<String> {
    if proxy.username().is_empty() && proxy.password().is_none() {
        return None;
    }
    let user = percent_decode(proxy.username());
    let password = percent_decode(proxy.password().unwrap_or_default());
    let plain = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    Some(format!("Basic {plain}"))
}

/// Undoes the percent-encoding of a URL's user info.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl hyper::rt::Read for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding() {
        assert_eq!(percent_decode("p%40ss%2"), "p@ss%2");
        assert_eq!(percent_decode("%zz%é"), "%zz%é");
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = dial("127.0.0.1", port).await.unwrap_err();
        assert_eq!(error.to_string(), format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
    }
}
