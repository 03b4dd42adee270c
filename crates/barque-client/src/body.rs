//! Bodies of requests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// What a request sends: nothing, bytes, or a reader that is sent in chunks as it yields.
pub struct Upload(Kind);

enum Kind {
    Empty,
    Bytes(Option<Bytes>),
    Pieces(mpsc::Receiver<Bytes>),
    Reader { reader: Pin<Box<dyn AsyncRead + Send>>, buffer: BytesMut },
}

/// Bytes read from an uploaded file at once.
const CHUNK: usize = 64 << 10;

impl Upload {
    pub fn empty() -> Self {
        Upload(Kind::Empty)
    }

    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Upload(Kind::Bytes(Some(bytes.into())))
    }

    pub fn reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Upload(Kind::Reader { reader: Box::pin(reader), buffer: BytesMut::new() })
    }

    /// What comes in by a channel, until its sender is gone.
    pub fn pieces(pieces: mpsc::Receiver<Bytes>) -> Self {
        Upload(Kind::Pieces(pieces))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Kind::Empty => "Upload::empty",
            Kind::Bytes(_) => "Upload::bytes",
            Kind::Pieces(_) => "Upload::pieces",
            Kind::Reader { .. } => "Upload::reader",
        })
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Pieces(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Reader { reader, buffer } => {
                buffer.resize(CHUNK, 0);
                let mut target = ReadBuf::new(buffer);
                let result = ready!(reader.as_mut().poll_read(cx, &mut target));
                let count = target.filled().len();
                match result {
                    Err(why) => Poll::Ready(Some(Err(why))),
                    Ok(()) if count == 0 => Poll::Ready(None),
                    Ok(()) => Poll::Ready(Some(Ok(Frame::data(buffer.split_to(count).freeze())))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Empty | Kind::Bytes(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty | Kind::Bytes(None) => SizeHint::with_exact(0),
            Kind::Bytes(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Pieces(_) | Kind::Reader { .. } => SizeHint::default(),
        }
    }
}
