//! The head of an HTTP/1.1 reply, parsed by hand for hijacked connections.
//!
//! A hijacked connection is raw in both directions right after the head, whether the status is 101 or 200: an
//! HTTP library would take the latter for a body and close the writing side.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::{Error, Result};

/// The longest head that is read, bytes.
const MAX_HEAD: usize = 64 << 10;
/// The longest error document that is read, bytes.
const MAX_ERROR: usize = 1 << 20;

/// Status and headers; names in lower case.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// Reads up to the blank line; returns the head and what was read after it.
pub(crate) async fn read_head<R: AsyncRead + Unpin>(reader: &mut R) -> Result<(Head, Bytes)> {
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = parse(&buffer[..end]).ok_or_else(|| Error::transport("the server's reply is not HTTP"))?;
            return Ok((head, buffer.split_off(end + 4).freeze()));
        }
        if buffer.len() > MAX_HEAD {
            return Err(Error::transport("the head of the server's reply is too long"));
        }
        let count = reader
            .read_buf(&mut buffer)
            .await
            .map_err(|why| Error::transport("the connection to the daemon broke").with_source(why))?;
        if count == 0 {
            return Err(Error::transport("the daemon closed the connection before it answered"));
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.splitn(3, ' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let status = words.next()?.parse().ok().filter(|status| (100..600).contains(status))?;
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    Some(Head { status, headers: lines.map(pair).collect::<Option<_>>()? })
}

/// Reads the body of an error reply, of known length, chunked, or up to the end.
pub(crate) async fn read_error<R: AsyncRead + Unpin>(reader: &mut R, head: &Head, rest: Bytes) -> Vec<u8> {
    let length = head.header("content-length").and_then(|text| text.parse::<usize>().ok());
    let chunked = head.header("transfer-encoding").is_some_and(|text| text.eq_ignore_ascii_case("chunked"));
    let mut body = BytesMut::from(&rest[..]);
    let complete = |body: &[u8]| match length {
        Some(length) => body.len() >= length.min(MAX_ERROR),
        None if chunked => body.ends_with(b"0\r\n\r\n"),
        None => false,
    };
    while !complete(&body) && body.len() < MAX_ERROR {
        match reader.read_buf(&mut body).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    if let Some(length) = length {
        body.truncate(length);
    }
    if chunked { unchunk(&body) } else { body.to_vec() }
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&body[..end])
            .ok()
            .and_then(|text| usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let start = end + 2;
        let stop = body.len().min(start.saturating_add(size));
        out.extend_from_slice(&body[start..stop]);
        body = body.get(stop + 2..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn head_and_what_follows() {
        let wire = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: x/y\r\nUpgrade: tcp\r\n\r\nraw";
        let (head, rest) = read_head(&mut &wire[..]).await.unwrap();
        assert_eq!((head.status, head.header("content-type"), &rest[..]), (101, Some("x/y"), &b"raw"[..]));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn broken_heads() {
        for wire in [&b"SSH-2.0\r\n\r\n"[..], b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b""] {
            assert!(read_head(&mut &wire[..]).await.is_err());
        }
    }

    #[test]
    fn chunks() {
        assert_eq!(unchunk(b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n"), b"hello!");
        assert_eq!(unchunk(b"ff\r\nshort"), b"short");
        assert_eq!(unchunk(b"zz\r\n"), b"");
    }
}
