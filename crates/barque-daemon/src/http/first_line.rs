//! The query of a request may hold JSON as it is: `?filters={"status":["running"]}`.
//!
//! Go's servers take it, and so the tutorials write it (`curl -g`). A URI may not hold quotes and angle brackets (RFC
//! 3986, section 2), and what parses requests here is strict: so they are escaped on the way there, in the first line of
//! a connection and of those that follow a request without a body (RFC 9112, section 6.3). What comes behind a request
//! that may have one, or that asks for an upgrade, goes through as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a head that are looked through for its end.
const LONGEST: usize = 256 << 10;
const PIECE: usize = 4 << 10;

/// Headers after which not every byte is a head's.
const BODIES: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"upgrade"];

/// A connection whose requests' first lines are escaped.
pub(crate) struct FirstLine<S> {
    inner: S,
    /// `None` for bytes that are no head's.
    head: Option<Head>,
    /// Read and not yet handed on.
    waiting: io::Cursor<Vec<u8>>,
}

/// Where in the head of a request the stream is.
#[derive(Default)]
struct Head {
    /// Behind the first line.
    headers: bool,
    /// Bytes since its beginning.
    length: usize,
    /// The beginning of this line, long enough to know a header by.
    line: Vec<u8>,
    body: bool,
}

impl Head {
    /// Whether the head goes on; a next one after a request without a body.
    fn line_ended(mut self) -> Option<Head> {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let is = |name: &&[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let (empty, body) = (line.is_empty(), BODIES.iter().any(is));
        match (self.headers, empty) {
            (true, true) if self.body => return None,
            (_, true) => return Some(Head::default()),
            (true, false) => self.body |= body,
            (false, false) => self.headers = true,
        }
        self.line.clear();
        Some(self)
    }
}

impl<S> FirstLine<S> {
    pub(crate) fn new(inner: S) -> FirstLine<S> {
        FirstLine { inner, head: Some(Head::default()), waiting: io::Cursor::default() }
    }

    /// The connection, and what was read of it and not handed on.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        let at = usize::try_from(self.waiting.position()).unwrap_or(usize::MAX);
        let mut waiting = self.waiting.into_inner();
        waiting.drain(..at.min(waiting.len()));
        (self.inner, waiting)
    }

    fn take(&mut self, piece: &[u8]) {
        let waiting = self.waiting.get_mut();
        for &byte in piece {
            let Some(mut head) = self.head.take().filter(|head| head.length < LONGEST) else {
                waiting.push(byte);
                continue;
            };
            head.length += 1;
            match byte {
                b'"' | b'<' | b'>' if !head.headers => waiting.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                _ => waiting.push(byte),
            }
            if head.line.len() < 32 {
                head.line.push(byte);
            }
            self.head = if byte == b'\n' {
                if head.line.last() == Some(&b'\n') {
                    head.line.pop();
                }
                head.line_ended()
            } else {
                Some(head)
            };
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstLine<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.waiting.get_ref().len() as u64 - this.waiting.position();
        if left == 0 {
            if this.head.is_none() {
                return Pin::new(&mut this.inner).poll_read(cx, buf);
            }
            let mut space = [0; PIECE];
            let mut piece = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut piece))?;
            this.waiting = io::Cursor::default();
            this.take(piece.filled());
        }
        Pin::new(&mut this.waiting).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstLine<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn through(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut stream = FirstLine::new(far);
        let mut all = Vec::new();
        for piece in pieces {
            near.write_all(piece).await.unwrap();
            let mut some = vec![0; 16];
            let count = stream.read(&mut some).await.unwrap();
            all.extend_from_slice(&some[..count]);
        }
        drop(near);
        // What was read too early is still there.
        let (mut inner, waiting) = stream.into_parts();
        all.extend(waiting);
        inner.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn only_first_lines_are_escaped() {
        let rest =
            b"\r\nA: \"b\"\r\nContent-length: 31\r\n\r\n{\"body\":\"<x>\"}\nGET /\"next\" HTTP/1.1\r\n\r\n".as_slice();
        let line = b"GET /c?filters={\"a\":[\"<b>\"]} HTTP/1.1".as_slice();
        let escaped = b"GET /c?filters={%22a%22:[%22%3Cb%3E%22]} HTTP/1.1".as_slice();
        assert_eq!(through(&[&[line, rest].concat()]).await, [escaped, rest].concat());
        let next = b"\r\nA: \"b\"\r\n\r\n".as_slice();
        let two = [line, next, line, rest].concat();
        assert_eq!(through(&[&two]).await, [escaped, next, escaped, rest].concat());
        let upgrade = b"\nUPGRADE: tcp\n\n\"raw\"\nGET /\"\n".as_slice();
        assert_eq!(through(&[&[line, upgrade].concat()]).await, [escaped, upgrade].concat());
        let plain = [b"POST /x HTTP/1.1".as_slice(), rest].concat();
        assert_eq!(through(&[&plain]).await, plain);
    }

    #[tokio::test]
    async fn lines_come_in_pieces_and_may_have_no_end() {
        let (a, b) = (b"GET /?\"".as_slice(), b"\" HTTP/1.1\r\n\"".as_slice());
        assert_eq!(through(&[a, b]).await, b"GET /?%22%22 HTTP/1.1\r\n\"");
        let endless = vec![b'x'; LONGEST + PIECE];
        let told = through(&[&endless, b"\""]).await;
        assert_eq!(told.len(), endless.len() + 1, "no more is looked through than that");
    }
}
