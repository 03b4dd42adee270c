//! Detach keys: the sequence that ends an attachment and leaves the process running.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use barque_model::{Error, Result};
use tokio::io::{AsyncRead, ReadBuf};

/// `ctrl-p,ctrl-q`.
const DEFAULT: &[u8] = &[16, 17];

/// Parses `ctrl-p,ctrl-q` or `a,b`; empty is the default.
///
/// # Errors
/// An unknown word.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    let invalid = || Error::invalid(format!("Invalid detach keys ({text}) provided"));
    text.split(',')
        .map(|word| {
            let mut letters = word.chars();
            match (letters.next(), letters.next()) {
                (Some(letter), None) if letter.is_ascii() => return Ok(letter as u8),
                _ => {}
            }
            let code = match word.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => letter - b'a' + 1,
                Some(b"@") => 0,
                Some(b"[") => 27,
                Some(b"\\") => 28,
                Some(b"]") => 29,
                Some(b"^") => 30,
                Some(b"_") => 31,
                _ => return Err(invalid()),
            };
            Ok(code)
        })
        .collect()
}

/// Passes input on until the sequence was typed; then it ends. A part of the sequence is held back until it is
/// clear that it is none.
pub(crate) struct DetachReader<R> {
    inner: R,
    keys: Vec<u8>,
    /// How much of the sequence was typed.
    matched: usize,
    /// Bytes to be passed on before more is read.
    pending: Vec<u8>,
    detached: bool,
}

impl<R> DetachReader<R> {
    pub(crate) fn new(inner: R, keys: Vec<u8>) -> Self {
        DetachReader { inner, keys, matched: 0, pending: Vec::new(), detached: false }
    }

    /// True if the sequence was typed.
    pub(crate) fn is_detached(&self) -> bool {
        self.detached
    }

    fn take_in(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.detached = true;
                    return;
                }
                continue;
            }
            self.pending.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if self.keys.first() == Some(&byte) {
                self.matched = 1;
            } else {
                self.pending.push(byte);
            }
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for DetachReader<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.pending.is_empty() {
                let count = self.pending.len().min(buf.remaining());
                buf.put_slice(&self.pending[..count]);
                self.pending.drain(..count);
                return Poll::Ready(Ok(()));
            }
            if self.detached {
                return Poll::Ready(Ok(()));
            }
            let mut space = [0u8; 4096];
            let mut target = ReadBuf::new(&mut space);
            match Pin::new(&mut self.inner).poll_read(cx, &mut target) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let count = target.filled().len();
            if count == 0 {
                // The end of input: what was held back was no sequence.
                let held: Vec<u8> = self.keys[..self.matched].to_vec();
                self.matched = 0;
                if held.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                self.pending = held;
                continue;
            }
            self.take_in(&space[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(keys: &str, parts: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut chain: Box<dyn AsyncRead + Unpin> = Box::new(tokio::io::empty());
        for part in parts.iter().rev() {
            chain = Box::new(io::Cursor::new(part.to_vec()).chain(chain));
        }
        let mut reader = DetachReader::new(chain, parse(keys).unwrap());
        let mut out = Vec::new();
        reader.read_to_end(&mut out).await.unwrap();
        (out, reader.is_detached())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_sequence_ends_the_input() {
        assert_eq!(read("", &[b"ab\x10\x11cd"]).await, (b"ab".to_vec(), true));
        assert_eq!(read("", &[b"a\x10", b"\x11", b"z"]).await, (b"a".to_vec(), true));
        assert_eq!(read("a,b", &[b"xaab"]).await, (b"xa".to_vec(), true));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn parts_of_it_are_passed_on() {
        assert_eq!(read("", &[b"\x10x\x10", b"y"]).await, (b"\x10x\x10y".to_vec(), false));
        assert_eq!(read("", &[b"end\x10"]).await, (b"end\x10".to_vec(), false));
    }

    #[test]
    fn words() {
        assert_eq!(parse("ctrl-a,x,ctrl-@,ctrl-_").unwrap(), [1, b'x', 0, 31]);
        for bad in ["ctrl-A", "foo", "ctrl-", "a,,b"] {
            let error = parse(bad).unwrap_err().to_string();
            assert_eq!(error, format!("Invalid detach keys ({bad}) provided"));
        }
    }
}
