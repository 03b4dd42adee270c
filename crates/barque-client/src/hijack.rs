//! Connections that turn raw in both directions: attach, exec, BuildKit sessions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

use crate::body::Upload;
use crate::client::{Client, Request, error_of};
use crate::connect::Connection;
use crate::error::{Error, Result};
use crate::head;

/// A hijacked connection.
pub struct Hijacked {
    pub reader: HijackedReader,
    pub writer: HijackedWriter,
    /// The media type of what is read: raw with a terminal, multiplexed without (since 1.42; empty before).
    pub content_type: String,
}

/// The reading half: what the server sends.
pub struct HijackedReader {
    // What arrived together with the head.
    prefix: Bytes,
    stream: ReadHalf<Connection>,
}

/// The writing half. `shutdown` closes this direction only: the other side sees the end of its input.
pub struct HijackedWriter(WriteHalf<Connection>);

impl Hijacked {
    /// True if what is read consists of frames (see `barque_api::stdcopy`).
    pub fn is_multiplexed(&self) -> bool {
        self.content_type == barque_api::stdcopy::MULTIPLEXED
    }

    /// The two halves as one stream.
    pub fn into_io(self) -> tokio::io::Join<HijackedReader, HijackedWriter> {
        tokio::io::join(self.reader, self.writer)
    }
}

impl Client {
    /// Sends a request that turns its connection raw. `protocol` is the value of `Upgrade`: `tcp`, or `h2c`.
    ///
    /// # Errors
    /// The server's refusal with its status, or a failure of the connection.
    pub async fn hijack(&self, request: Request, protocol: &str) -> Result<Hijacked> {
        let target = self.target(&request.path, &request.query).await?;
        let mut connection = self.dial().await?;
        let bytes = self.hijack_head(&target, request, protocol).await?;
        let broken = |why| Error::transport("the connection to the daemon broke").with_source(why);
        connection.write_all(&bytes).await.map_err(broken)?;
        connection.flush().await.map_err(broken)?;
        let (head, rest) = head::read_head(&mut connection).await?;
        if !matches!(head.status, 101 | 200) {
            let body = head::read_error(&mut connection, &head, rest).await;
            return Err(error_of(head.status, &body, &target));
        }
        let content_type = head.header("content-type").unwrap_or_default().to_owned();
        let (read, write) = tokio::io::split(connection);
        let reader = HijackedReader { prefix: rest, stream: read };
        Ok(Hijacked { reader, writer: HijackedWriter(write), content_type })
    }

    async fn hijack_head(&self, target: &str, request: Request, protocol: &str) -> Result<Vec<u8>> {
        use http_body_util::BodyExt;
        let Request { method, mut headers, body, .. } = request;
        self.common_headers(&mut headers);
        let mut out = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        let body = match body {
            body if body.is_empty() => Bytes::new(),
            body => collect_upload(body).await?,
        };
        let tail = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\nContent-Length: {}\r\n\r\n", body.len());
        out.extend_from_slice(tail.as_bytes());
        out.extend_from_slice(&body);
        return Ok(out);

        async fn collect_upload(body: Upload) -> Result<Bytes> {
            let collected =
                body.collect().await.map_err(|why| Error::argument("cannot read the body").with_source(why))?;
            Ok(collected.to_bytes())
        }
    }
}

impl AsyncRead for HijackedReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let count = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..count]);
            self.prefix.advance(count);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for HijackedWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
