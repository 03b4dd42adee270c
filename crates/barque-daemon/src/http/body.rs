//! Bodies of replies, and bodies of requests as readers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, ReadBuf};

/// What a reply sends.
pub(crate) enum Body {
    Bytes(Option<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
    Reader { reader: Pin<Box<dyn AsyncRead + Send>>, buffer: BytesMut },
}

/// Bytes read from a reader at once.
const CHUNK: usize = 64 << 10;

impl Body {
    pub(crate) fn empty() -> Body {
        Body::Bytes(None)
    }

    pub(crate) fn reader(reader: Pin<Box<dyn AsyncRead + Send>>) -> Body {
        Body::Reader { reader, buffer: BytesMut::new() }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Body::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Stream(stream) => stream.as_mut().poll_next(cx).map(|item| item.map(|item| item.map(Frame::data))),
            Body::Reader { reader, buffer } => {
                buffer.resize(CHUNK, 0);
                let mut target = ReadBuf::new(buffer);
                ready!(reader.as_mut().poll_read(cx, &mut target))?;
                match target.filled().len() {
                    0 => Poll::Ready(None),
                    count => Poll::Ready(Some(Ok(Frame::data(buffer.split_to(count).freeze())))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Bytes(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            _ => SizeHint::default(),
        }
    }
}

/// Bytes and time for which an unread body is read on, so that a client that still writes gets to read the
/// reply instead of an error of its connection.
const DRAIN: usize = 1 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// A request's body as a reader. What is not read is drained when it is dropped, up to a limit.
pub(crate) struct BodyReader {
    body: Option<Incoming>,
    piece: Bytes,
}

impl BodyReader {
    pub(crate) fn new(body: Incoming) -> Self {
        BodyReader { body: Some(body), piece: Bytes::new() }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // Outside of a runtime there is no connection left either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(body)));
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut left = DRAIN;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        left = match left.checked_sub(length) {
            Some(left) => left,
            None => return,
        };
    }
}

impl AsyncRead for BodyReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.piece = data;
                    }
                }
                Some(Err(why)) => return Poll::Ready(Err(io::Error::other(why))),
                None => {
                    self.body = None;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let count = self.piece.len().min(buf.remaining());
        buf.put_slice(&self.piece[..count]);
        self.piece.advance(count);
        Poll::Ready(Ok(()))
    }
}
