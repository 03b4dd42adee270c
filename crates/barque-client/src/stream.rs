//! Replies: read at once, as bytes, or document by document.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use barque_api::progress::Documents;
use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, ReadBuf};

use crate::client::{Lease, collect, error_of};
use crate::error::{Error, Result};

/// A reply whose body has not been read yet. Reads as [`AsyncRead`], or piece by piece by [`ByteStream::next`].
pub struct ByteStream {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    piece: Bytes,
    lease: Option<Lease>,
}

impl ByteStream {
    pub(crate) fn new(reply: http::Response<Incoming>, lease: Lease) -> ByteStream {
        let (head, body) = reply.into_parts();
        ByteStream { status: head.status, headers: head.headers, body, piece: Bytes::new(), lease: Some(lease) }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// A header's text, empty if missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if !self.piece.is_empty() {
            return Ok(Some(std::mem::take(&mut self.piece)));
        }
        std::future::poll_fn(|cx| self.poll_piece(cx)).await.map_err(broken)
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// The connection broke, or the body is longer than `limit` bytes.
    pub async fn into_bytes(mut self, limit: usize) -> Result<Bytes> {
        let bytes = collect(self.body, limit).await?;
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        Ok(bytes)
    }

    pub(crate) async fn into_error(self, target: &str) -> Error {
        let status = self.status.as_u16();
        match self.into_bytes(1 << 20).await {
            Ok(body) => error_of(status, &body, target),
            Err(error) => error,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                Some(Err(why)) => return Poll::Ready(Err(io::Error::other(why))),
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }
}

fn broken(why: io::Error) -> Error {
    Error::transport("the daemon's reply broke off").with_source(why)
}

impl AsyncRead for ByteStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.piece.is_empty() {
            match ready!(self.poll_piece(cx))? {
                Some(piece) => self.piece = piece,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.piece.len().min(buf.remaining());
        buf.put_slice(&self.piece[..count]);
        self.piece.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// A stream of JSON documents, decoded as they arrive.
pub struct JsonStream<T> {
    bytes: ByteStream,
    documents: Documents,
    kind: PhantomData<fn() -> T>,
}

impl<T: serde::de::DeserializeOwned> JsonStream<T> {
    pub(crate) fn new(bytes: ByteStream) -> Self {
        JsonStream { bytes, documents: Documents::new(), kind: PhantomData }
    }

    pub fn headers(&self) -> &HeaderMap {
        self.bytes.headers()
    }

    /// The next document; `None` at the end.
    ///
    /// # Errors
    /// The connection broke, also in the middle of a document; bytes that are not the documents expected.
    pub async fn next(&mut self) -> Result<Option<T>> {
        loop {
            match self.documents.next_document() {
                Ok(Some(document)) => return Ok(Some(document)),
                Ok(None) => {}
                Err(why) => return Err(Error::transport("invalid document in the daemon's reply").with_source(why)),
            }
            match self.bytes.next().await? {
                Some(piece) => self.documents.push(&piece),
                None if self.documents.rest().iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => return Err(Error::transport("the daemon's reply broke off in the middle of a document")),
            }
        }
    }
}

impl<T> JsonStream<T> {
    /// What follows the documents read so far, as bytes: an archive at the end of a build.
    pub fn into_rest(mut self) -> ByteStream {
        // Documents end with a line end that belongs to them.
        let rest = self.documents.rest();
        let blank = rest.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        self.bytes.piece = Bytes::copy_from_slice(&rest[blank..]);
        self.bytes
    }
}

impl JsonStream<barque_api::progress::JsonMessage> {
    /// Reads to the end and drops everything but an error.
    ///
    /// # Errors
    /// As [`JsonStream::next`], and an error document in the stream.
    pub async fn finish(mut self) -> Result<()> {
        while let Some(message) = self.next().await? {
            if let Some(text) = message.error_message() {
                return Err(Error::stream(text));
            }
        }
        Ok(())
    }
}
