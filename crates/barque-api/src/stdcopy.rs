//! The multiplexed stream of attach, exec and logs without a terminal.
//!
//! A frame is 8 bytes of header, `[stream, 0, 0, 0, length as big-endian u32]`, and `length` bytes.

use bytes::{Buf, Bytes, BytesMut};

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    /// An error of the daemon itself; the stream ends after it.
    SystemError = 3,
}

/// Length of a frame's header in bytes.
pub const HEADER: usize = 8;

/// Media type of a raw stream, with a terminal.
pub const RAW: &str = "application/vnd.docker.raw-stream";

/// Media type of a multiplexed stream (1.42).
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// The header of a frame with `len` bytes of content.
pub fn header(stream: Stream, len: u32) -> [u8; HEADER] {
    let [a, b, c, d] = len.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Appends one frame to `out`.
pub fn encode(stream: Stream, content: &[u8], out: &mut Vec<u8>) {
    for part in content.chunks(u32::MAX as usize) {
        out.extend_from_slice(&header(stream, part.len() as u32));
        out.extend_from_slice(part);
    }
}

/// The stream is not multiplexed, or broken: the header is kept for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHeader(pub [u8; HEADER]);

impl std::fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unrecognized stream header: {:02x?}", self.0)
    }
}

impl std::error::Error for InvalidHeader {}

/// Splits a multiplexed stream without waiting for whole frames: content is passed on as it arrives.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    current: Option<(Stream, usize)>,
}

impl Decoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next piece of content; `None` if more must be read.
    ///
    /// # Errors
    /// The header's stream number is unknown.
    pub fn next_piece(&mut self) -> Result<Option<(Stream, Bytes)>, InvalidHeader> {
        loop {
            match self.current {
                Some((_, 0)) => self.current = None,
                Some((stream, left)) if !self.buffer.is_empty() => {
                    let take = left.min(self.buffer.len());
                    self.current = Some((stream, left - take));
                    return Ok(Some((stream, self.buffer.split_to(take).freeze())));
                }
                Some(_) => return Ok(None),
                None => {
                    let Some(head) = self.buffer.first_chunk::<HEADER>().copied() else { return Ok(None) };
                    let stream = match head[0] {
                        0 => Stream::Stdin,
                        1 => Stream::Stdout,
                        2 => Stream::Stderr,
                        3 => Stream::SystemError,
                        _ => return Err(InvalidHeader(head)),
                    };
                    let [.., a, b, c, d] = head;
                    self.buffer.advance(HEADER);
                    self.current = Some((stream, u32::from_be_bytes([a, b, c, d]) as usize));
                }
            }
        }
    }

    /// True if the stream may end here: no header or frame is half read.
    pub fn is_at_boundary(&self) -> bool {
        self.buffer.is_empty() && self.current.is_none_or(|(_, left)| left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_gives_the_same_content() {
        let mut wire = Vec::new();
        encode(Stream::Stdout, b"hello ", &mut wire);
        encode(Stream::Stderr, b"oops", &mut wire);
        encode(Stream::Stdout, b"", &mut wire);
        encode(Stream::Stdout, b"world", &mut wire);
        for step in 1..wire.len() {
            let mut decoder = Decoder::new();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for part in wire.chunks(step) {
                decoder.push(part);
                while let Some((stream, bytes)) = decoder.next_piece().unwrap() {
                    if stream == Stream::Stderr { &mut err } else { &mut out }.extend_from_slice(&bytes);
                }
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"hello world"[..], &b"oops"[..]), "step {step}");
            assert!(decoder.is_at_boundary());
        }
    }

    #[test]
    fn text_is_not_a_stream() {
        let mut decoder = Decoder::new();
        decoder.push(b"plain text");
        assert!(decoder.next_piece().is_err());
    }

    #[test]
    fn half_a_frame_is_noticed() {
        let mut decoder = Decoder::new();
        decoder.push(&header(Stream::Stdout, 4));
        decoder.push(b"ab");
        assert_eq!(decoder.next_piece().unwrap().unwrap().1, &b"ab"[..]);
        assert_eq!(decoder.next_piece(), Ok(None));
        assert!(!decoder.is_at_boundary());
    }
}
